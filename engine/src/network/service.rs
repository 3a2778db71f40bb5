//! CUSTOM for embedders: questions and answers of their own types, under a name.
//!
//! On the wire: CUSTOM [name, question], answered by ACK [CUSTOM, answer] or NACK [CUSTOM, words].

use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::PAYLOAD_LEN_MAX;
use dunlin_codec::msgpack::{Encoded, write};

use super::event::{NetworkEvent, Question};

/// A type that travels as one msgpack value.
pub trait Packed: Sized {
    /// Writes it as one value.
    ///
    /// # Errors
    /// [`NoRoom`]: it is asked again with more room.
    fn pack(&self, out: &mut Writer<'_>) -> Result<(), NoRoom>;

    /// Reads it; none: this is none.
    fn unpack(value: Encoded<'_>) -> Option<Self>;
}

/// Something that a node does for others.
pub trait Service: Send + 'static {
    /// What it is called in the network.
    const NAME: &'static str;
    /// What it is asked.
    type Question: Packed;
    /// What it answers.
    type Answer: Packed;

    /// Answers. It runs on the thread of the chain: whoever takes long lets others wait.
    ///
    /// # Errors
    /// Words for whoever asked, in a NACK.
    fn answer(&mut self, from: NodeId, question: Self::Question) -> Result<Self::Answer, String>;
}

impl Packed for () {
    fn pack(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        write::nil(out)
    }

    fn unpack(value: Encoded<'_>) -> Option<Self> {
        value.is_nil().then_some(())
    }
}

impl Packed for bool {
    fn pack(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        write::bool(out, *self)
    }

    fn unpack(value: Encoded<'_>) -> Option<Self> {
        value.as_bool()
    }
}

impl Packed for u64 {
    fn pack(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        write::unsigned(out, *self)
    }

    fn unpack(value: Encoded<'_>) -> Option<Self> {
        value.as_unsigned()
    }
}

impl Packed for String {
    fn pack(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        write::str(out, self)
    }

    fn unpack(value: Encoded<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

/// Bytes, as a bin.
impl Packed for Vec<u8> {
    fn pack(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        write::bin(out, self)
    }

    fn unpack(value: Encoded<'_>) -> Option<Self> {
        value.as_bin().map(<[u8]>::to_vec)
    }
}

/// The bytes of what `write` writes; none when they are too many for a message.
pub(super) fn packed(write: impl Fn(&mut Writer<'_>) -> Result<(), NoRoom>) -> Option<Vec<u8>> {
    let mut room = vec![0; 256];
    loop {
        let mut out = Writer::new(&mut room);
        if write(&mut out).is_ok() {
            let len = out.len();
            room.truncate(len);
            return Some(room);
        }
        if room.len() > PAYLOAD_LEN_MAX {
            return None;
        }
        let len = 2 * room.len();
        room.resize(len, 0);
    }
}

/// A question under a name.
pub(super) fn named(name: &str, question: &impl Packed) -> Option<Vec<u8>> {
    packed(|out| {
        write::array(out, 2)?;
        write::str(out, name)?;
        question.pack(out)
    })
}

/// Answers what is for this service, gives back what is not.
pub(super) fn offer<S: Service>(service: &mut S, event: NetworkEvent) -> Option<NetworkEvent> {
    let NetworkEvent::Asked(question) = event else { return Some(event) };
    if let Some(asked) = question_for::<S>(&question) {
        let answer = match asked {
            Some(asked) => service.answer(question.from(), asked),
            None => Err(format!("{} is asked otherwise", S::NAME)),
        };
        reply(question, answer);
        return None;
    }
    Some(NetworkEvent::Asked(question))
}

/// None: it is for another; Some(None): it is for this one, and none of its questions.
fn question_for<S: Service>(question: &Question) -> Option<Option<S::Question>> {
    let value = Encoded::parse(question.value()).ok()?;
    let [name, asked] = value.as_array()?.exactly()?;
    (name.as_str()? == S::NAME).then(|| S::Question::unpack(asked))
}

fn reply(question: Question, answer: Result<impl Packed, String>) {
    let (is_ack, value) = match answer {
        Ok(answer) => (true, packed(|out| answer.pack(out))),
        Err(words) => (false, packed(|out| write::str(out, &words))),
    };
    match value {
        Some(value) if is_ack => question.reply(&value),
        value => question.refuse(value.as_deref().unwrap_or(Encoded::NIL.bytes())),
    }
}
