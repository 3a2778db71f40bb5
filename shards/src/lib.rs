//! One core's worth of the Dunlin protocols, sans-I/O: no socket, no clock, no thread, no randomness of its own.
//!
//! In:    datagrams, mail, time (`handle_*`).
//! Out:   datagrams, mail, events, the next timeout (`poll_*`).
//! Holds: the same inputs in the same order give the same outputs on every machine.
#![forbid(unsafe_code)]

pub mod admission;
pub mod arq;
pub mod blocks;
pub mod budget;
pub mod dht;
pub mod event;
pub mod gossip;
pub mod hash;
pub mod identity;
pub mod limits;
pub mod mail;
pub mod messages;
pub mod mutants;
pub mod neighbours;
pub mod note;
pub mod outcome;
pub mod peers;
pub mod placement;
pub mod rng;
pub mod route;
pub mod session;
pub mod shard;
pub mod stats;
mod surroundings;
pub mod time;
pub mod timers;
