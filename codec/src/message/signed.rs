//! The signed form, on channel 2: what travels beyond the direct peer, carried on byte for byte.
//!
//! In:    a decompressed transmission; a header and a payload to write; a signature.
//! Out:   [`Carried`], one after the other; bytes; what is signed and what is hashed, in slices.
//! Holds: a message that was given out lies whole within its transmission, and [`Signed::bytes`] are its bytes as they
//!        came. Nobody has verified it.
//!
//! | bytes | field |
//! |---|---|
//! | 64 | signature, Ed25519, over the label, the network and everything behind it |
//! | 4 | length of the payload |
//! | 2 | operation, four bits; flags: 1 the payload is sealed to its recipient, 2 freshness is there; the others are zero |
//! | 32 | from |
//! | 32 | to; all zero for everybody |
//! | 16 | freshness, when its flag says so: time in ms 8, instance 2, count 6 |
//! | … | payload |
//!
//! We put one byte in front of each message of channel 2: how many nodes carried it on so far. No signature covers it, it
//! changes on the way; a WHISPER that went [`HOPS_MAX`] times goes no further. A liar who lowers it wins a longer way for
//! one message, which every node still takes once.
//!
//! spec: p2p/signed

use core::fmt;

use super::{Freshness, Operation, PAYLOAD_LEN_MAX};
use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::ids::NodeId;
use crate::label::{self, MESSAGE_LABEL_LEN, Network};

/// Bytes in front of the payload without freshness.
pub const HEADER_LEN: usize = at::FRESHNESS;
/// Bytes in front of the payload with freshness.
pub const FRESH_HEADER_LEN: usize = at::FRESHNESS + Freshness::LEN;
/// How often a WHISPER is carried on at most.
pub const HOPS_MAX: u8 = 20;
/// Bytes of the prologue of a sealed payload at most.
pub const PROLOGUE_LEN_MAX: usize = label::SEALED_PAYLOAD.len() + 32 + FRESH_HEADER_LEN - at::OPERATION;

/// Where each field starts.
mod at {
    pub(super) const LENGTH: usize = 64;
    pub(super) const OPERATION: usize = LENGTH + 4;
    pub(super) const FROM: usize = OPERATION + 2;
    pub(super) const TO: usize = FROM + 32;
    pub(super) const FRESHNESS: usize = TO + 32;
}

/// The payload is sealed to its recipient.
const SEALED: u16 = 0x0001;
/// Freshness is there.
const FRESH: u16 = 0x0002;
/// Operation and flags that mean something.
const KNOWN: u16 = 0xf000 | SEALED | FRESH;

/// A signed message's id: the first 16 bytes of SHA-256 over [`Signed::id_input`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SignedMessageId(pub [u8; 16]);

/// What a signed message says besides its payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SignedHeader {
    /// What it asks for.
    pub operation: Operation,
    /// The payload is sealed to `to`.
    pub is_sealed: bool,
    /// Who made and signed it.
    pub from: NodeId,
    /// Whom it is for; [`super::EVERYBODY`] for a broadcast.
    pub to: NodeId,
    /// When it was made: mandatory for all that is relayed or stored.
    pub freshness: Option<Freshness>,
}

impl SignedHeader {
    /// Bytes in front of the payload.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        if self.freshness.is_some() { FRESH_HEADER_LEN } else { HEADER_LEN }
    }

    fn operation_and_flags(&self) -> u16 {
        let sealed = if self.is_sealed { SEALED } else { 0 };
        let fresh = if self.freshness.is_some() { FRESH } else { 0 };
        u16::from(self.operation.code()) << 12 | sealed | fresh
    }

    fn write_from_operation(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        out.u16(self.operation_and_flags())?;
        out.put(&self.from.0)?;
        out.put(&self.to.0)?;
        self.freshness.map_or(Ok(()), |freshness| out.put(&freshness.to_bytes()))
    }

    /// Writes the message with zeros for its signature; [`set_signature`] fills them in.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When the payload is above [`PAYLOAD_LEN_MAX`]: no receiver would take it.
    pub fn write(&self, out: &mut Writer<'_>, payload: &[u8]) -> Result<(), NoRoom> {
        assert!(payload.len() <= PAYLOAD_LEN_MAX, "the caller bounds payloads");
        let (needed, left) = (self.encoded_len() + payload.len(), out.room());
        if needed > left {
            return Err(NoRoom { needed, left });
        }
        out.zeros(at::LENGTH)?;
        out.u32(payload.len() as u32)?;
        self.write_from_operation(out)?;
        out.put(payload)
    }

    /// What a sealed payload is bound to: label, network, operation and flags, from, to, freshness. Gives the part of
    /// `room` that it fills.
    ///
    /// # Panics
    /// Never: the room is as large as it can be.
    #[must_use]
    pub fn prologue<'b>(&self, network: &Network, room: &'b mut [u8; PROLOGUE_LEN_MAX]) -> &'b [u8] {
        let mut out = Writer::new(room);
        let written = out
            .put(label::SEALED_PAYLOAD)
            .and_then(|()| out.put(&network.0))
            .and_then(|()| self.write_from_operation(&mut out));
        written.expect("the room is as large as a prologue can be");
        let len = out.len();
        &room[..len]
    }
}

/// What stands in the signature's place while a message is signed or verified: then its bytes are, in one piece, what is
/// signed. The verifier keeps the signature aside and puts it back.
#[must_use]
pub fn label_for_signature(network: &Network) -> [u8; 64] {
    let mut place = [0; 64];
    place[..MESSAGE_LABEL_LEN].copy_from_slice(label::MESSAGE);
    place[MESSAGE_LABEL_LEN..].copy_from_slice(&network.0);
    place
}

/// Puts a signature into a written message.
///
/// # Errors
/// [`WireError::Truncated`]: there is no room for one, so this is no message.
pub fn set_signature(message: &mut [u8], signature: &[u8; 64]) -> Result<(), WireError> {
    *message.first_chunk_mut().ok_or(WireError::Truncated)? = *signature;
    Ok(())
}

/// A signed message, borrowed from its transmission. Nobody has verified it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signed<'a> {
    bytes: &'a [u8],
    header: &'a [u8; HEADER_LEN],
    freshness: Option<&'a [u8; Freshness::LEN]>,
    payload: &'a [u8],
}

fn field<const N: usize>(header: &[u8; HEADER_LEN], start: usize) -> &[u8; N] {
    header[start..].first_chunk().expect("every field lies in the header")
}

impl<'a> Signed<'a> {
    /// Reads the next message.
    ///
    /// # Errors
    /// [`WireError`]: cut short, reserved flags, too long a payload.
    pub fn parse(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let start = reader.clone();
        let header: &[u8; HEADER_LEN] = reader.array()?;
        let flags = u16::from_be_bytes(*field(header, at::OPERATION));
        if flags & !KNOWN != 0 {
            return Err(WireError::Reserved);
        }
        let len = u32::from_be_bytes(*field(header, at::LENGTH)) as usize;
        if len > PAYLOAD_LEN_MAX {
            return Err(WireError::OutOfRange);
        }
        let freshness = if flags & FRESH != 0 { Some(reader.array()?) } else { None };
        let payload = reader.take(len)?;
        let bytes = start.clone().take(start.left() - reader.left())?;
        Ok(Self { bytes, header, freshness, payload })
    }

    /// All its bytes, to be carried on.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &'a [u8; 64] {
        field(self.header, 0)
    }

    /// Who says to have made it.
    #[must_use]
    pub fn from(&self) -> NodeId {
        NodeId(*field(self.header, at::FROM))
    }

    /// Whom it is for.
    #[must_use]
    pub fn to(&self) -> NodeId {
        NodeId(*field(self.header, at::TO))
    }

    /// What it asks for.
    #[must_use]
    pub fn operation(&self) -> Operation {
        Operation::from_code(self.header[at::OPERATION] >> 4)
    }

    /// Whether the payload is sealed to [`Self::to`].
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        u16::from(self.header[at::OPERATION + 1]) & SEALED != 0
    }

    /// When it was made.
    #[must_use]
    pub fn freshness(&self) -> Option<Freshness> {
        self.freshness.map(Freshness::from_bytes)
    }

    /// Arguments in msgpack, or what they became when they were sealed.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// What it says besides its payload.
    #[must_use]
    pub fn header(&self) -> SignedHeader {
        SignedHeader {
            operation: self.operation(),
            is_sealed: self.is_sealed(),
            from: self.from(),
            to: self.to(),
            freshness: self.freshness(),
        }
    }

    /// What is signed, one slice behind the other: label, network, everything behind the signature.
    #[must_use]
    pub fn signing_input<'b>(&'b self, network: &'b Network) -> [&'b [u8]; 3] {
        [label::MESSAGE, &network.0, &self.bytes[at::LENGTH..]]
    }

    /// What is hashed for the message's id: label, network, operation and flags, from, freshness, payload. Never the
    /// signature: whoever signs again must not make a second message.
    #[must_use]
    pub fn id_input<'b>(&'b self, network: &'b Network) -> [&'b [u8]; 5] {
        let front = &self.header[at::OPERATION..at::TO];
        [label::MESSAGE_ID, &network.0, front, self.freshness.map_or(&[], |bytes| bytes), self.payload]
    }
}

impl fmt::Display for Signed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} ", self.operation(), self.from())?;
        if self.to() == super::EVERYBODY {
            f.write_str("to all")?
        } else {
            write!(f, "to {}", self.to())?
        }
        if let Some(freshness) = self.freshness() {
            write!(f, " at {freshness}")?;
        }
        let sealed = if self.is_sealed() { " sealed" } else { "" };
        write!(f, "{sealed} payload {}", self.payload.len())
    }
}

/// A signed message on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Carried<'a> {
    /// How many nodes say to have carried it on.
    pub hops: u8,
    /// The message.
    pub message: Signed<'a>,
}

impl<'a> Carried<'a> {
    /// Reads the next message.
    ///
    /// # Errors
    /// As [`Signed::parse`].
    pub fn parse(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self { hops: reader.u8()?, message: Signed::parse(reader)? })
    }

    /// Writes the message as it came.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        let place = out.reserve(1 + self.message.bytes.len())?;
        place[0] = self.hops;
        place[1..].copy_from_slice(self.message.bytes);
        Ok(())
    }
}

impl fmt::Display for Carried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hops {}", self.message, self.hops)
    }
}

/// The signed messages of a transmission; an error is the last that comes.
#[derive(Clone, Debug)]
pub struct CarriedMessages<'a> {
    reader: Reader<'a>,
}

impl<'a> CarriedMessages<'a> {
    /// Goes over a decompressed transmission of channel 2.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { reader: Reader::new(body) }
    }
}

impl<'a> Iterator for CarriedMessages<'a> {
    type Item = Result<Carried<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let message = Carried::parse(&mut self.reader);
        if message.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NETWORK: Network = Network([7; 32]);

    fn header() -> impl Strategy<Value = SignedHeader> {
        let freshness = (any::<u64>(), any::<u16>(), 0..=Freshness::COUNT_MAX);
        let freshness = prop::option::of(freshness);
        (0_u8..16, any::<bool>(), any::<[u8; 32]>(), any::<[u8; 32]>(), freshness).prop_map(
            |(code, is_sealed, from, to, freshness)| SignedHeader {
                operation: Operation::from_code(code),
                is_sealed,
                from: NodeId(from),
                to: NodeId(to),
                freshness: freshness.map(|(time_ms, instance, count)| Freshness { time_ms, instance, count }),
            },
        )
    }

    fn written(header: &SignedHeader, payload: &[u8]) -> Vec<u8> {
        let mut room = vec![0xa5; header.encoded_len() + payload.len()];
        assert!(header.write(&mut Writer::new(&mut room[1..]), payload).is_err());
        header.write(&mut Writer::new(&mut room), payload).unwrap();
        room
    }

    proptest! {
        /// spec: p2p/signed
        #[test]
        fn messages_come_back(header in header(), payload in prop::collection::vec(any::<u8>(), 0..99), hops: u8) {
            let mut bytes = written(&header, &payload);
            set_signature(&mut bytes, &[9; 64]).unwrap();
            let message = Signed::parse(&mut Reader::new(&bytes)).unwrap();
            prop_assert_eq!((message.header(), message.payload()), (header, &payload[..]));
            prop_assert_eq!((message.bytes(), message.signature()), (&bytes[..], &[9; 64]));
            let mut room = vec![0; 2 * (bytes.len() + 1)];
            let mut out = Writer::new(&mut room);
            let carried = Carried { hops, message };
            carried.write(&mut out).and_then(|()| carried.write(&mut out)).unwrap();
            let read: Result<Vec<_>, _> = CarriedMessages::new(out.written()).collect();
            prop_assert_eq!(read, Ok(vec![carried, carried]));
        }

        /// What is signed lies in one piece once the label stands in the signature's place.
        /// spec: p2p/signed
        #[test]
        fn everything_behind_the_signature_is_signed(header in header(), payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = written(&header, &payload);
            let whole = Signed::parse(&mut Reader::new(&bytes)).unwrap().signing_input(&NETWORK).concat();
            set_signature(&mut bytes, &label_for_signature(&NETWORK)).unwrap();
            prop_assert_eq!(whole, bytes);
        }
    }

    /// The id says nothing of signature and recipient, and hangs on everything else.
    /// spec: p2p/signed
    #[test]
    fn the_id_depends_on_what_it_should() {
        let freshness = Some(Freshness { time_ms: 1, instance: 2, count: 3 });
        let (from, to) = (NodeId([1; 32]), NodeId([2; 32]));
        let header = SignedHeader { operation: Operation::Shout, is_sealed: false, from, to, freshness };
        let id = |header: SignedHeader, payload: &[u8], signature: u8, network: &Network| {
            let mut bytes = written(&header, payload);
            set_signature(&mut bytes, &[signature; 64]).unwrap();
            Signed::parse(&mut Reader::new(&bytes)).unwrap().id_input(network).concat()
        };
        let first = id(header, b"text", 1, &NETWORK);
        assert_eq!(first, id(header, b"text", 2, &NETWORK), "signed again");
        assert_eq!(first, id(SignedHeader { to: from, ..header }, b"text", 1, &NETWORK));
        let other = Some(Freshness { time_ms: 1, instance: 2, count: 4 });
        assert_ne!(first, id(header, b"texu", 1, &NETWORK));
        assert_ne!(first, id(header, b"text", 1, &Network([8; 32])));
        assert_ne!(first, id(SignedHeader { from: to, ..header }, b"text", 1, &NETWORK));
        assert_ne!(first, id(SignedHeader { operation: Operation::Whisper, ..header }, b"text", 1, &NETWORK));
        assert_ne!(first, id(SignedHeader { is_sealed: true, ..header }, b"text", 1, &NETWORK));
        assert_ne!(first, id(SignedHeader { freshness: other, ..header }, b"text", 1, &NETWORK));
    }

    /// spec: p2p/signed
    #[test]
    fn reserved_flags_and_long_payloads_are_refused() {
        let header = SignedHeader {
            operation: Operation::Shout,
            is_sealed: false,
            from: NodeId([1; 32]),
            to: super::super::EVERYBODY,
            freshness: None,
        };
        let bytes = written(&header, b"x");
        for bit in 2..12 {
            let mut changed = bytes.clone();
            changed[at::OPERATION + 1 - bit / 8] |= 1 << (bit % 8);
            assert_eq!(Signed::parse(&mut Reader::new(&changed)), Err(WireError::Reserved), "bit {bit}");
        }
        let mut long = bytes.clone();
        long[at::LENGTH..at::OPERATION].copy_from_slice(&(PAYLOAD_LEN_MAX as u32 + 1).to_be_bytes());
        assert_eq!(Signed::parse(&mut Reader::new(&long)), Err(WireError::OutOfRange));
        for len in 0..bytes.len() {
            assert_eq!(Signed::parse(&mut Reader::new(&bytes[..len])), Err(WireError::Truncated));
        }
    }

    /// The prologue changes with every field, and says nothing of the payload.
    /// spec: p2p/sealed-payload
    #[test]
    fn the_prologue_has_every_field() {
        let freshness = Some(Freshness { time_ms: 1, instance: 2, count: 3 });
        let (from, to) = (NodeId([1; 32]), NodeId([2; 32]));
        let header = SignedHeader { operation: Operation::Whisper, is_sealed: true, from, to, freshness };
        let of =
            |header: SignedHeader, network| header.prologue(network, &mut [0; PROLOGUE_LEN_MAX]).to_vec();
        let first = of(header, &NETWORK);
        assert_eq!(first.len(), PROLOGUE_LEN_MAX);
        assert_ne!(first, of(header, &Network([8; 32])));
        assert_ne!(first, of(SignedHeader { operation: Operation::Speak, ..header }, &NETWORK));
        assert_ne!(first, of(SignedHeader { from: to, ..header }, &NETWORK));
        assert_ne!(first, of(SignedHeader { to: from, ..header }, &NETWORK));
        assert_eq!(of(SignedHeader { freshness: None, ..header }, &NETWORK).len(), PROLOGUE_LEN_MAX - 16);
    }
}
