//! Values: who keeps them, how they are stored and read, and how several holders decide what a key's value is.
//!
//! In:    STORE and FIND_VALUE of peers, the disk's word on what was written, answers of holders, time.
//! Out:   answers, rows for the disk, questions to holders, outcomes.
//! Holds: nothing here knows sessions, lookups or files. An answer that promises durability comes out after the disk's word.
//!
//! ## How it is driven
//!
//! Each shard of a node has a [`Holder`], for the keys that are its own (`neighbours/keeping.rs`). What peers ask goes in, what is to be done comes out of `poll_action`:
//!
//! | call | when |
//! |---|---|
//! | `Holder::restore` | once at start, with every row that is on disk |
//! | `Holder::on_find` | FIND_VALUE came: says the answer, or that the closest nodes are the answer |
//! | `Holder::on_store` | STORE came |
//! | `Holder::on_written` | a `Write` is durable, or failed |
//! | `Holder::poll_action` | after each of these, until there is nothing |
//! | `Holder::handle_timeout` | at `poll_timeout` |
//!
//! [`Action::Write`] is all or nothing, and writes take effect in the order of their tickets. A row is a key and a value in
//! plain bytes: any store of keys and values will do.
//!
//! Whoever wants something of the holders looks the key's address up ([`address`]), gives the closest nodes to one of these,
//! and drives it: `poll_question` names a node, an operation and its arguments, `on_answer` or `on_failure` end each
//! question, `outcome` is there at the end.
//!
//! | | |
//! |---|---|
//! | [`put::Put`] | stores a value, each holder for itself |
//! | [`get::Get`] | reads a value: what enough holders over disjoint paths agree on; repairs those that lag |
//! | [`decision::Decision`] | compare-and-set, diff, lease, several names of a group: a majority decides; has a time of its own |
//! | [`roll::Call`] | which nodes of the network can be reached, as the holders of its roll tell |
//! | [`survey::Survey`] | what a majority decided last: for readers, and for a holder that had just come ([`Action::Settle`]) |
//!
//! A decision's holders are the closest nodes as its lookup found them, which differ from lookup to lookup. So a register says under
//! whom its state was accepted, and whoever goes on from that needs a majority of those as well (`members`).
//!
//! spec: p2p/values

mod asking;
mod check;
pub mod decision;
mod durable;
pub mod get;
pub mod holder;
mod members;
mod plain;
pub mod put;
mod quota;
mod register;
pub mod roll;
mod sign;
mod state;
pub mod survey;
mod wish;

use core::net::IpAddr;

use dunlin_codec::args::{Ack, MEMBERS_LEN_MAX, Nack};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::Operation;
use dunlin_codec::record::{KEY_LEN_MAX, VALUE_RECORD_LEN_MAX};

use crate::limits::VALUE_LEN_MAX;
use crate::mutants::{Mutant, planted};

pub use check::{BadRecord, address, value_hash};
pub use durable::{DiskRow, ReadRow, RegisterRow, ValueRow, place_of_row, read_row};
pub use holder::{Action, Event, Finding, Holder, Inventory, Restored, Setup};
pub use members::{Holders, Members};
pub use quota::Quotas;
pub use sign::{GivenLeave, sign_grant, sign_record};
pub use state::{Cell, State};
pub use wish::{DecideWish, GetWish, PutWish};

/// Who asks a holder, and what its answer is given with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asker {
    /// The peer at the other end of the session.
    pub peer: NodeId,
    /// Where it is.
    pub from: IpAddr,
    /// Whatever whoever drives this needs to give the answer.
    pub request: u64,
}

/// What a peer is answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// ACK; else NACK.
    pub is_ack: bool,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Answer {
    fn ack(ack: &Ack<'_>, len_max: usize) -> Self {
        Self { is_ack: true, payload: encode(len_max, |out| ack.write(out)) }
    }

    fn nack(nack: &Nack<'_>) -> Self {
        Self { is_ack: false, payload: encode(SMALL_LEN_MAX, |out| nack.write(out)) }
    }
}

/// What a holder is to be asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// What its end is told with.
    pub number: u64,
    /// Whom.
    pub to: NodeId,
    /// STORE or FIND_VALUE.
    pub operation: Operation,
    /// Its arguments.
    pub arguments: Vec<u8>,
}

/// The smallest number of `count` holders of which any two groups share one.
fn majority(count: usize) -> usize {
    if planted(Mutant::MajorityTooSmall) { count.div_ceil(2) } else { count / 2 + 1 }
}

/// Bytes of a question or an answer without a value at most: a key, a record with its key, a lease, ballots, a grant.
const SMALL_LEN_MAX: usize = 4_096;

const _: () = assert!(KEY_LEN_MAX + VALUE_RECORD_LEN_MAX + MEMBERS_LEN_MAX + 512 <= SMALL_LEN_MAX);

/// Bytes of an answer with a value at most.
const VALUED_LEN_MAX: usize = SMALL_LEN_MAX + KEY_LEN_MAX + VALUE_LEN_MAX;

/// What is written, at most so many bytes.
fn encode(len_max: usize, write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut room = vec![0; len_max];
    let mut out = Writer::new(&mut room);
    write(&mut out).expect("the bound covers what is written");
    let len = out.len();
    room.truncate(len);
    room
}

#[cfg(test)]
mod tests;
