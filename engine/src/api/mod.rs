//! What applications hold: peers, messages, events, errors. Usable from plain threads and any async runtime.

pub(crate) mod connect;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod handler;
mod message;
pub(crate) mod peer;
pub(crate) mod shared;

pub use connect::{ConnectOptions, Connected, EARLY_OVERHEAD, EARLY_ROOM, Early};
pub use error::{ConnectError, Error, RecvError, SendError, StartError};
pub use event::Event;
pub use handler::{Handler, NoHandler, Reply, Verdict};
pub use message::Message;
pub use peer::{Channel, Peer, SendOptions, SendTicket};
