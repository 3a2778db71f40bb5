//! Messages between nodes: how a transmission is compressed, how a payload is sealed to its recipient.
//!
//! In:    bodies of transmissions, payloads.
//! Out:   the same, shorter or sealed, and back.
//! Holds: nothing here knows sessions; layouts are the codec's.

pub mod compression;
pub mod sealing;
