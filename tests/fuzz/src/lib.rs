//! What is fuzzed: each target is a function from bytes to nothing that panics when something does not hold.
//!
//! In:    bytes of libFuzzer, or of the committed corpora, which `tests/fuzz_seeds.rs` replays without it.
//! Out:   nothing, or a panic.
//! Holds: a target depends on its input alone: no clock, no chance, nothing kept from one input to the next.

mod frames;
mod holder;
mod hostile;
mod messages;
mod network;
mod node;
mod operations;
mod packets;
mod payloads;
mod pipe;
mod records;
mod rumours;
mod session;
mod settings;
mod texts;
mod values;

pub use frames::{ack, frames};
pub use holder::{disk_row, holder_store};
pub use hostile::hostile;
pub use messages::{arguments, message, roll, transmission};
pub use operations::{OPERATION_LEN, Operation, encode};
pub use packets::{hello, packet, sealed};
pub use payloads::{file_message, payloads};
pub use pipe::pipe;
pub use records::{Record, Records, message_bytes};
pub use rumours::rumours;
pub use session::session;
pub use settings::{config, setting};
pub use texts::{address, key_file};
pub use values::{diff, msgpack, record};

/// A target: what it is called, here and on the command line, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 24] = [
    ("packet", packet),
    ("hello", hello),
    ("sealed", sealed),
    ("payloads", payloads),
    ("frames", frames),
    ("ack", ack),
    ("file_message", file_message),
    ("address", address),
    ("config", config),
    ("setting", setting),
    ("key_file", key_file),
    ("session", session),
    ("hostile", hostile),
    ("pipe", pipe),
    ("transmission", transmission),
    ("message", message),
    ("arguments", arguments),
    ("roll", roll),
    ("msgpack", msgpack),
    ("record", record),
    ("diff", diff),
    ("holder_store", holder_store),
    ("disk_row", disk_row),
    ("rumours", rumours),
];
