//! Dunlin: a peer-to-peer datagram engine for Linux. One UDP port, one shard per core.
#![deny(unsafe_code)]

pub mod addresses;
pub mod api;
mod bell;
mod claim;
pub mod clock;
pub mod config;
pub mod control;
mod driver;
mod engine;
pub mod entropy;
pub mod files;
pub mod keyfile;
mod mailbox;
pub mod network;
mod recall;
mod rekey;
pub mod runtime;
mod sequences;
mod shelf;
pub mod socket;
mod start;
pub mod store;

pub use api::*;
pub use config::Config;
pub use dunlin_codec::ids::NodeId;
pub use dunlin_codec::uri::{DunlinUri, Host};
pub use dunlin_shards::event::{CloseReason, EarlyData};
pub use dunlin_shards::identity::Identity;
pub use dunlin_shards::stats::{DropReason, Stats};
pub use engine::{Engine, EngineBuilder, EngineStats, ShardStats};
pub use network::{Network, NetworkError, NetworkEvent};
pub use rekey::TakeKeyError;
