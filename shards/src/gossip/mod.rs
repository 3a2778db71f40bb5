//! Rumours: SHOUT, ANNOUNCE and CHANGE_KEY on their way from node to node.
//!
//! In:    signed messages that came over a link; words of our own.
//! Out:   whether one is carried on ([`Court`]), what was seen before ([`Seen`]), what to carry ([`Rumour`]).
//! Holds: a message is looked up before it is verified, verified once per node, entered after that, and carried on before
//!        anybody here hears of it; so a node takes each one once, and a forged copy never shadows the true one (I10).
//!
//! Each shard has its own [`Seen`], which refuses copies where they arrive. What is new goes to the shard that an *origin*
//! hashes to, not a message's id: what is known of an origin (its windows, its rate, whether it says two things under one
//! number) then lies in one place, and one id has one origin. That shard verifies, and tells every shard to carry it on. It
//! verifies in the turn in which the message comes, so no copy has to wait for another's verdict.
//!
//! Signatures are checked one by one by `identity::verify`: a batch accepts what single checks refuse, and nodes that
//! differ in what they carry on are a network that falls apart (T7).
//!
//! spec: p2p/rumours

mod court;
mod origins;
mod seen;

use dunlin_codec::bytes::{Reader, Writer};
use dunlin_codec::ids::{NodeId, SessionId};
use dunlin_codec::label::Network;
use dunlin_codec::message::{Signed, SignedHeader, SignedMessageId, label_for_signature, set_signature};
use sha2::{Digest, Sha256};

use crate::budget::Rate;
use crate::event::Ticket;
use crate::identity::{BadSignature, Identity, verify};
use crate::limits::{
    RUMOUR_CPU_PERCENT, RUMOURS_BURST_LINK, RUMOURS_BURST_ORIGIN, RUMOURS_PER_SECOND_LINK,
    RUMOURS_PER_SECOND_ORIGIN,
};

pub use court::{Counts, Court, Refusal};
pub use seen::Seen;

/// How much of rumours a node takes. What is beyond is dropped and counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RumourLimits {
    /// Of one origin.
    pub origin: Rate,
    /// Over one link, those that had to be verified; a forged one counts for `RUMOUR_FORGED_COST` of them.
    pub link: Rate,
    /// The share of each core for verifying, in percent.
    pub cpu_percent: u32,
}

impl Default for RumourLimits {
    fn default() -> Self {
        Self {
            origin: Rate { per_second: RUMOURS_PER_SECOND_ORIGIN, burst: RUMOURS_BURST_ORIGIN },
            link: Rate { per_second: RUMOURS_PER_SECOND_LINK, burst: RUMOURS_BURST_LINK },
            cpu_percent: RUMOUR_CPU_PERCENT,
        }
    }
}

impl RumourLimits {
    /// As many as come: for measurements.
    pub const UNLIMITED: Self =
        Self { origin: Rate::UNLIMITED, link: Rate::UNLIMITED, cpu_percent: u32::MAX };
}

/// A rumour to be carried on: verified, or our own.
#[derive(Debug)]
pub struct Rumour {
    /// Its name.
    pub id: SignedMessageId,
    /// The session that it came on, and who is at its other end; none: it is our own.
    pub came_on: Option<(SessionId, NodeId)>,
    /// Whoever said it here wants to know how many links it left on.
    pub ticket: Option<Ticket>,
    /// Links that it came over; 0 for our own.
    pub hops: u8,
    bytes: Box<[u8]>,
}

impl Rumour {
    /// A rumour of our own, signed.
    ///
    /// # Panics
    /// When the payload is longer than any receiver takes: the caller bounds it.
    #[must_use]
    pub fn sign(
        identity: &Identity,
        network: &Network,
        (header, payload): (&SignedHeader, &[u8]),
        ticket: Option<Ticket>,
    ) -> Self {
        let bytes = sign(identity, network, header, payload);
        let id = message_id(network, &parsed(&bytes));
        Self { id, came_on: None, ticket, hops: 0, bytes }
    }

    /// What it says.
    #[must_use]
    pub fn message(&self) -> Signed<'_> {
        parsed(&self.bytes)
    }
}

/// A signed message that a link brought. Nobody has verified it.
#[derive(Debug)]
pub struct Brought {
    /// On which session.
    pub session: SessionId,
    /// Who is at its other end.
    pub peer: NodeId,
    /// How many nodes say to have carried it on.
    pub hops: u8,
    /// Its name.
    pub id: SignedMessageId,
    /// Its bytes, of which it is known that they are a message.
    pub message: Box<[u8]>,
}

impl From<Brought> for Rumour {
    fn from(brought: Brought) -> Self {
        let Brought { session, peer, hops, id, message } = brought;
        let hops = hops.saturating_add(1);
        Self { id, came_on: Some((session, peer)), ticket: None, hops, bytes: message }
    }
}

fn parsed(bytes: &[u8]) -> Signed<'_> {
    Signed::parse(&mut Reader::new(bytes)).expect("it was parsed when it came, or we wrote it")
}

/// A signed message's id: never of its signature, so that whoever signs again makes no second message.
#[must_use]
pub fn message_id(network: &Network, message: &Signed<'_>) -> SignedMessageId {
    let mut hash = Sha256::new();
    message.id_input(network).into_iter().for_each(|part| hash.update(part));
    let hash: [u8; 32] = hash.finalize().into();
    let (id, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
    SignedMessageId(*id)
}

/// A whole signed message.
///
/// # Panics
/// When the payload is longer than any receiver takes: the caller bounds it.
#[must_use]
pub fn sign(identity: &Identity, network: &Network, header: &SignedHeader, payload: &[u8]) -> Box<[u8]> {
    let mut bytes = vec![0; header.encoded_len() + payload.len()];
    header.write(&mut Writer::new(&mut bytes), payload).expect("the room is as long as the message");
    set_signature(&mut bytes, &label_for_signature(network)).expect("a message begins with a signature");
    let signature = identity.sign(&bytes);
    set_signature(&mut bytes, &signature).expect("a message begins with a signature");
    bytes.into()
}

/// Checks the signature of a whole message, which is as before afterwards. Some 30 us.
///
/// # Errors
/// `BadSignature`: it must be treated as if it had never come.
pub fn check_signature(network: &Network, message: &mut [u8]) -> Result<(), BadSignature> {
    let signed = Signed::parse(&mut Reader::new(message)).map_err(|_| BadSignature)?;
    let (from, signature) = (signed.from(), *signed.signature());
    set_signature(message, &label_for_signature(network)).map_err(|_| BadSignature)?;
    let result = verify(&from, message, &signature);
    set_signature(message, &signature).map_err(|_| BadSignature)?;
    result
}
