//! Benchmarks: criterion benches per layer, what the machine can do at best (`ceilings`), where the time goes (`paths`),
//! what sharding costs (`scaling`), what a flood of junk does (`junk`), and whether comparisons of secrets take constant time (`timing`).
//! What the load generator and the comparison with other transports do alike is here too: `callers`, `sealer`.

pub mod callers;
pub mod callgrind;
pub mod flood;
pub mod hub;
pub mod junk;
pub mod pair;
pub mod pingpong;
pub mod questions;
pub mod raw;
pub mod rumours;
pub mod sealer;
