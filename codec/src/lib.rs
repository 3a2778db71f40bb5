//! Dunlin's bytes: every packet, frame and message as a typed view over borrowed bytes, and writers into a caller's buffer.
//!
//! In:    bytes nobody has vouched for; values to write.
//! Out:   views whose accessors cannot fail; bytes.
//! Holds: no allocation, no state, no clock; `parse` is the only place where bytes can be refused.
#![forbid(unsafe_code)]

pub mod args;
pub mod bytes;
pub mod cookie;
pub mod error;
pub mod file;
pub mod finish;
pub mod frame;
pub mod hello;
pub mod ids;
pub mod label;
pub mod message;
pub mod msgpack;
pub mod packet;
pub mod payload;
pub mod record;
pub mod reset;
pub mod sealed;
pub mod suite;
pub mod transmission;
pub mod uri;
pub mod welcome;
