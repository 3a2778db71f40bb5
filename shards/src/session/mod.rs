//! Keys shared with a peer: handshake, sealing and opening, replay, cookies, early data.

pub mod aws_lc;
pub mod binding;
pub mod cookie;
pub mod counting;
pub mod crypto;
pub mod handshake;
pub mod keys;
pub mod replay;
pub mod reset;
pub mod sip;
pub mod strike;
