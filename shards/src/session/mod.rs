//! Keys shared with a peer: handshake, sealing and opening, replay, cookies, early data.

pub mod aws_lc;
pub mod binding;
pub mod cookie;
pub mod counting;
pub mod crypto;
pub mod handshake;
pub(crate) mod inbound;
pub mod keys;
pub mod live;
mod outbound;
pub(crate) mod path;
pub(crate) mod renewal;
pub mod replay;
pub mod reset;
pub(crate) mod roaming;
pub mod sip;
pub mod strike;
