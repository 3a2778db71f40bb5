//! What each layer costs alone: bytes, keys, windows, timers. `cargo bench -p dunlin-bench --bench layers`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dunlin_codec::args::{FindValue, Request};
use dunlin_codec::bytes::{Reader, Writer};
use dunlin_codec::frame::{Frame, Frames, Part, Segment, write_ack};
use dunlin_codec::ids::{Address, ChannelId, MessageId, NodeId, PacketNumber};
use dunlin_codec::message::{self, Direct, DirectMessages, EVERYBODY, Operation, Signed, SignedHeader};
use dunlin_codec::msgpack::{Encoded, write};
use dunlin_codec::packet::Packet;
use dunlin_codec::record::Key;
use dunlin_codec::sealed::HEADER_LEN;
use dunlin_codec::suite::{Suite, TAG_LEN};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::crypto::{Crypto, PacketKey};
use dunlin_shards::session::replay::{Freshness, ReplayWindow};
use dunlin_shards::time::Instant;
use dunlin_shards::timers::Timers;

/// Bytes of the largest datagram in the figures.
const DATAGRAM_LEN: usize = 1_200;
/// Timers that are set while one is moved.
const TIMERS: u32 = 10_000;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let datagram = [0x80; DATAGRAM_LEN];
    group.bench_function("sealed/parse", |bench| bench.iter(|| Packet::parse(black_box(&datagram)).is_ok()));
    let mut plain = [0; DATAGRAM_LEN];
    let mut out = Writer::new(&mut plain);
    let segment = Segment {
        channel: ChannelId(16),
        message: MessageId(1_000),
        unordered: false,
        unreliable: None,
        part: Some(Part { offset: 4_096, total: 65_536 }),
        bytes: &datagram[..1_000],
    };
    group.bench_function("segment/write", |bench| {
        let mut room = [0; DATAGRAM_LEN];
        bench.iter(|| black_box(&segment).write(&mut Writer::new(&mut room), true));
    });
    let ranges = (0..8_u64).rev().map(|at| at * 100..=at * 100 + 50);
    write_ack(&mut out, ranges, 25, None).expect("there is room");
    Frame::Segment(segment).write(&mut out).expect("there is room");
    let len = out.len();
    group.bench_function("frames/parse", |bench| {
        bench.iter(|| Frames::new(black_box(&plain[..len])).filter(Result::is_ok).count());
    });
    group.finish();
}

/// A FIND_VALUE, a shout of 200 bytes, a map of 1,000 names: what arrives most, and what is worst.
fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("messages");
    let mut room = vec![0; 64 << 10];
    let mut out = Writer::new(&mut room);
    let key = Key::parse(b"\xa4news").expect("a value").expect("a key");
    let find = Request::FindValue(FindValue { address: Address([7; 32]), key });
    find.write(&mut out).expect("there is room");
    let payload = out.written().to_vec();
    out.rewind(0);
    let direct = Direct { operation: Operation::FindValue, is_sealed: false, request: 77, payload: &payload };
    direct.write(&mut out).expect("there is room");
    let bytes = out.written().to_vec();
    group.bench_function("find-value/parse", |bench| {
        bench.iter(|| {
            let message = DirectMessages::new(black_box(&bytes)).next()?.ok()?;
            Request::parse(message.operation, message.payload).ok().map(|request| request.operation())
        });
    });
    group.bench_function("find-value/write", |bench| {
        let mut room = [0; 256];
        bench.iter(|| black_box(&find).write(&mut Writer::new(&mut room)));
    });
    out.rewind(0);
    let freshness = Some(message::Freshness { time_ms: 1, instance: 2, count: 3 });
    let (from, to) = (NodeId([1; 32]), EVERYBODY);
    let header = SignedHeader { operation: Operation::Shout, is_sealed: false, from, to, freshness };
    header.write(&mut out, &[0x07; 200]).expect("there is room");
    let bytes = out.written().to_vec();
    group.bench_function("shout/parse", |bench| {
        bench.iter(|| Signed::parse(&mut Reader::new(black_box(&bytes))).map(|shout| shout.freshness()));
    });
    for (name, step) in [("in order", 1), ("in no order", 617)] {
        out.rewind(0);
        write::map(&mut out, 1_000).expect("there is room");
        for at in 0..1_000 {
            write::str(&mut out, &format!("name-{:04}", at * step % 1_000)).expect("there is room");
            write::unsigned(&mut out, at).expect("there is room");
        }
        let bytes = out.written().to_vec();
        group.bench_function(format!("msgpack/1,000 names {name}"), |bench| {
            bench.iter(|| Encoded::parse(black_box(&bytes)).is_ok());
        });
    }
    group.finish();
}

fn sealing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sealing");
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        let key = AwsLc::key(suite, &[7; 32]);
        for len in [64, DATAGRAM_LEN, 8_192] {
            group.throughput(Throughput::Bytes(len as u64));
            let mut number = 0;
            let mut packet = vec![0; len + TAG_LEN];
            group.bench_function(format!("seal/{suite:?}/{len}"), |bench| {
                bench.iter(|| {
                    number += 1;
                    key.seal(PacketNumber(number), &[0; HEADER_LEN], &mut packet[..len])
                });
            });
            let tag = key.seal(PacketNumber(0), &[0; HEADER_LEN], &mut packet[..len]);
            packet[len..].copy_from_slice(&tag);
            group.bench_function(format!("open/{suite:?}/{len}"), |bench| {
                let open = |mut packet: Vec<u8>| {
                    assert!(
                        key.open(PacketNumber(0), &[0; HEADER_LEN], &mut packet).is_ok(),
                        "it was sealed so"
                    );
                    packet
                };
                bench.iter_batched(|| packet.clone(), open, BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}

fn windows(criterion: &mut Criterion) {
    criterion.bench_function("replay/check and commit", |bench| {
        let mut window = ReplayWindow::default();
        let mut number = 0;
        bench.iter(|| {
            number += 1;
            let is_fresh = window.check(PacketNumber(number)) == Freshness::Fresh;
            window.commit(PacketNumber(number));
            is_fresh
        });
    });
}

fn timers(criterion: &mut Criterion) {
    criterion.bench_function("timers/set one of 10,000", |bench| {
        let mut timers = Timers::with_keys(TIMERS as usize);
        for key in 0..TIMERS {
            timers.set(key, Instant::from_nanos(u64::from(key) * 1_000_000));
        }
        let (mut key, mut now) = (0, Instant::from_nanos(0));
        bench.iter(|| {
            key = (key + 7_919) % TIMERS;
            now += Duration::from_micros(1);
            timers.set(key, now + Duration::from_millis(u64::from(key % 500)));
            timers.next()
        });
    });
}

criterion_group!(benches, codec, messages, sealing, windows, timers);
criterion_main!(benches);
