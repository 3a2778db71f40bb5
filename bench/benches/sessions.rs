//! Sessions: two shards in memory, and two engines over loopback. `cargo bench -p dunlin-bench --bench sessions`.

use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dunlin::{Config, Engine, Event, Peer};
use dunlin_bench::pair::{Costs, Pair, Shape};
use dunlin_shards::session::aws_lc::AwsLc;

/// Datagrams sent in one turn of the bench.
const DATAGRAMS: u64 = 10_000;
/// Bytes of a bulk message.
const BULK_LEN: usize = 64 << 10;
/// Bulk messages in one turn of the bench.
const BULK: u64 = 64;

/// The time of the slower side, per datagram: what one core each would need.
fn in_memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory");
    group.sample_size(10).throughput(Throughput::Elements(DATAGRAMS));
    for (name, message_len) in [("bulk", BULK_LEN), ("64 bytes", 64)] {
        let mut pair = Pair::<AwsLc>::connect(Shape { message_len, ..Shape::default() });
        pair.run(DATAGRAMS, &mut Costs::default());
        group.bench_function(name, |bench| {
            bench.iter_custom(|turns| {
                let mut costs = Costs::default();
                pair.run(turns * DATAGRAMS, &mut costs);
                costs.sender().max(costs.receiver())
            });
        });
    }
    group.finish();
}

/// Two engines of this process; the far one sends short messages back and takes long ones.
fn connect() -> (Engine, Peer) {
    let start = || {
        let config = Config::default().listen(([127, 0, 0, 1], 0).into()).cores(1);
        Engine::builder(config).ephemeral().start().expect("a node starts on loopback")
    };
    let (near, far) = (start(), start());
    let uri = format!("dunlin://{}@{}", far.id(), far.local_addr());
    thread::spawn(move || {
        while let Some(event) = far.event_timeout(Duration::from_secs(10)) {
            let Event::Accepted(peer) = event else { continue };
            while let Ok(message) = peer.recv() {
                if message.len() < BULK_LEN && peer.send(&message).is_err() {
                    break;
                }
            }
        }
    });
    let peer = near.connect(&uri).expect("the far node answers");
    (near, peer)
}

fn over_loopback(criterion: &mut Criterion) {
    let (_near, peer) = connect();
    let mut group = criterion.benchmark_group("loopback");
    group.sample_size(10);
    group.bench_function("hop, round trip, hop: 64 bytes", |bench| {
        bench.iter(|| {
            peer.send(&[1; 64]).expect("the session is open");
            peer.recv().expect("the session is open").len()
        });
    });
    let bulk = vec![2; BULK_LEN];
    group.throughput(Throughput::Bytes(BULK * BULK_LEN as u64));
    group.bench_function("bulk", |bench| {
        bench.iter(|| {
            (0..BULK).for_each(|_| peer.send(&bulk).expect("the session is open"));
            // Comes back when all the rest has arrived.
            peer.send(&[1; 64]).expect("the session is open");
            peer.recv().expect("the session is open").len()
        });
    });
    group.finish();
    peer.close(0);
}

criterion_group!(benches, in_memory, over_loopback);
criterion_main!(benches);
