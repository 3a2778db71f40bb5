//! Benchmarks: criterion benches per layer, what the machine can do at best (`ceilings`), where the time goes (`paths`),
//! what a flood of junk does (`junk`), and whether comparisons of secrets take constant time (`timing`).

pub mod flood;
pub mod junk;
pub mod pair;
pub mod pingpong;
pub mod raw;
