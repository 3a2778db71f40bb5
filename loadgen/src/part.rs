//! What a member of a crowd does besides having a session: it asks, or it is a link; or it is quiet.
//!
//! In:    what its shard tells of the session; whose turn it is.
//! Out:   what it says, through the shard; counts.

use std::sync::Arc;

use dunlin_codec::ids::{ChannelId, NodeId, SessionId};
use dunlin_shards::blocks::Block;
use dunlin_shards::messages::conversation::Terms;
use dunlin_shards::time::{Instant, Now};

use crate::asking::{Answers, Asking};
use crate::linked::{Gathering, Linked};
use crate::questions::{Topic, Turn};
use crate::talk::{OwnShard, Talk};

/// What all members of a crowd do.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// They ask.
    Asking(Arc<Topic>),
    /// They are links.
    Linked(Arc<Gathering>),
}

enum Doing {
    Asking(Asking),
    Linked(Linked),
}

/// What one of them does.
pub(crate) struct Part {
    talk: Talk,
    doing: Doing,
}

impl Part {
    pub(crate) fn new((at, id): (usize, NodeId), terms: &Terms, role: &Role) -> Self {
        let doing = match role {
            Role::Asking(topic) => Doing::Asking(Asking::new(at, topic.clone())),
            Role::Linked(gathering) => Doing::Linked(Linked::new(at, gathering.clone())),
        };
        Self { talk: Talk::new(id, terms), doing }
    }

    /// It greets whom it has called.
    pub(crate) fn on_connected(&mut self, now: Now, session: SessionId, peer: NodeId) {
        self.talk.on_connected(now, session, peer);
    }

    /// A message of its session.
    pub(crate) fn on_message(&mut self, now: Now, channel: ChannelId, block: &Block) {
        self.talk.on_message(now, channel, block);
    }

    /// The other side has one of its messages.
    pub(crate) fn on_released(&mut self) {
        if let Doing::Linked(linked) = &mut self.doing {
            linked.on_released();
        }
    }

    /// Takes in what came, and says what there is to say.
    pub(crate) fn work(
        &mut self,
        now: Now,
        shard: &mut OwnShard,
        turn: Turn,
        (answers, copies): (&mut Answers, &mut u64),
    ) {
        let with = (&mut self.talk, shard);
        match &mut self.doing {
            Doing::Asking(asking) => asking.work(now, with, turn, answers),
            Doing::Linked(linked) => *copies += linked.work(now, with, turn),
        }
    }

    /// Both sides have named the same network.
    pub(crate) fn is_met(&self) -> bool {
        self.talk.is_met()
    }

    /// When it is to be looked at though nothing comes.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.talk.due_at()
    }
}
