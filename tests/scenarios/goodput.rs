//! How much of a link's rate arrives in the application's hands, by rate, round trip and loss: a table that is kept, so that
//! a change of congestion control shows as a difference that can be read.
//!
//! Losses befall each datagram of either direction by itself. What is measured is payload that the receiving application got,
//! byte for byte (the world checks it), once the flow had twenty round trips to find its rate.

use core::fmt::Write;
use core::time::Duration;

use dunlin_shards::arq::congestion::Algorithm;
use dunlin_tests::World;

use crate::bulk::{Bulk, Line, warm_up};
use crate::{millis, seconds};

const RATES: [u64; 3] = [100, 500, 1_000];
const ROUND_TRIPS_MS: [u64; 4] = [0, 20, 50, 100];
const CONTROLS: [(&str, Algorithm); 2] = [("CUBIC", Algorithm::Cubic), ("BBR", Algorithm::Bbr)];
const LOSSES_PERCENT: [u32; 4] = [0, 1, 5, 10];
/// The table does not follow `DUNLIN_SEED`: it is the same for everybody.
const SEED: u64 = 1;
const KEPT: &str = include_str!("goodput.txt");

/// Few bytes cross a lossy line, so that it can be watched for longer.
fn watched_for(line: &Line) -> Duration {
    match (line.loss_permille, line.round_trip.is_zero()) {
        (_, true) => millis(500),
        (0, false) => line.round_trip * 10 + millis(200),
        (_, false) => seconds(10),
    }
}

/// Kbit/s that arrive.
fn goodput(congestion: Algorithm, line: &Line) -> u64 {
    let mut world = World::from_seed(SEED);
    let mut bulk = Bulk::by(congestion, &mut world, line);
    bulk.run(&mut world, warm_up(line));
    bulk.run(&mut world, watched_for(line)) / 1_000
}

fn table() -> String {
    let mut table = String::from(
        "# Payload that arrives, in Mbit/s, on a line of this rate (Mbit/s, 28 bytes of headers a datagram included)
# and round trip (ms), with a queue of one bandwidth-delay product (128 KiB at least), by independent loss
# in both directions; datagrams of up to 1,452 bytes; simulated, the same on every machine.
# To write it anew: DUNLIN_REWRITE=1 cargo test -p dunlin-tests --test scenarios goodput
",
    );
    // Each control's worlds on a thread of their own: they have nothing in common.
    let parts = std::thread::scope(|scope| {
        CONTROLS
            .map(|(name, congestion)| scope.spawn(move || part(name, congestion)))
            .map(|thread| thread.join().expect("a part of the table was made"))
    });
    table.extend(parts);
    table
}

/// The rows of one control of congestion.
fn part(name: &str, congestion: Algorithm) -> String {
    let mut rows = format!("\n{name:<5}  rate  round trip       0 %       1 %       5 %      10 %\n");
    for rate in RATES {
        for round_trip in ROUND_TRIPS_MS {
            write!(rows, "{name:<5}  {rate:>4}  {round_trip:>10}").expect("a string takes it");
            for percent in LOSSES_PERCENT {
                let line = Line { loss_permille: percent * 10, ..Line::new(rate, round_trip) };
                let kbits = goodput(congestion, &line);
                write!(rows, "{:>8}.{}", kbits / 1_000, kbits % 1_000 / 100).expect("a string takes it");
            }
            rows.push('\n');
        }
    }
    rows
}

/// Lines that differ, as `diff` shows them.
fn differences(kept: &str, found: &str) -> String {
    let (kept, found): (Vec<&str>, Vec<&str>) = (kept.lines().collect(), found.lines().collect());
    let mut shown = String::new();
    for at in 0..kept.len().max(found.len()) {
        let (old, new) = (kept.get(at), found.get(at));
        if old != new {
            for (sign, line) in [('-', old), ('+', new)] {
                if let Some(line) = line {
                    writeln!(shown, "{sign} {line}").expect("a string takes it");
                }
            }
        }
    }
    shown
}

#[test]
fn goodput_is_what_the_table_says() {
    let found = table();
    if std::env::var_os("DUNLIN_REWRITE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/goodput.txt");
        std::fs::write(path, &found).expect("the table can be written");
        return;
    }
    let differences = differences(KEPT, &found);
    assert!(
        differences.is_empty(),
        "goodput changed (- kept, + found); if that is meant, write the table anew:\n{differences}"
    );
}

/// A table that differs is shown line by line.
#[test]
fn a_changed_goodput_is_shown() {
    assert_eq!(differences("a\nb\nc\n", "a\nb\nc\n"), "");
    assert_eq!(differences("a\nb\n", "a\nc\nd\n"), "- b\n+ c\n+ d\n");
}
