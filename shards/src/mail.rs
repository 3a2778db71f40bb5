//! Mail: plain data that crosses between a shard and other shards, the application, control and store.
//!
//! Holds: no closures, no shared state; whatever is owned moves with the letter.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use dunlin_codec::ids::{ChannelId, InstanceId, NodeId, SessionId};
use dunlin_codec::suite::Suite;
use zeroize::Zeroizing;

use crate::arq::sender::{Outgoing, Sender};
use crate::blocks::Block;
use crate::event::{EarlyData, Ticket};
use crate::identity::change::NewKey;
use crate::note::Note;
use crate::route::Arrival;

/// Who sent a letter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum From {
    /// Another shard.
    Shard(u8),
    /// The application.
    Application,
}

/// Who a letter is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination {
    /// A shard.
    Shard(u8),
}

/// A request for a session.
#[derive(Debug)]
pub struct Connect {
    /// The application's name for the request.
    pub ticket: Ticket,
    /// Who to reach; unknown: whoever answers (Noise XX).
    pub id: Option<NodeId>,
    /// Where.
    pub remote: SocketAddr,
    /// Messages for the first datagram, each marked idempotent; those that do not fit follow after the handshake.
    pub early: Vec<Outgoing>,
    /// The peer's instance as remembered from an earlier session, zero when unknown.
    pub instance: InstanceId,
}

/// What the strike register's owner says of a Hello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Struck {
    /// Never seen: its early data may be delivered.
    New,
    /// Seen before, on that shard.
    Seen(u8),
    /// No room to remember it: refuse the early data.
    Full,
}

/// A session's entry in the directory of identities.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listing {
    /// The peer's identity; changed by the era of our key, so that what was begun with one key of ours meets only its like.
    pub peer: NodeId,
    /// The peer's instance.
    pub instance: InstanceId,
    /// Our session with it.
    pub session: SessionId,
    /// We initiated it.
    pub initiator: bool,
    /// Our key is lower than the peer's.
    pub is_lower: bool,
}

/// Everything that a session of ours is made of once its Welcome verified.
pub struct Opened {
    /// Its id in the Hello, which the peer writes.
    pub session: SessionId,
    /// The id that we write.
    pub peer_session: SessionId,
    /// Who answered.
    pub peer: NodeId,
    /// Its static key.
    pub peer_static: [u8; 32],
    /// Its start.
    pub peer_instance: InstanceId,
    /// Of the key of ours that it was begun with.
    pub era: u8,
    /// The cipher.
    pub suite: Suite,
    /// Proves a Reset of the peer's.
    pub reset_token: [u8; 16],
    /// The secret of what we send; wiped when dropped.
    pub send: Zeroizing<[u8; 32]>,
    /// The secret of what we receive; wiped when dropped.
    pub receive: Zeroizing<[u8; 32]>,
    /// The hash of all that was said.
    pub hash: [u8; 32],
    /// Messages that wait, and what early data has brought of them.
    pub sender: Sender,
    /// The third message of XX.
    pub finish: Option<Vec<u8>>,
    /// The request.
    pub ticket: Ticket,
    /// It carries on for a session whose peer restarted: messages that travel again.
    pub resent: Option<usize>,
    /// What became of the early data.
    pub early: EarlyData,
    /// What the Welcome carried.
    pub frames: Vec<u8>,
    /// The address that the application called.
    pub dialled: SocketAddr,
    /// How the Welcome came.
    pub arrival: Arrival,
    /// From the Hello to the Welcome, where that is known.
    pub round_trip: Option<Duration>,
}

impl fmt::Debug for Opened {
    /// Without its secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({:?} with {})", self.session, self.peer)
    }
}

/// A letter.
#[derive(Debug)]
pub enum Mail {
    /// Anybody: for the neighbours beside a shard; the shard itself does not read it.
    Note {
        /// Which shard's.
        to: u8,
        /// It.
        note: Box<Note>,
    },
    /// Application: open a session.
    Connect(Box<Connect>),
    /// Application: send a message.
    Send {
        /// On this session.
        session: SessionId,
        /// The message.
        message: Outgoing,
    },
    /// Application: give up a message that is still queued.
    Cancel {
        /// On this session.
        session: SessionId,
        /// On this channel.
        channel: ChannelId,
        /// The message.
        ticket: Ticket,
    },
    /// Application: a delivered message was read; its block comes home.
    Consumed {
        /// Its session.
        session: SessionId,
        /// Its channel.
        channel: ChannelId,
        /// Its charge, as `Event::Message` told.
        charge: u32,
        /// Its block.
        block: Block,
    },
    /// Application: measure a round trip with a PING frame.
    Ping {
        /// On this session.
        session: SessionId,
        /// The request.
        ticket: Ticket,
    },
    /// Application: close a session.
    Close {
        /// The session.
        session: SessionId,
        /// A code for the peer.
        code: u64,
    },
    /// Application: the node has another key. To each shard.
    NewKey(Box<NewKey>),
    /// Application: close everything, after what is queued was acknowledged.
    Shutdown,
    /// Shard: a datagram that landed here belongs to you.
    Misrouted {
        /// How it came.
        arrival: Arrival,
        /// Its bytes.
        datagram: Block,
    },
    /// Shard: may this Hello's early data be delivered?
    Strike {
        /// The Hello's ephemeral key.
        e: [u8; 32],
    },
    /// Shard: the answer.
    StrikeAnswer {
        /// The Hello's ephemeral key.
        e: [u8; 32],
        /// The answer.
        struck: Struck,
    },
    /// Shard: a session with an identity in your care is confirmed.
    SessionUp(Listing),
    /// Shard: it is gone.
    SessionDown(Listing),
    /// Shard: its peer has nothing more to send there.
    PeerYielded(Listing),
    /// Shard: drain your session into another one with the same peer, then close it.
    Retire {
        /// Yours.
        session: SessionId,
        /// The one that stays.
        into: SessionId,
    },
    /// Shard: another session drains into yours, which is therefore on probation no more.
    Keep {
        /// Yours.
        session: SessionId,
    },
    /// Shard: there is a newer session with the same peer; probe your older one and hand over if it is dead.
    Probe {
        /// Yours.
        session: SessionId,
        /// The newer one.
        successor: SessionId,
        /// Of these two yours is to stay, if it lives: the newer one then drains into it.
        stays: bool,
    },
    /// Shard: your socket took the Welcome of a handshake of ours: the session that it opened is yours.
    Opened(Box<Opened>),
    /// Shard: the session that you handed over is open here.
    Taken {
        /// Its id with you, by which the peer knows it.
        session: SessionId,
        /// Its id here.
        by: SessionId,
    },
    /// Shard: the session that you handed over is gone, nobody needs its id any more.
    Vacated {
        /// Its id with you.
        session: SessionId,
        /// Its id here.
        by: SessionId,
    },
    /// Shard: a Reset with this token would end a session of mine.
    TokenUp {
        /// The token's hash.
        token: u64,
        /// The session.
        session: SessionId,
    },
    /// Shard: it would not any more.
    TokenDown {
        /// The token's hash.
        token: u64,
        /// The session.
        session: SessionId,
    },
    /// Shard: a Reset, for the shard that knows whose it is, or for the owner.
    Reset {
        /// How it came.
        arrival: Arrival,
        /// The peer's id of the session that it ends.
        session: SessionId,
        /// What proves it.
        token: [u8; 16],
    },
    /// Application: nothing more of mine goes to `from`. What went there reaches `to` before this does, and `Event::Settled` says
    /// so: only then may what I write to `to` not overtake it.
    Fence {
        /// The session that ended.
        from: SessionId,
        /// The session that carries on.
        to: SessionId,
    },
    /// Shard: the same, behind everything that `to` inherits from `from`.
    Fenced {
        /// The session that ended.
        from: SessionId,
        /// The session that carries on.
        to: SessionId,
        /// Sessions that it has passed by now.
        hops: u8,
    },
    /// Shard: a message that an older session with the same peer could not deliver.
    Inherit {
        /// Your session.
        session: SessionId,
        /// The message.
        message: Outgoing,
        /// Sessions that it has passed by now: two may have yielded to each other.
        hops: u8,
    },
}

impl Mail {
    /// Each block of a message to be sent: it goes where the letter goes.
    pub(crate) fn each_message_block(&mut self, act: &mut impl FnMut(&mut Block)) {
        match self {
            Self::Send { message, .. } | Self::Inherit { message, .. } => act(&mut message.block),
            Self::Opened(opened) => opened.sender.each_block(act),
            _ => {}
        }
    }
}
