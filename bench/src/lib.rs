//! Benchmarks: criterion benches per layer, what the machine can do at best, and where the time goes.

pub mod pair;
