//! The simulator, and what live tests share.

#[path = "../capability.rs"]
pub mod capability;
#[path = "../impair/mod.rs"]
pub mod impair;
