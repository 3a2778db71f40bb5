//! The distributed table: who is where, and values.
//!
//! In:    node records, answers, silence, time; values, and what is to be done to them.
//! Out:   the nodes closest to a place, questions to other nodes; values.
//! Holds: nothing here knows sessions or sockets: whoever keeps a table asks the questions.

pub mod contact;
pub mod diff;
mod diverse;
pub mod known;
pub mod lookup;
pub mod space;
pub mod table;
pub mod values;
