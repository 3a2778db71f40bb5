//! The simulator, and what live tests share.
//!
//! In:    a seed, nodes, links and their faults, what applications do.
//! Out:   what arrived, what was counted, and a panic as soon as something that must hold does not.
//! Holds: the production shard runs here, in virtual time: no clock, no thread, no hash order that shows.

pub mod allocator;
pub mod application;
pub mod byzantine;
#[path = "../capability.rs"]
pub mod capability;
mod contact;
pub mod disk;
pub mod epochs;
pub mod glass;
pub mod history;
#[path = "../impair/mod.rs"]
pub mod impair;
pub mod ledger;
pub mod lies;
pub mod link;
pub mod nat;
pub mod node;
pub mod place;
pub mod swarm;
pub mod tap;
pub mod text;
pub mod trace;
pub mod world;

pub use place::NodeIndex;
pub use world::{World, WorldOf};
