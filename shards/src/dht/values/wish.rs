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
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{Key, NOBODY};

use super::GivenLeave;
use super::decision::Edit;
use super::state::scope_of;
use crate::limits::VALUE_LEN_MAX;

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
    /// An owner's leave for each key that is not ours; that for the first key comes with the first round.
    pub leaves: Vec<GivenLeave>,
    /// The fencing token of the lease that is written under; 0: none.
    pub token: u64,
    /// How long what is written lasts.
    pub life: Duration,
}

impl PutWish {
    /// Whether `own` can wish that.
    pub(crate) fn is_good(&self, own: &NodeId) -> bool {
        let is_value = Encoded::parse(&self.value).is_ok() && self.value.len() <= VALUE_LEN_MAX;
        is_value && scope(&self.key).is_some() && is_own(self.owner, own)
    }

    /// Whose the value becomes.
    pub(crate) fn owner(&self) -> NodeId {
        owner_of(self.owner, self.leave.as_ref())
    }
}

impl GetWish {
    /// Whether anybody can wish that.
    pub(crate) fn is_good(&self) -> bool {
        scope(&self.key).is_some()
    }
}

impl DecideWish {
    /// Whether `own` can wish that: all keys are of one register.
    pub(crate) fn is_good(&self, own: &NodeId) -> bool {
        let Some(register) = scope(&self.key) else { return false };
        let is_of_register = |edit: &Edit| scope(&edit.key).as_ref() == Some(&register);
        self.edits.iter().all(is_of_register) && is_own(self.owner, own)
    }

    /// Whose a key becomes that is nobody's yet.
    pub(crate) fn owner(&self) -> NodeId {
        owner_of(self.owner, self.leaves.first())
    }
}

fn scope(key: &[u8]) -> Option<Vec<u8>> {
    Key::parse(key).ok().flatten().map(|key| scope_of(&key))
}

/// Nobody can sign for others.
fn is_own(owner: Option<NodeId>, own: &NodeId) -> bool {
    owner.is_none_or(|owner| owner == *own)
}

fn owner_of(owner: Option<NodeId>, leave: Option<&GivenLeave>) -> NodeId {
    leave.map(|leave| leave.owner).or(owner).unwrap_or(NOBODY)
}
