//! Benchmarks: criterion benches per layer, and `ceilings`, what the machine can do at best.

pub mod flood;
pub mod pingpong;
pub mod raw;
//! Benchmarks: criterion benches per layer, what the machine can do at best, and where the time goes.

pub mod pair;
