//! Dunlin: a peer-to-peer datagram engine for Linux. One UDP port, one shard per core.
#![deny(unsafe_code)]

pub mod clock;
pub mod config;
pub mod entropy;
pub mod keyfile;
pub mod runtime;
pub mod socket;
