//! `dunlin status`: how a running node is.

use clap::Args;
use dunlin::control::{Answer, Command, RumourStatus, ShardStatus, Status, ValueStatus};

use crate::admin::{AdminFlags, SOON, unexpected};
use crate::{Done, output};

#[derive(Args)]
pub(crate) struct Arguments {
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: AdminFlags,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let Answer::Status(status) = arguments.node.ask(&Command::Status, SOON)? else {
        return Err(unexpected());
    };
    if arguments.json {
        output::line(serde_json::json!(status));
    } else {
        show(&status);
    }
    Ok(())
}

fn show(status: &Status) {
    output::line(format_args!("id         {}", status.id));
    for uri in &status.uris {
        output::line(format_args!("uri        {uri}"));
    }
    output::line(format_args!("network    {}", status.network));
    output::line(format_args!("listening  {}", status.listen));
    if let Some(known) = status.known_nodes {
        let advertised = if status.advertised.is_empty() {
            "cannot call it".to_owned()
        } else {
            format!("call it at {}", status.advertised.join(", "))
        };
        output::line(format_args!("nodes      {known} known; others {advertised}"));
    }
    if let Some(store) = &status.store {
        let (rows, refused) = (store.rows, store.refused);
        output::line(format_args!("store      {rows} rows kept, {refused} batches refused"));
        if let Some(trouble) = &store.trouble {
            output::line(format_args!("           {trouble}"));
        }
    }
    if let Some(rumours) = &status.rumours {
        show_rumours(rumours);
    }
    if let Some(values) = &status.values {
        show_values(values);
    }
    let (running, process) = (uptime(status.uptime_ms), status.process);
    output::line(format_args!("running    for {running} as process {process}, release {}", status.release));
    for (index, shard) in status.shards.iter().enumerate() {
        show_shard(index, shard);
    }
}

fn show_rumours(rumours: &RumourStatus) {
    let RumourStatus { taken, verified, carried, crowded_out, copies, refused } = rumours;
    output::line(format_args!(
        "rumours    {taken} told of {verified} verified, {carried} copies carried on ({crowded_out} had no room), {copies} copies refused"
    ));
    if !refused.is_empty() {
        let refused: Vec<String> =
            refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        output::line(format_args!("           refused: {}", refused.join(", ")));
    }
}

fn show_values(kept: &ValueStatus) {
    let ValueStatus { values, bytes, copies, registers, leases, roll } = *kept;
    output::line(format_args!(
        "values     {values} kept, {registers} registers, {} in all; {leases} leases, {copies} copies, {roll} nodes in the roll",
        size(bytes)
    ));
}

fn show_shard(index: usize, shard: &ShardStatus) {
    output::line(format_args!("shard {index:<4} {}", shard.io));
    let (received, sent) = (shard.received, shard.sent);
    output::line(format_args!(
        "           {} sessions, {} in {} datagrams received, {} in {} datagrams sent, {} for messages",
        shard.sessions,
        size(received.bytes),
        received.datagrams,
        size(sent.bytes),
        sent.datagrams,
        size(shard.memory_bytes as u64),
    ));
    if !shard.drops.is_empty() {
        let drops: Vec<String> =
            shard.drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        output::line(format_args!("           dropped: {}", drops.join(", ")));
    }
}

fn uptime(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} kB", bytes / 1_000),
        10_000_000..=9_999_999_999 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_for_people() {
        let times = [999, 61_000, 3_600_000, 90_000_000].map(uptime);
        assert_eq!(times, ["0 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
        let sizes = [9_999, 10_000, 12_345_678, 10_000_000_000].map(size);
        assert_eq!(sizes, ["9999 B", "10 kB", "12 MB", "10 GB"]);
    }
}
