//! Messages between nodes: how a transmission is compressed, how a payload is sealed to its recipient, what two peers say.
//!
//! In:    bodies of transmissions, payloads; whole messages of the two channels.
//! Out:   the same, shorter or sealed, and back; answers, facts.
//! Holds: nothing here knows sessions; layouts are the codec's.

pub mod compression;
pub mod conversation;
pub mod sealing;
