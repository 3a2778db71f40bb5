//! The distributed table of values.
//!
//! In:    values, and what is to be done to them.
//! Out:   values.
//! Holds: pure functions so far.

pub mod diff;
