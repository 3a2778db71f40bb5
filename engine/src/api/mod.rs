//! The public face: start an engine, connect, send, receive. Usable from plain threads and any async runtime.

mod connect;
mod engine;
mod error;
mod event;
mod handler;
mod message;
mod peer;
pub(crate) mod shared;

pub use connect::{ConnectOptions, Early};
pub use engine::{Engine, EngineBuilder};
pub use error::{ConnectError, Error, RecvError, SendError, StartError};
pub use event::Event;
pub use handler::{Handler, NoHandler, Reply, Verdict};
pub use message::Message;
pub use peer::{Channel, Peer, SendOptions, SendTicket};
