//! Keys shared with a peer: handshake, sealing and opening, replay, cookies, early data.

pub mod aws_lc;
pub mod cookie;
pub mod crypto;
pub mod handshake;
pub mod keys;
pub mod replay;
pub mod strike;
