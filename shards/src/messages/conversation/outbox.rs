//! What is said to one peer and not yet sent: messages that are ready together share a transmission.
//!
//! In:    messages, one after the other.
//! Out:   whole transmissions, compressed where the peer reads it, where it pays and where it is safe.
//! Holds: messages keep their order; nothing waits for company; at most [`OUTBOX_LEN_MAX`] bytes.
//!
//! Words of different principals are never compressed together (T15): the length would tell whoever watches and may
//! write some of them about the others. A body remembers how many spoke in it.
//!
//! spec: p2p/batching

use std::collections::VecDeque;

use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::ChannelId;
use dunlin_codec::message::{Carried, DIRECT_CHANNEL, Direct, HEAD_LEN_MAX, SIGNED_CHANNEL};
use dunlin_codec::transmission::{self, Compression};

use super::terms::Methods;
use crate::limits::{MESSAGE_LEN_MAX, OUTBOX_LEN_MAX};
use crate::messages::compression;

/// Bytes of messages in one transmission at most: with its header it is one message of its channel.
pub(super) const BODY_LEN_MAX: usize = MESSAGE_LEN_MAX - transmission::HEADER_LEN;

/// Whose words a message carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Words {
    /// Ours, or our application's.
    Own,
    /// Somebody else's: a value, a message on its way.
    Other,
    /// Several others': node records.
    Others,
}

/// Messages that travel together.
#[derive(Debug)]
struct Body {
    channel: ChannelId,
    /// Room for the transmission's header, then messages.
    bytes: Vec<u8>,
    has_own: bool,
    others: u32,
}

impl Body {
    fn note(&mut self, words: Words) {
        match words {
            Words::Own => self.has_own = true,
            Words::Other => self.others += 1,
            Words::Others => self.others += 2,
        }
    }

    fn is_of_one(&self) -> bool {
        self.others + u32::from(self.has_own) <= 1
    }
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bodies: VecDeque<Body>,
    len: usize,
    /// Memory of a transmission that left, for the next.
    spare: Vec<u8>,
}

/// No room: the peer asks faster than its answers leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

impl Outbox {
    /// Says something directly.
    pub(super) fn push_direct(&mut self, message: &Direct<'_>, words: Words) -> Result<(), Full> {
        let body = self.body_for(DIRECT_CHANNEL, message.encoded_len(), words)?;
        let mut head = [0; HEAD_LEN_MAX];
        let mut out = Writer::new(&mut head);
        message.write_head(&mut out).expect("the room is as long as a head can be");
        body.bytes.extend_from_slice(out.written());
        body.bytes.extend_from_slice(message.payload);
        Ok(())
    }

    /// Carries a signed message on.
    pub(super) fn push_carried(&mut self, message: &Carried<'_>) -> Result<(), Full> {
        let len = 1 + message.message.bytes().len();
        let body = self.body_for(SIGNED_CHANNEL, len, Words::Other)?;
        let start = body.bytes.len();
        body.bytes.resize(start + len, 0);
        let is_written = message.write(&mut Writer::new(&mut body.bytes[start..])).is_ok();
        assert!(is_written, "the room is as long as the message");
        Ok(())
    }

    /// Where a message of so many bytes goes.
    fn body_for(&mut self, channel: ChannelId, len: usize, words: Words) -> Result<&mut Body, Full> {
        if len > BODY_LEN_MAX || self.len + len > OUTBOX_LEN_MAX {
            return Err(Full);
        }
        let joins = |body: &Body| body.channel == channel && body.bytes.len() + len <= MESSAGE_LEN_MAX;
        if !self.bodies.back().is_some_and(joins) {
            let mut bytes = core::mem::take(&mut self.spare);
            bytes.clear();
            bytes.resize(transmission::HEADER_LEN, 0);
            self.bodies.push_back(Body { channel, bytes, has_own: false, others: 0 });
        }
        let body = self.bodies.back_mut().expect("it is there, or was just put there");
        body.note(words);
        self.len += len;
        Ok(body)
    }

    /// Puts the next transmission into `out`, and says on which channel it goes.
    pub(super) fn poll_transmission(
        &mut self,
        (reads, prefers): (Methods, Option<Compression>),
        out: &mut Vec<u8>,
    ) -> Option<ChannelId> {
        let mut body = self.bodies.pop_front()?;
        let is_of_one = body.is_of_one();
        let (header, messages) =
            body.bytes.split_first_chunk_mut().expect("a body begins with room for its header");
        self.len -= messages.len();
        out.clear();
        let method = method_for(reads, prefers).filter(|_| is_of_one);
        if let Some(method) = method
            && compression::compress(method, messages, out)
        {
            let len = u32::try_from(out.len()).expect("a body is far shorter than 4 GiB");
            out.splice(..0, transmission::header(method, len));
            self.spare = body.bytes;
            return Some(body.channel);
        }
        let len = u32::try_from(messages.len()).expect("a body is far shorter than 4 GiB");
        *header = transmission::header(Compression::None, len);
        self.spare = core::mem::replace(out, body.bytes);
        Some(body.channel)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    pub(super) fn shrink(&mut self) {
        self.bodies.shrink_to_fit();
        self.spare = Vec::new();
    }
}

/// What the peer would rather read, or the cheapest that it can.
fn method_for(reads: Methods, prefers: Option<Compression>) -> Option<Compression> {
    const CHEAPEST: [Compression; 5] =
        [Compression::Snappy, Compression::Zlib, Compression::Gzip, Compression::Lzma, Compression::Bz2];
    match prefers {
        Some(Compression::None) => None,
        Some(method) => Some(method),
        None => CHEAPEST.into_iter().find(|method| reads.contains(*method)),
    }
}

#[cfg(test)]
mod tests {
    use dunlin_codec::message::Operation;
    use dunlin_codec::transmission::Transmission;

    use super::*;

    fn message(payload: &[u8]) -> Direct<'_> {
        Direct { operation: Operation::Custom, is_sealed: false, request: 1, payload }
    }

    fn sent(words: &[Words], reads: Methods) -> Vec<Compression> {
        let mut outbox = Outbox::default();
        for words in words {
            outbox.push_direct(&message(&[7; 400]), *words).unwrap();
        }
        let mut out = Vec::new();
        let mut methods = Vec::new();
        while outbox.poll_transmission((reads, None), &mut out).is_some() {
            methods.push(Transmission::parse(&out).unwrap().compression);
        }
        assert_eq!((outbox.len, outbox.is_empty()), (0, true));
        methods
    }

    /// spec: p2p/batching
    #[test]
    fn words_of_different_principals_are_not_compressed_together() {
        let zlib = Methods::NONE.with(Compression::Zlib);
        assert_eq!(sent(&[Words::Own, Words::Own], zlib), [Compression::Zlib]);
        assert_eq!(sent(&[Words::Other], zlib), [Compression::Zlib]);
        assert_eq!(sent(&[Words::Own, Words::Other], zlib), [Compression::None]);
        assert_eq!(sent(&[Words::Other, Words::Other], zlib), [Compression::None]);
        assert_eq!(sent(&[Words::Others], zlib), [Compression::None]);
        assert_eq!(sent(&[Words::Own], Methods::NONE), [Compression::None], "not offered");
    }

    /// spec: p2p/batching
    #[test]
    fn a_transmission_ends_where_the_next_message_has_no_room() {
        let mut outbox = Outbox::default();
        let large = vec![1; BODY_LEN_MAX / 2];
        for _ in 0..3 {
            outbox.push_direct(&message(&large), Words::Own).unwrap();
        }
        assert_eq!(outbox.push_direct(&message(&large), Words::Own), Err(Full), "{}", outbox.len);
        let mut out = Vec::new();
        let mut count = 0;
        while outbox.poll_transmission((Methods::NONE, None), &mut out).is_some() {
            assert!(out.len() <= MESSAGE_LEN_MAX);
            count += 1;
        }
        assert_eq!(count, 3, "two of them with their heads are a little too long for one");
    }

    #[test]
    fn the_peers_wish_comes_first() {
        let set = Methods::ALL;
        assert_eq!(method_for(set, None), Some(Compression::Snappy));
        assert_eq!(method_for(set, Some(Compression::Lzma)), Some(Compression::Lzma));
        assert_eq!(method_for(set, Some(Compression::None)), None);
        assert_eq!(method_for(Methods::NONE, None), None);
    }
}
