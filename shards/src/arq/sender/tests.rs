//! The sender alone, and with a receiver over a link without faults.

use dunlin_codec::frame::{Frame, Frames};
use dunlin_codec::ids::MessageId;

use super::*;
use crate::arq::receiver::{Accepted, CHANNEL_CREDIT_INITIAL, Receiver, ReceiverLimits, charge};
use crate::blocks::BlockPool;

const ROOM: usize = 1_150;

struct Bench {
    pool: BlockPool,
    sender: Sender,
    receiver: Receiver,
    tickets: u64,
    /// What the receiver delivered: channel and length.
    delivered: Vec<(u32, usize)>,
}

impl Bench {
    fn new() -> Self {
        Self::with_queue(64 << 20)
    }

    fn with_queue(queue_len: usize) -> Self {
        let mut sender = Sender::new(SenderLimits { queue_len_max: queue_len, ..SenderLimits::default() });
        while sender.queue_bytes_max() < queue_len {
            let len = sender.window.len();
            sender.window.count(len);
            sender.window.adjust(Instant::ZERO, Duration::ZERO, true);
        }
        let receiver = Receiver::new(ReceiverLimits::default());
        Self { pool: BlockPool::new(256 << 20, 1 << 20), sender, receiver, tickets: 0, delivered: Vec::new() }
    }

    fn message(&mut self, channel: u32, len: usize) -> Outgoing {
        let mut block = self.pool.take(len).unwrap();
        self.tickets += 1;
        let byte = self.tickets as u8;
        block.fill(byte);
        let (ticket, channel, ordered) = (self.tickets, ChannelId(channel), channel < 100);
        Outgoing { ticket, channel, ordered, ..Outgoing::new(block) }
    }

    fn push(&mut self, channel: u32, len: usize) -> u64 {
        let message = self.message(channel, len);
        self.sender.push(message).unwrap();
        self.tickets
    }

    fn push_unreliable(&mut self, channel: u32, len: usize) -> Result<(), PushError> {
        let message = Outgoing { reliable: false, ..self.message(channel, len) };
        self.sender.push(message).map_err(|(error, _)| error)
    }

    /// One packet and its frames, as text.
    fn packet(&mut self, room: usize) -> (Span, Vec<u8>, Vec<String>) {
        let mut bytes = vec![0; room];
        let mut out = Writer::new(&mut bytes);
        let span = self.sender.write_frames(&mut out);
        let len = out.len();
        bytes.truncate(len);
        let texts = Frames::new(&bytes).map(|frame| frame.unwrap().to_string()).collect();
        (span, bytes, texts)
    }

    fn texts(&mut self) -> Vec<String> {
        self.packet(ROOM).2
    }

    /// Sends and acknowledges until nothing may be sent; the application takes all but what is sent on channel 99.
    fn run(&mut self) {
        while self.sender.is_ready() {
            let (span, bytes, _) = self.packet(ROOM);
            self.take_in(&bytes);
            self.sender.on_acked(span);
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        for frame in Frames::new(bytes) {
            match frame.unwrap() {
                Frame::Segment(segment) => {
                    self.receiver.on_segment(Instant::ZERO, &segment, &mut self.pool).unwrap();
                }
                Frame::Skip { channel, message } => {
                    self.receiver.on_skip(channel, message, &mut self.pool).unwrap();
                }
                Frame::CreditBlocked { channel, limit } => {
                    self.receiver.on_credit_blocked(channel, limit).unwrap();
                }
                Frame::ChannelReset { channel, .. } => {
                    self.receiver.on_channel_reset(channel, &mut self.pool).unwrap();
                }
                other => panic!("{other}"),
            }
        }
        assert!(self.receiver.open_count() <= 64);
        while let Some(message) = self.receiver.poll_message() {
            self.delivered.push((message.channel.0, message.block.len()));
            if message.channel.0 != 99 {
                self.receiver.on_consumed(message.channel, u64::from(message.charge));
            }
            self.pool.give(message.block);
        }
        self.take_credit();
    }

    fn take_credit(&mut self) {
        let mut bytes = [0; 4_096];
        let mut out = Writer::new(&mut bytes);
        self.receiver.write_credit(&mut out);
        for frame in Frames::new(out.written()) {
            match frame.unwrap() {
                Frame::SessionCredit { limit } => self.sender.on_session_credit(limit),
                Frame::ChannelCredit { channel, limit } => self.sender.on_channel_credit(channel, limit),
                other => panic!("{other}"),
            }
        }
    }

    fn released(&mut self) -> Vec<(u64, Outcome)> {
        core::iter::from_fn(|| self.sender.poll_released())
            .map(|released| {
                self.pool.give(released.block);
                (released.ticket, released.outcome)
            })
            .collect()
    }
}

#[test]
fn an_idle_session_costs_next_to_nothing() {
    assert!(size_of::<Sender>() + size_of::<Receiver>() <= 300);
    let mut sender = Sender::new(SenderLimits::default());
    assert!(!sender.is_ready() && sender.is_drained() && sender.cancel(ChannelId(1), 1).is_none());
    sender.shrink();
    assert!(sender.state.is_none());
}

#[test]
fn small_messages_share_a_packet_and_one_entry_of_the_log() {
    let mut bench = Bench::new();
    let tickets: Vec<_> = (0..20).map(|_| bench.push(16, 64)).collect();
    let (span, bytes, texts) = bench.packet(ROOM);
    assert_eq!((texts.len(), bytes.len() > 1_050, bench.sender.log_count()), (16, true, 1));
    assert_eq!(texts[0], "segment channel 16 message 0 length 64");
    let (rest, _, texts) = bench.packet(ROOM);
    assert_eq!((texts.len(), bench.sender.is_ready()), (4, false));
    bench.sender.on_acked(rest);
    bench.sender.on_acked(span);
    let released: Vec<_> = bench.released();
    // The later packet's wait for those before them on their channel.
    let expected = tickets.iter().map(|&ticket| (ticket, Outcome::Acked));
    assert_eq!(released, expected.collect::<Vec<_>>());
    assert_eq!((bench.sender.queued_bytes(), bench.sender.is_drained()), (0, true));
}

#[test]
fn a_long_message_fills_packets_to_the_last_byte() {
    let mut bench = Bench::new();
    bench.push(16, 5_000);
    bench.push(16, 64);
    let mut lens = Vec::new();
    let mut texts = Vec::new();
    while bench.sender.is_ready() {
        let (_, bytes, packet) = bench.packet(ROOM);
        lens.push(bytes.len());
        texts.extend(packet);
    }
    assert_eq!(lens[..4], [ROOM; 4]);
    assert_eq!(texts[1], "segment channel 16 message 0 offset 1144 of 5000 length 1143");
    assert_eq!(texts.last().unwrap(), "segment channel 16 message 1 length 64");
    assert_eq!((texts.len(), bench.sender.log_count()), (6, 6));
}

#[test]
fn a_message_that_fits_exactly_needs_no_length() {
    let mut bench = Bench::new();
    bench.push(16, 1_000);
    let (_, bytes, texts) = bench.packet(1_003);
    assert_eq!(
        (bytes.len(), texts.as_slice()),
        (1_003, &["segment channel 16 message 0 length 1000".into()][..])
    );
}

/// spec: atp/reliability
#[test]
fn a_lost_segment_is_sent_again_alone_and_before_anything_new() {
    let mut bench = Bench::new();
    bench.push(16, 4_000);
    let packets: Vec<_> = (0..3).map(|_| bench.packet(ROOM)).collect();
    bench.sender.on_acked(packets[0].0);
    bench.sender.on_acked(packets[2].0);
    bench.sender.on_lost(packets[1].0);
    bench.sender.on_lost(packets[1].0);
    let again = bench.packet(ROOM);
    assert_eq!(again.2, packets[1].2);
    let rest = bench.packet(ROOM);
    assert_eq!((rest.2.len(), bench.sender.is_ready()), (1, false));
    assert_eq!(bench.sender.counts().segments_resent, 1);
    for span in [rest.0, packets[1].0, again.0] {
        assert!(bench.released().is_empty());
        bench.sender.on_acked(span);
    }
    assert_eq!(bench.released(), [(1, Outcome::Acked)]);
}

#[test]
fn a_probe_repeats_what_may_still_be_acknowledged() {
    let mut bench = Bench::new();
    bench.push(16, 100);
    bench.push(16, 100);
    let first = bench.packet(ROOM);
    bench.sender.resend(first.0);
    let probe = bench.packet(ROOM);
    assert_eq!(probe.2, first.2);
    bench.sender.on_acked(first.0);
    bench.sender.on_acked(probe.0);
    assert_eq!(bench.released(), [(1, Outcome::Acked), (2, Outcome::Acked)]);
    assert_eq!((bench.sender.queued_bytes(), bench.sender.log_count()), (0, 0));
}

/// What is lost in large packets can be sent again in smaller ones.
#[test]
fn a_lost_run_is_cut_anew_when_packets_shrink() {
    let mut bench = Bench::new();
    for len in [700, 0, 300, 900] {
        bench.push(16, len);
    }
    let (span, ..) = bench.packet(2_000);
    bench.sender.on_lost(span);
    while bench.sender.is_ready() {
        let (span, bytes, _) = bench.packet(400);
        bench.take_in(&bytes);
        bench.sender.on_acked(span);
    }
    assert_eq!(bench.delivered, [(16, 700), (16, 0), (16, 300), (16, 900)]);
    assert_eq!((bench.released().len(), bench.sender.is_drained()), (4, true));
}

/// spec: atp/cancel
#[test]
fn cancel_of_a_queued_message_frees_its_bytes_in_the_same_call() {
    let mut bench = Bench::new();
    bench.push(16, 60_000);
    let before = bench.sender.queued_bytes();
    let ticket = bench.push(16, 60_000);
    bench.push(16, 10);
    let block = bench.sender.cancel(ChannelId(16), ticket).unwrap();
    assert_eq!((block.len(), bench.sender.queued_bytes()), (60_000, before + 256 + 64));
    assert!(bench.sender.cancel(ChannelId(16), ticket).is_none());
    bench.run();
    assert_eq!(bench.delivered, [(16, 60_000), (16, 10)], "the peer never heard of it");
    assert!(bench.released().iter().all(|(released, _)| *released != ticket));
}

/// spec: atp/cancel
#[test]
fn a_message_cancelled_half_way_is_skipped_and_both_ends_agree_about_credit() {
    for is_first_lost in [false, true] {
        let mut bench = Bench::new();
        let ticket = bench.push(16, 60_000);
        bench.push(16, 10);
        let (span, bytes, _) = bench.packet(ROOM);
        if is_first_lost {
            bench.sender.on_lost(span);
        } else {
            bench.take_in(&bytes);
        }
        let block = bench.sender.cancel(ChannelId(16), ticket).unwrap();
        assert_eq!((block.len(), bench.sender.queued_bytes()), (60_000, 256 + 64));
        let (span, bytes, texts) = bench.packet(ROOM);
        let header = "segment channel 16 message 0 offset 0 of 60000 length 1";
        assert_eq!(texts[..2], [header.to_string(), "skip channel 16 message 0".to_string()]);
        bench.take_in(&bytes);
        bench.sender.on_acked(span);
        assert_eq!(bench.delivered, [(16, 10)]);
        assert_eq!(bench.sender.credit.used, bench.receiver.credit_used());
        assert_eq!((bench.receiver.charged_bytes(), bench.receiver.held_bytes()), (0, 0));
        assert!(bench.sender.is_drained());
    }
}

/// spec: atp/priority
#[test]
fn an_urgent_message_goes_with_the_next_packet() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.push(16, 1 << 20);
    }
    for _ in 0..1_000 {
        let (span, bytes, _) = bench.packet(ROOM);
        bench.take_in(&bytes);
        bench.sender.on_acked(span);
    }
    let message = Outgoing { priority: 10, ..bench.message(3, 50) };
    bench.sender.push(message).unwrap();
    assert_eq!(bench.texts()[0], "segment channel 3 message 0 length 50");
}

/// spec: atp/priority
#[test]
fn the_end_of_the_session_s_credit_belongs_to_the_urgent() {
    let mut bench = Bench::new();
    for channel in [99, 16] {
        for _ in 0..1_000 {
            bench.push(channel, 1_000);
        }
    }
    // Channel 99 is never read: it uses up its own credit, and 16 goes on until the session's is nearly gone.
    while bench.sender.is_ready() {
        bench.packet(ROOM);
    }
    assert!(bench.sender.is_credit_blocked());
    let message = Outgoing { priority: 10, ..bench.message(3, 10_000) };
    bench.sender.push(message).unwrap();
    assert!(bench.texts()[0].starts_with("segment channel 3 message 0 offset 0 of 10000"));
}

#[test]
fn equal_channels_take_turns_by_packet() {
    let mut bench = Bench::new();
    bench.push(16, 20_000);
    bench.push(17, 20_000);
    for _ in 0..100 {
        bench.push(18, 100);
    }
    let mut turns = String::new();
    for _ in 0..9 {
        let texts = bench.texts();
        assert!(texts.iter().all(|text| text[..18] == texts[0][..18]), "{texts:?}");
        turns.push_str(&texts[0][16..18]);
    }
    assert_eq!(turns, "161718161718161718");
}

#[test]
fn a_priority_may_change_while_messages_wait() {
    let mut bench = Bench::new();
    bench.push(16, 20_000);
    bench.push(17, 20_000);
    let message = Outgoing { priority: 200, ..bench.message(16, 10) };
    bench.sender.push(message).unwrap();
    for _ in 0..10 {
        assert!(bench.texts()[0].starts_with("segment channel 17"));
    }
    bench.run();
    assert!(bench.sender.queued_bytes() > 0 && !bench.sender.is_ready());
}

/// spec: atp/credit
#[test]
fn a_channel_without_credit_waits_alone_and_says_so_once() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.push(99, 100_000);
    }
    bench.run();
    assert!(bench.sender.is_credit_blocked());
    let delivered = bench.delivered.len() as u64;
    let early = charge(100_000);
    assert!(delivered * charge(100_000) <= CHANNEL_CREDIT_INITIAL + early && delivered > 10);
    bench.push(16, 500);
    let texts = bench.texts();
    assert_eq!(texts, ["segment channel 16 message 0 length 500"]);
    bench.sender.on_channel_credit(ChannelId(99), 0);
    assert!(!bench.sender.is_ready(), "an old limit changes nothing");
    bench.receiver.on_consumed(ChannelId(99), delivered * charge(100_000));
    bench.take_credit();
    bench.run();
    assert!(bench.delivered.len() as u64 > delivered);
}

/// A large message whose turn it is gets the session's credit before small ones of the same priority.
#[test]
fn small_messages_do_not_starve_a_large_one() {
    let mut bench = Bench::new();
    for _ in 0..1_024 {
        bench.push(20, 1_000);
    }
    while bench.sender.is_ready() {
        let (_, bytes, _) = bench.packet(ROOM);
        bench.take_in(&bytes);
    }
    for channel in [99, 17, 18] {
        bench.push(channel, 600_000);
    }
    for _ in 0..2_000 {
        bench.push(20, 1_000);
    }
    bench.run();
    let large = bench.delivered.iter().filter(|(channel, _)| *channel != 20).count();
    assert_eq!(large, 3);
}

/// The receiver keeps 64 messages open; more channels than that take turns in groups.
#[test]
fn a_hundred_channels_with_long_messages_all_end() {
    let mut bench = Bench::new();
    for channel in 100..200 {
        bench.push(channel, 20_000);
        bench.push(channel, 20_000);
    }
    bench.run();
    assert_eq!(bench.delivered.len(), 200);
    assert!(bench.sender.is_drained());
}

#[test]
fn a_full_queue_takes_one_message_beyond_and_grows_when_it_is_acknowledged_fast() {
    let mut bench = Bench::with_queue(0);
    bench.sender.window = Window::new(1 << 20);
    let mut count = 0;
    let message = loop {
        let message = bench.message(16, 60_000);
        match bench.sender.push(message) {
            Ok(()) => count += 1,
            Err((error, message)) => {
                assert_eq!(error, PushError::QueueFull);
                break message;
            }
        }
    };
    assert_eq!(count, 4, "the fourth lies beyond 256 KiB");
    assert!(bench.sender.queued_bytes() > 256 << 10);
    bench.run();
    bench.sender.on_round_trip(Duration::from_millis(10), Instant::from_nanos(5_000_000));
    assert_eq!(bench.sender.queue_bytes_max(), 512 << 10);
    bench.sender.push(message).unwrap();
}

#[test]
fn what_cannot_be_sent_comes_back() {
    let mut bench = Bench::new();
    let mut refused = |message| bench.sender.push(message).unwrap_err().0;
    let outgoing = |channel, ordered, block| Outgoing {
        ticket: 0,
        block,
        channel: ChannelId(channel),
        ordered,
        reliable: true,
        priority: 128,
        once: false,
        idempotent: false,
    };
    let mut long = bench.pool.take(1 << 20).unwrap();
    long.set_len((1 << 20) + 1);
    assert_eq!(refused(outgoing(1, true, long)), PushError::TooLong);
    bench.sender.push(outgoing(1, true, Block::empty())).unwrap();
    let mut refused = |message| bench.sender.push(message).unwrap_err().0;
    assert_eq!(refused(outgoing(1, false, Block::empty())), PushError::OrderMismatch);
    for channel in 2..=256 {
        bench.sender.push(outgoing(channel, true, Block::empty())).unwrap();
    }
    let mut refused = |message| bench.sender.push(message).unwrap_err().0;
    assert_eq!(refused(outgoing(257, true, Block::empty())), PushError::TooManyChannels);
    bench.sender.close_channel(ChannelId(1), 7);
    let mut refused = |message| bench.sender.push(message).unwrap_err().0;
    assert_eq!(refused(outgoing(1, true, Block::empty())), PushError::ChannelClosed);
}

#[test]
fn unreliable_messages_are_forgotten_when_written_and_the_oldest_make_room() {
    let mut bench = Bench::new();
    for _ in 0..300 {
        bench.push_unreliable(100, 1_000).unwrap();
    }
    let dropped = bench.sender.counts().unreliable_dropped;
    assert_eq!(dropped, 300 - (256u64 << 10).div_ceil(1_280 + 64));
    assert_eq!(bench.released(), (1..=dropped).map(|t| (t, Outcome::Abandoned)).collect::<Vec<_>>());
    assert_eq!(bench.push_unreliable(101, 10), Err(PushError::QueueFull), "no other channel's make room");
    bench.run();
    assert_eq!(bench.delivered.len() as u64, 300 - dropped);
    assert!(bench.released().iter().all(|(_, outcome)| *outcome == Outcome::Sent));
    assert_eq!((bench.sender.is_drained(), bench.sender.log_count()), (true, 0));
}

/// On an ordered channel an unreliable message keeps its place among the reliable ones, also when one before it is cancelled.
#[test]
fn an_unreliable_message_names_the_reliable_ones_before_it() {
    let mut bench = Bench::new();
    bench.push_unreliable(16, 11).unwrap();
    bench.push(16, 12);
    let cancelled = bench.push(16, 13);
    bench.push_unreliable(16, 2_000).unwrap();
    bench.push(16, 15);
    bench.sender.cancel(ChannelId(16), cancelled).unwrap();
    bench.run();
    assert_eq!(bench.delivered, [(16, 11), (16, 12), (16, 2_000), (16, 15)]);
}

#[test]
fn a_channel_that_is_given_up_ends_at_both_ends_and_returns_its_credit() {
    let mut bench = Bench::new();
    for len in [5_000, 60_000, 70] {
        bench.push(16, len);
    }
    bench.push_unreliable(16, 10).unwrap();
    let lost = bench.packet(ROOM);
    let (span, bytes, _) = bench.packet(ROOM);
    bench.take_in(&bytes);
    bench.sender.on_acked(span);
    bench.sender.close_channel(ChannelId(16), 7);
    bench.sender.on_lost(lost.0);
    assert!(bench.released().iter().all(|(_, outcome)| *outcome == Outcome::Abandoned));
    assert_eq!(bench.sender.queued_bytes(), 0);
    bench.push(17, 10);
    let (span, bytes, texts) = bench.packet(ROOM);
    assert!(texts.contains(&"channel-reset channel 16 code 7".to_string()), "{texts:?}");
    bench.take_in(&bytes);
    bench.sender.on_acked(span);
    bench.run();
    assert_eq!(bench.delivered, [(17, 10)]);
    assert_eq!(bench.sender.credit.used, bench.receiver.credit_used());
    assert_eq!((bench.receiver.charged_bytes(), bench.receiver.held_bytes()), (0, 0));
    assert!(bench.sender.is_drained());
}

#[test]
fn what_a_session_leaves_behind_comes_back_in_order() {
    let mut bench = Bench::new();
    let acked = bench.push(16, 1_000);
    let (span, ..) = bench.packet(ROOM);
    bench.sender.on_acked(span);
    let sent = Outgoing { once: true, ..bench.message(16, 600) };
    bench.sender.push(sent).unwrap();
    bench.packet(ROOM);
    let queued = Outgoing { idempotent: true, ..bench.message(16, 600) };
    bench.sender.push(queued).unwrap();
    bench.push_unreliable(16, 5).unwrap();
    assert_eq!(bench.released(), [(acked, Outcome::Acked)]);
    let left: Vec<_> = bench.sender.into_undelivered();
    let facts = left.iter().map(|left| {
        let Outgoing { ticket, once, idempotent, reliable, ordered, .. } = left.message;
        assert!(ordered && left.message.channel == ChannelId(16));
        (ticket, left.message.block.len(), once, idempotent, reliable, left.may_have_arrived)
    });
    let expected = [
        (2, 600, true, false, true, true),
        (3, 600, false, true, true, false),
        (4, 5, false, false, false, false),
    ];
    assert_eq!(facts.collect::<Vec<_>>(), expected);
}

/// A lying peer's acknowledgement of a span twice, or of one that is long gone, changes nothing.
#[test]
fn a_span_counts_once() {
    let mut bench = Bench::new();
    bench.push(16, 100);
    let (span, bytes, _) = bench.packet(ROOM);
    for _ in 0..3 {
        bench.sender.on_acked(span);
    }
    bench.sender.on_lost(span);
    assert_eq!((bench.released().len(), bench.sender.is_ready()), (1, false));
    let Frame::Segment(segment) = Frames::new(&bytes).next().unwrap().unwrap() else { panic!() };
    assert_eq!(segment.message, MessageId(0));
    let accepted = bench.receiver.on_segment(Instant::ZERO, &segment, &mut bench.pool);
    assert_eq!(accepted, Ok(Accepted::Delivered));
}

mod held;
