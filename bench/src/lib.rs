//! Benchmarks: criterion benches per layer, what the machine can do at best (`ceilings`), and where the time goes (`paths`).

pub mod flood;
pub mod pair;
pub mod pingpong;
pub mod raw;
