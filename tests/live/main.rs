//! Real processes and real engines over loopback, with both back ends.
//!
//! One file per subject; the names of the tests are the claims. Deadlines are generous: they end a test that hangs, and say nothing
//! of speed.

mod api;
mod binary;
mod broken;
mod control;
mod dht;
mod disk;
mod files;
mod flood;
mod hardening;
mod key;
mod loss;
mod names;
mod network;
mod node;
mod process;
mod scratch;
mod settings;
mod state;
mod store;
mod values;

use std::time::Duration;

use dunlin_tests::capability::Capability;

/// How long anything may take before the test is given up.
const DEADLINE: Duration = Duration::from_secs(120);

/// The back ends that this machine has, as `--io` wants them; says which one is left out.
fn backends(test: &str) -> Vec<&'static str> {
    let mut found = vec!["mmsg"];
    if !Capability::IoUring.is_missing(test) {
        found.push("uring");
    }
    found
}

/// Bytes that no compression and no mistake in an offset would leave alike.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
