//! How the node is, for whoever may ask. Nothing secret is known here: the identity is its public key.

use std::collections::BTreeMap;

use dunlin_codec::ids::NodeId;
use dunlin_codec::uri::DunlinUri;
use dunlin_shards::stats::{DropReason, Stats};

use super::Shared;
use super::protocol::{Answer, ShardStatus, Status, StoreStatus, Traffic};
use crate::engine::ShardStats;
use crate::network::Network;
use crate::socket::TrainSizes;
use crate::store::StoreReport;

pub(super) fn of(shared: &Shared) -> Status {
    let engine = &shared.engine;
    let reports = engine.io_reports();
    let network = engine.network();
    let record = network.as_ref().and_then(Network::record);
    let shards = engine.stats().shards.into_iter().enumerate();
    Status {
        id: engine.id().to_string(),
        uris: shared.about.uris.iter().map(|uri| uri_of(engine.id(), uri)).collect(),
        network: shared.about.network.clone(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        process: std::process::id(),
        uptime_ms: u64::try_from(shared.clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        listen: engine.local_addr().to_string(),
        known_nodes: network.map(|network| network.table().len()),
        advertised: record.iter().flat_map(|own| own.endpoints.iter().map(ToString::to_string)).collect(),
        store: engine.store_report().map(store),
        shards: shards
            .map(|(index, stats)| shard(&stats, reports.get(index).map(ToString::to_string)))
            .collect(),
    }
}

/// The node's URI, whatever its key was when it was made.
fn uri_of(id: NodeId, uri: &str) -> String {
    uri.parse::<DunlinUri>()
        .map_or_else(|_| uri.to_owned(), |uri| DunlinUri { id: Some(id), ..uri }.to_string())
}

/// Goes on under the key that the file has.
pub(super) fn take_key(shared: &Shared) -> Result<Answer, String> {
    let taken = shared.engine.take_key().map_err(|error| error.to_string())?;
    Ok(Answer::KeyTaken { id: shared.engine.id().to_string(), old: taken.map(|(old, _)| old.to_string()) })
}

fn store(report: StoreReport) -> StoreStatus {
    let StoreReport { commits, batches, rows, refused, trouble, .. } = report;
    StoreStatus { commits, batches, rows, refused, trouble: trouble.map(|error| error.to_string()) }
}

fn shard(stats: &ShardStats, io: Option<String>) -> ShardStatus {
    ShardStatus {
        io: io.unwrap_or_default(),
        sessions: stats.sessions,
        memory_bytes: stats.allocated_bytes,
        received: traffic(&stats.socket.received),
        sent: traffic(&stats.socket.sent),
        counters: counters(&stats.protocol),
        drops: drops(&stats.protocol),
    }
}

const fn traffic(trains: &TrainSizes) -> Traffic {
    Traffic { datagrams: trains.datagrams, bytes: trains.bytes }
}

fn counters(stats: &Stats) -> BTreeMap<String, u64> {
    stats.counters().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

fn drops(stats: &Stats) -> BTreeMap<String, u64> {
    let reasons = DropReason::ALL.iter().map(|reason| (reason, stats.drops(*reason)));
    reasons.filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.name().to_owned(), count)).collect()
}
