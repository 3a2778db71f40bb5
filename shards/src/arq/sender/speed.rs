//! What a message costs in here, printed: `cargo test --release -p dunlin-shards speed -- --ignored --nocapture --test-threads 1`.

use std::time::Instant as Clock;

use dunlin_codec::bytes::Writer;
use dunlin_codec::frame::{Frame, Frames};

use super::*;
use crate::arq::receiver::{Receiver, ReceiverLimits};
use crate::blocks::BlockPool;

/// Bytes of frames in a packet of a 1,200-byte datagram.
const PACKET_LEN: usize = 1_176;
/// Packets between acknowledgements.
const BATCH: usize = 48;

/// Nanoseconds spent in each half of the work.
#[derive(Default)]
struct Spent {
    push: u128,
    write: u128,
    receive: u128,
    acknowledge: u128,
}

struct Bench {
    near: BlockPool,
    far: BlockPool,
    sender: Sender,
    receiver: Receiver,
    packets: Vec<(Span, Vec<u8>)>,
    spent: Spent,
    ticket: u64,
    delivered: u64,
    segments: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            near: BlockPool::new(64 << 20, 1 << 20),
            far: BlockPool::new(64 << 20, 1 << 20),
            sender: Sender::new(SenderLimits::default()),
            receiver: Receiver::new(ReceiverLimits::default()),
            packets: vec![(Span::default(), vec![0; PACKET_LEN]); BATCH],
            spent: Spent::default(),
            ticket: 0,
            delivered: 0,
            segments: 0,
        }
    }

    /// One batch: queue until full, fill packets, take them in, acknowledge them.
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    fn round(&mut self, len: usize, bytes: &[u8]) {
        let start = Clock::now();
        while !self.sender.is_full() {
            let mut block = self.near.take(len).unwrap();
            block.copy_from_slice(&bytes[..len]);
            self.ticket += 1;
            let message = Outgoing { ticket: self.ticket, ..Outgoing::new(block) };
            assert!(self.sender.push(message).is_ok());
        }
        let pushed = Clock::now();
        let mut count = 0;
        while count < BATCH && self.sender.is_ready() {
            let (span, packet) = &mut self.packets[count];
            packet.resize(PACKET_LEN, 0);
            let mut out = Writer::new(packet);
            *span = self.sender.write_frames(&mut out);
            let written = out.len();
            packet.truncate(written);
            count += 1;
        }
        let written = Clock::now();
        self.receive(count);
        let received = Clock::now();
        for index in 0..count {
            self.sender.on_acked(self.packets[index].0);
        }
        while let Some(released) = self.sender.poll_released() {
            self.near.give(released.block);
        }
        self.spent.push += (pushed - start).as_nanos();
        self.spent.write += (written - pushed).as_nanos();
        self.spent.receive += (received - written).as_nanos();
        self.spent.acknowledge += received.elapsed().as_nanos();
    }

    fn receive(&mut self, count: usize) {
        for (_, packet) in &self.packets[..count] {
            for frame in Frames::new(packet) {
                if let Ok(Frame::Segment(segment)) = frame {
                    self.segments += 1;
                    self.receiver.on_segment(Instant::ZERO, &segment, &mut self.far).unwrap();
                }
            }
        }
        while let Some(message) = self.receiver.poll_message() {
            self.delivered += 1;
            self.receiver.on_consumed(message.channel, u64::from(message.charge));
            self.far.give(message.block);
        }
        if self.receiver.is_credit_due() {
            let mut bytes = [0; 64];
            let mut out = Writer::new(&mut bytes);
            self.receiver.write_credit(&mut out);
            for frame in Frames::new(out.written()) {
                match frame {
                    Ok(Frame::SessionCredit { limit }) => self.sender.on_session_credit(limit),
                    Ok(Frame::ChannelCredit { channel, limit }) => {
                        self.sender.on_channel_credit(channel, limit)
                    }
                    _ => {}
                }
            }
        }
    }

    fn print(&self, what: &str, count: u64) {
        let each = |nanos: u128| nanos as f64 / count as f64;
        let Spent { push, write, receive, acknowledge } = self.spent;
        println!(
            "{what}: {:.1} ns (push {:.1}, write {:.1}, receive {:.1}, acknowledge {:.1})",
            each(push + write + receive + acknowledge),
            each(push),
            each(write),
            each(receive),
            each(acknowledge)
        );
    }
}

#[test]
#[ignore = "prints figures"]
fn speed_of_small_messages() {
    let bytes = [0xab; 64];
    for rounds in [100, 4_000] {
        let mut bench = Bench::new();
        for _ in 0..rounds {
            bench.round(64, &bytes);
        }
        assert!(bench.delivered > rounds);
        bench.print("64-byte message", bench.delivered);
    }
}

#[test]
#[ignore = "prints figures"]
fn speed_of_bulk_segments() {
    let bytes = vec![0xcd; 1 << 20];
    for len in [64 << 10, 1 << 20] {
        let mut bench = Bench::new();
        for _ in 0..8_000 {
            bench.round(len, &bytes);
        }
        bench.print(&format!("segment of a {len}-byte message"), bench.segments);
    }
}
