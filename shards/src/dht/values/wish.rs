//! Wishes: what an application wants of the holders of a key, in plain values.
//!
//! In:    nothing.
//! Out:   nothing.
//! Holds: keys and values are msgpack; whoever takes a wish checks that before anything else.
//!
//! A value that is put is signed by the node that puts it: its own, another's by leave, or nobody's, which anybody may
//! replace. Its sequence is one above what a first read found.
//!
//! What is read is what holders have accepted: the newest that enough of them agree on. Who needs a read that no later read
//! contradicts decides without edits.

use core::time::Duration;

use dunlin_codec::ids::NodeId;

use super::GivenLeave;
use super::decision::Edit;

/// A value that holders are to keep.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PutWish {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value in msgpack; nil deletes.
    pub value: Vec<u8>,
    /// Whose it becomes: ours. None: nobody's.
    pub owner: Option<NodeId>,
    /// Another owner's leave; it then becomes that owner's.
    pub leave: Option<GivenLeave>,
    /// How long its record lasts.
    pub life: Duration,
}

/// A value that is to be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GetWish {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// Whose it must be; none: whoever's it is by agreement.
    pub owner: Option<NodeId>,
    /// How many holders must answer; none: more than half.
    pub quorum: Option<usize>,
}

/// What is to be decided of a register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DecideWish {
    /// The key's bytes; it names the register.
    pub key: Vec<u8>,
    /// What is wished of it, or of several names of its group. None: it is read, as a writer may.
    pub edits: Vec<Edit>,
    /// Whose a key becomes that is nobody's yet: ours. None: nobody's.
    pub owner: Option<NodeId>,
    /// An owner's leave for the first edit's key.
    pub leave: Option<GivenLeave>,
    /// The fencing token of the lease that is written under; 0: none.
    pub token: u64,
    /// How long what is written lasts.
    pub life: Duration,
}
