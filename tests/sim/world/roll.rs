//! Holders of a network's roll that lie.
//!
//! In:    which nodes, and what they tell.
//! Out:   answers to FIND_VALUE in which that stands instead of what they have.
//! Holds: a liar is a production node in all else; only whole answers about a roll are changed, and nothing that it hides.

use dunlin_codec::args::{Ack, Found, Roll};
use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::ChannelId;
use dunlin_codec::message::{DIRECT_CHANNEL, Direct, DirectMessages, Operation};
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::transmission::{Compression, Transmission};
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::mail::{self, Mail};
use dunlin_shards::neighbours::Letter;
use dunlin_shards::session::crypto::Crypto;

use super::{NodeIndex, WorldOf};

/// Bytes of an answer at most.
const ANSWER_LEN_MAX: usize = 16 << 10;

impl<C: Crypto> WorldOf<C> {
    /// From now on the node tells these records as its network's roll, sixteen at most, whatever it has.
    pub fn have_lie_about_roll(&mut self, node: NodeIndex, records: Vec<Vec<u8>>) {
        self.nodes[node.0].false_roll = Some(records);
    }

    /// A liar's letters leave, changed where need be.
    pub(super) fn post_lies(&mut self, node: NodeIndex, shard: u8) {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let Some(records) = &owner.false_roll else { return };
        let Some(core) = owner.cores.get_mut(usize::from(shard)) else { return };
        let Some(neighbours) = &mut core.neighbours else { return };
        while let Some(letter) = neighbours.poll_letter() {
            let mail = match letter {
                Letter::Mail(mail) => mail,
                Letter::Send { session, channel, bytes } => {
                    let bytes = if channel == DIRECT_CHANNEL { changed(&bytes, records) } else { bytes };
                    let mut block = core.shard.take_block(bytes.len()).expect("a small world has memory");
                    block.fill_from(&bytes);
                    Mail::Send { session, message: outgoing(channel, block) }
                }
            };
            core.shard.handle_mail(now, mail::From::Application, mail);
        }
    }
}

fn outgoing(channel: ChannelId, block: dunlin_shards::blocks::Block) -> Outgoing {
    Outgoing {
        ticket: 0,
        block,
        channel,
        ordered: true,
        reliable: true,
        priority: 128,
        once: true,
        idempotent: false,
    }
}

/// The transmission with the lie in it.
fn changed(bytes: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let Ok(Transmission { compression: Compression::None, body }) = Transmission::parse(bytes) else {
        return bytes.to_vec();
    };
    let mut changed = Vec::new();
    for message in DirectMessages::new(body) {
        let message = message.expect("an honest node wrote it");
        let payload = lie(&message, records).unwrap_or_else(|| message.payload.to_vec());
        let message = Direct { payload: &payload, ..message };
        changed.extend(written(message.encoded_len(), |out| message.write(out)));
    }
    let transmission = Transmission { compression: Compression::None, body: &changed };
    written(bytes.len() + ANSWER_LEN_MAX, |out| transmission.write(out))
}

/// What stands in the place of an answer about the roll.
fn lie(message: &Direct<'_>, records: &[Vec<u8>]) -> Option<Vec<u8>> {
    if message.operation != Operation::Ack {
        return None;
    }
    let Ok(Ack::Value(found)) = Ack::parse(message.payload) else { return None };
    Roll::parse(found.value).ok()?;
    let records: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
    let roll = written(ANSWER_LEN_MAX, |out| Roll::write_new(out, &records));
    let value = Encoded::parse(&roll).expect("a roll is a value");
    Some(written(ANSWER_LEN_MAX, |out| Ack::Value(Found { value, ..found }).write(out)))
}

fn written(
    len_max: usize,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), dunlin_codec::error::NoRoom>,
) -> Vec<u8> {
    let mut room = vec![0; len_max];
    let mut out = Writer::new(&mut room);
    write(&mut out).expect("a lie is short");
    out.written().to_vec()
}
