//! Seeds: a node that knows nobody calls those that its operator named, again and again.
//!
//! In:    URIs.
//! Out:   calls, as long as the table is empty.
//! Holds: it ends with the engine.

use std::time::Duration;

use dunlin_codec::uri::DunlinUri;

use super::{Network, NetworkError};
use crate::bell::block_on;

/// The first pause before seeds that did not answer are called again; it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest, and how often it is looked whether anybody is known.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Calls the seeds until somebody is known, and when nobody is any more.
pub(super) fn call(network: &Network, seeds: &[DunlinUri]) {
    let mut pause = PAUSE_MIN;
    loop {
        let listener = network.shared.ended.listen();
        if network.shared.is_stopped() {
            return;
        }
        if network.table().is_empty() {
            call_each(network, seeds);
        }
        if !network.table().is_empty() {
            pause = PAUSE_MAX;
        }
        listener.wait_timeout(pause);
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

fn call_each(network: &Network, seeds: &[DunlinUri]) {
    for seed in seeds {
        match block_on(network.join_async(seed)) {
            Ok(_) => tracing::info!("joined the network by {seed}"),
            Err(NetworkError::Stopped) => return,
            Err(error) => tracing::warn!("cannot join the network by {seed}: {error}"),
        }
    }
}
