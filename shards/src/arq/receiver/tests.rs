//! The receiver alone: order, reassembly against a naive model, and peers that misbehave.

use std::collections::VecDeque;

use dunlin_codec::frame::{Frame, Frames, Part};
use proptest::prelude::*;

use super::*;
use crate::limits::{BUFFER_LEN_MIN, GAPS_MAX, OPEN_MESSAGES_MAX, REASSEMBLY_LIFE};

struct Bench {
    receiver: Receiver,
    pool: BlockPool,
    now: Instant,
}

type Outcome = Result<Accepted, Refusal>;

const fn violation(violation: Violation) -> Outcome {
    Err(Refusal::Violation(violation))
}

impl Bench {
    fn new() -> Self {
        let receiver = Receiver::new(ReceiverLimits::default());
        Self { receiver, pool: BlockPool::new(64 << 20, 1 << 20), now: Instant::ZERO }
    }

    fn segment(&mut self, segment: Segment<'_>) -> Outcome {
        self.receiver.on_segment(self.now, &segment, &mut self.pool)
    }

    fn whole(&mut self, channel: u32, message: u64, bytes: &[u8]) -> Outcome {
        self.segment(whole(channel, message, bytes))
    }

    fn part(&mut self, channel: u32, message: u64, (offset, total): (u32, u32), bytes: &[u8]) -> Outcome {
        self.segment(part(channel, message, (offset, total), bytes))
    }

    fn unreliable(&mut self, message: u64, after: u64, bytes: &[u8]) -> Outcome {
        self.segment(Segment { unreliable: Some(after), ..whole(2, message, bytes) })
    }

    /// What may be polled, as text.
    fn polled(&mut self) -> String {
        let mut texts = Vec::new();
        while let Some(message) = self.receiver.poll_message() {
            self.receiver.on_consumed(message.channel, u64::from(message.charge));
            texts.push(String::from_utf8(message.block.to_vec()).unwrap());
            self.pool.give(message.block);
        }
        texts.join(" ")
    }

    /// The credit frames that are due.
    fn credit(&mut self) -> (CreditSpan, Vec<(Option<ChannelId>, u64)>) {
        let mut bytes = [0; 4_096];
        let mut out = Writer::new(&mut bytes);
        let span = self.receiver.write_credit(&mut out);
        let limits = Frames::new(out.written()).map(|frame| match frame.unwrap() {
            Frame::SessionCredit { limit } => (None, limit),
            Frame::ChannelCredit { channel, limit } => (Some(channel), limit),
            other => panic!("{other:?}"),
        });
        (span, limits.collect())
    }

    fn is_clean(&self) -> bool {
        self.receiver.held_bytes() == 0 && self.pool.allocated_bytes() == self.pool.free_bytes()
    }
}

/// Channels from 100 on are unordered.
fn whole(channel: u32, message: u64, bytes: &[u8]) -> Segment<'_> {
    let (channel, message, unordered) = (ChannelId(channel), MessageId(message), channel >= 100);
    Segment { channel, message, unordered, unreliable: None, part: None, bytes }
}

fn part(channel: u32, message: u64, (offset, total): (u32, u32), bytes: &[u8]) -> Segment<'_> {
    Segment { part: Some(Part { offset, total }), ..whole(channel, message, bytes) }
}

#[test]
fn an_ordered_channel_delivers_by_number_and_channels_do_not_wait_for_each_other() {
    let mut bench = Bench::new();
    assert_eq!(bench.whole(1, 2, b"c"), Ok(Accepted::Kept));
    assert_eq!(bench.whole(1, 1, b"b"), Ok(Accepted::Kept));
    assert_eq!(bench.whole(2, 0, b"other"), Ok(Accepted::Delivered));
    assert_eq!(bench.whole(100, 7, b"loose"), Ok(Accepted::Delivered));
    assert_eq!(bench.polled(), "other loose");
    assert_eq!(bench.part(1, 0, (0, 1), b"a"), Ok(Accepted::Delivered));
    assert_eq!(bench.polled(), "a b c");
    for message in 0..3 {
        assert_eq!(bench.whole(1, message, b"x"), Ok(Accepted::Duplicate));
    }
    assert_eq!(bench.whole(100, 7, b"loose"), Ok(Accepted::Duplicate));
    assert!(bench.is_clean());
}

#[test]
fn a_skipped_message_is_passed_whatever_was_here_of_it() {
    let mut bench = Bench::new();
    bench.part(1, 0, (0, 4), b"ab").unwrap();
    bench.whole(1, 1, b"b").unwrap();
    bench.whole(1, 3, b"d").unwrap();
    for message in [1, 2, 0, 0] {
        bench.receiver.on_skip(ChannelId(1), MessageId(message), &mut bench.pool).unwrap();
    }
    assert_eq!(bench.polled(), "d");
    assert_eq!(bench.whole(1, 0, b"abcd"), Ok(Accepted::Duplicate));
    assert_eq!((bench.receiver.charged_bytes(), bench.is_clean()), (0, true));
}

#[test]
fn a_reset_channel_delivers_nothing_more_and_pays_everything_back() {
    let mut bench = Bench::new();
    bench.part(1, 0, (0, 4), b"ab").unwrap();
    bench.whole(1, 1, b"b").unwrap();
    bench.segment(Segment { unreliable: Some(2), ..whole(1, 0, b"u") }).unwrap();
    bench.receiver.on_channel_reset(ChannelId(1), &mut bench.pool).unwrap();
    assert_eq!(bench.whole(1, 5, b"later"), Ok(Accepted::Dropped));
    assert_eq!(bench.part(1, 4, (1, 9), b"later"), Ok(Accepted::Dropped));
    bench.whole(2, 0, b"alive").unwrap();
    assert_eq!(bench.polled(), "alive");
    // Messages 2 and 3 were never seen: their least is charged, and held back until they are.
    assert_eq!((bench.receiver.charged_bytes(), bench.is_clean()), (2 * MESSAGE_CHARGE_MIN, true));
}

/// An unreliable message on an ordered channel: between the reliable ones that its sender put around it, or not at all.
#[test]
fn an_unreliable_message_arrives_in_order_or_not_at_all() {
    let mut bench = Bench::new();
    assert_eq!(bench.unreliable(0, 0, b"u0"), Ok(Accepted::Delivered));
    assert_eq!(bench.unreliable(3, 2, b"u3"), Ok(Accepted::Kept));
    assert_eq!(bench.unreliable(2, 2, b"u2"), Ok(Accepted::Kept));
    assert_eq!(bench.unreliable(4, 3, b"u4"), Ok(Accepted::Kept));
    assert_eq!(bench.whole(2, 1, b"r1"), Ok(Accepted::Kept));
    assert_eq!(bench.whole(2, 2, b"r2"), Ok(Accepted::Kept));
    assert_eq!(bench.whole(2, 0, b"r0"), Ok(Accepted::Delivered));
    assert_eq!(bench.polled(), "u0 r0 r1 u2 u3 r2 u4");
    assert_eq!(bench.unreliable(1, 1, b"u1"), Ok(Accepted::Dropped));
    assert_eq!(bench.unreliable(5, 2, b"u5"), Ok(Accepted::Dropped));
    assert_eq!((bench.receiver.unreliable_dropped(), bench.is_clean()), (2, true));
}

#[test]
fn an_incomplete_unreliable_message_lives_thirty_seconds() {
    let mut bench = Bench::new();
    let piece = Segment { unreliable: Some(0), ..part(100, 0, (0, 8), b"half") };
    assert_eq!(bench.segment(piece), Ok(Accepted::Kept));
    assert_eq!(bench.unreliable(0, 1, b"waits"), Ok(Accepted::Kept));
    bench.part(1, 0, (0, 8), b"half").unwrap();
    let over = Instant::ZERO + REASSEMBLY_LIFE;
    assert_eq!(bench.receiver.deadline(), Some(over));
    bench.receiver.on_tick(Instant::from_nanos(over.as_nanos() - 1), &mut bench.pool);
    assert_eq!(bench.receiver.open_count(), 2);
    bench.receiver.on_tick(over, &mut bench.pool);
    assert_eq!((bench.receiver.open_count(), bench.receiver.deadline()), (1, None));
    assert_eq!(bench.part(1, 0, (4, 8), b"full"), Ok(Accepted::Delivered));
    assert_eq!(bench.polled(), "halffull");
    assert!(bench.is_clean());
}

#[test]
fn unreliable_messages_nobody_takes_stay_within_their_memory() {
    let mut bench = Bench::new();
    for id in 0..200_000u64 {
        let bytes = [0; 1_000];
        let bytes = if id % 2 == 0 { &bytes[..] } else { &[] };
        bench.segment(Segment { unreliable: Some(0), ..whole(100, id, bytes) }).unwrap();
        bench.segment(Segment { unreliable: Some(0), ..part(101, id, (0, 9_000), &[1]) }).unwrap();
    }
    assert!(bench.receiver.held_bytes() <= 3 * MESSAGE_LEN_MAX);
    assert!(bench.receiver.state.as_ref().unwrap().ready.len() < 40_000);
    assert!(bench.receiver.open_count() <= OPEN_MESSAGES_MAX);
}

#[test]
fn the_first_round_of_credit_holds_one_largest_message_and_the_smallest_window() {
    let mut bench = Bench::new();
    let total = MESSAGE_LEN_MAX as u32;
    assert_eq!(bench.part(1, 0, (0, total), b"x"), Ok(Accepted::Kept));
    // 3/4 of the window are left on this channel: 768 empty messages.
    for message in 1..=768 {
        assert!(bench.whole(1, message, b"").is_ok());
    }
    assert_eq!(bench.whole(1, 769, b""), violation(Violation::BeyondCredit));
    for message in 0..256 {
        assert!(bench.whole(3, message, b"").is_ok());
    }
    assert_eq!(bench.whole(3, 256, b""), violation(Violation::BeyondCredit));
    let kept = MESSAGE_LEN_MAX + BUFFER_LEN_MIN;
    assert!(bench.receiver.held_bytes() <= kept);
}

/// A flood of empty messages pays for itself; so does a number far ahead.
/// spec: atp/credit
#[test]
fn empty_messages_and_numbers_far_ahead_are_paid_for() {
    let mut bench = Bench::new();
    let far = CHANNEL_CREDIT_INITIAL / MESSAGE_CHARGE_MIN;
    assert_eq!(bench.whole(1, u64::MAX >> 2, b""), violation(Violation::BeyondCredit));
    assert_eq!(bench.whole(1, far, b""), violation(Violation::BeyondCredit));
    assert_eq!(bench.whole(1, far - 1, b""), Ok(Accepted::Kept));
    let skip = bench.receiver.on_skip(ChannelId(1), MessageId(far), &mut bench.pool);
    assert_eq!(skip, Err(Refusal::Violation(Violation::BeyondCredit)));
    assert_eq!(bench.whole(1, 0, b""), Ok(Accepted::Delivered), "its place was paid");
    let places = bench.receiver.state.as_ref().unwrap().channels[0].ahead.len();
    assert_eq!(places as u64, far - 1);
    let mut session = 0;
    while bench.whole(100, session, b"").is_ok() {
        session += 1;
    }
    assert_eq!(session + far, SESSION_CREDIT_INITIAL / MESSAGE_CHARGE_MIN);
}

#[test]
fn a_hole_on_an_unordered_channel_holds_credit_back_so_the_window_stays_bounded() {
    let mut bench = Bench::new();
    let mut message = 1;
    while bench.whole(100, message, b"").is_ok() {
        message += 1;
        if message % 64 == 0 {
            bench.polled();
            bench.credit();
        }
    }
    // The window may have grown, but however fast the application takes them: places are what credit holds.
    let limit = credit::channel_span(bench.receiver.window_bytes(), MESSAGE_LEN_MAX);
    assert!(message * MESSAGE_CHARGE_MIN <= limit);
    bench.polled();
    bench.receiver.on_skip(ChannelId(100), MessageId(0), &mut bench.pool).unwrap();
    let (_, limits) = bench.credit();
    assert_eq!(limits.len(), 2, "session and channel go on");
    assert!(bench.whole(100, message, b"").is_ok());
}

#[test]
fn sprayed_gaps_are_bounded_and_heal() {
    let mut bench = Bench::new();
    let total = 8 * GAPS_MAX as u32;
    for at in 0..GAPS_MAX as u32 {
        assert_eq!(bench.part(1, 0, (2 + 4 * at, total), b"x"), Ok(Accepted::Kept));
    }
    let one_more = (2 + 4 * GAPS_MAX as u32, total);
    assert_eq!(bench.part(1, 0, one_more, b"x"), Err(Refusal::NoMemory));
    assert_eq!(bench.part(2, 0, (1, 2), b"x"), Err(Refusal::NoMemory), "gaps are counted together");
    assert_eq!(bench.part(1, 0, (0, total), b"xx"), Ok(Accepted::Kept));
    assert_eq!(bench.part(1, 0, one_more, b"x"), Ok(Accepted::Kept));
    bench.part(1, 0, (0, total), &vec![7; total as usize]).unwrap();
    assert_eq!(bench.polled().len(), total as usize);
}

#[test]
fn open_messages_are_bounded_and_unreliable_ones_give_way() {
    let mut bench = Bench::new();
    bench.segment(Segment { unreliable: Some(0), ..part(100, 0, (0, 2), b"u") }).unwrap();
    for message in 0..OPEN_MESSAGES_MAX as u64 {
        assert_eq!(bench.part(1, message, (0, 2), b"x"), Ok(Accepted::Kept));
    }
    assert_eq!(bench.receiver.unreliable_dropped(), 1);
    assert_eq!(bench.part(1, 64, (0, 2), b"x"), Err(Refusal::NoMemory));
    let piece = Segment { unreliable: Some(0), ..part(100, 1, (0, 2), b"u") };
    assert_eq!(bench.segment(piece), Ok(Accepted::Dropped));
    assert_eq!(bench.part(1, 0, (1, 2), b"y"), Ok(Accepted::Delivered), "open ones go on");
    assert_eq!(bench.part(1, 64, (0, 2), b"x"), Ok(Accepted::Kept));
}

#[test]
fn ten_thousand_channels_are_too_many() {
    let mut bench = Bench::new();
    for channel in 0..CHANNELS_MAX as u32 {
        assert!(bench.whole(1_000 + channel, 0, b"x").is_ok());
    }
    for channel in CHANNELS_MAX as u32..10_000 {
        assert_eq!(bench.whole(1_000 + channel, 0, b"x"), violation(Violation::TooManyChannels));
    }
    let blocked = bench.receiver.on_credit_blocked(Some(ChannelId(5)), 0);
    assert_eq!(blocked, Err(Refusal::Violation(Violation::TooManyChannels)));
}

#[test]
fn a_peer_that_contradicts_itself_is_a_violation() {
    let mut bench = Bench::new();
    bench.part(1, 0, (0, 10), b"x").unwrap();
    assert_eq!(bench.part(1, 0, (1, 11), b"x"), violation(Violation::ConflictingTotal));
    assert_eq!(bench.whole(1, 0, b"short"), violation(Violation::ConflictingTotal));
    assert_eq!(bench.part(1, 0, (9, 10), b"xx"), violation(Violation::BeyondEnd));
    let total = MESSAGE_LEN_MAX as u32 + 1;
    assert_eq!(bench.part(1, 1, (0, total), b"x"), violation(Violation::TooLong));
    let unordered = Segment { unordered: true, ..whole(1, 1, b"x") };
    assert_eq!(bench.segment(unordered), violation(Violation::OrderMismatch));
    let first = Segment { unreliable: Some(0), ..part(100, 0, (0, 10), b"x") };
    bench.segment(first).unwrap();
    let second = Segment { unreliable: Some(0), ..part(100, 0, (1, 11), b"x") };
    assert_eq!(bench.segment(second), violation(Violation::ConflictingTotal));
}

#[test]
fn without_memory_nothing_is_kept_and_the_next_copy_is_welcome() {
    let mut bench = Bench::new();
    bench.pool = BlockPool::new(600, 1 << 20);
    bench.whole(1, 0, b"a").unwrap();
    bench.whole(1, 2, b"c").unwrap();
    assert_eq!(bench.whole(1, 1, b"b"), Err(Refusal::NoMemory));
    assert_eq!(bench.part(1, 1, (0, 2), b"b"), Err(Refusal::NoMemory));
    let used = bench.receiver.credit_used();
    assert_eq!(bench.polled(), "a");
    assert_eq!(bench.whole(1, 1, b"b"), Ok(Accepted::Delivered));
    assert_eq!((bench.polled().as_str(), bench.receiver.credit_used()), ("b c", used));
}

#[test]
fn credit_is_told_when_it_grew_and_again_when_its_packet_was_lost() {
    let mut bench = Bench::new();
    assert!(!bench.receiver.is_credit_due(), "both ends know where they start");
    let mut message = 0;
    while !bench.receiver.is_credit_due() {
        bench.whole(1, message, &[b'x'; 1_000]).unwrap();
        bench.polled();
        message += 1;
    }
    let consumed = message * charge(1_000);
    assert!((BUFFER_LEN_MIN as u64 / 8..BUFFER_LEN_MIN as u64 / 4).contains(&consumed));
    let channel = Some(ChannelId(1));
    let told = vec![(None, SESSION_CREDIT_INITIAL + consumed), (channel, CHANNEL_CREDIT_INITIAL + consumed)];
    let (first, limits) = bench.credit();
    assert_eq!(limits, told);
    assert!(bench.credit().0.is_empty());
    bench.receiver.on_credit_lost(first);
    let (second, limits) = bench.credit();
    assert_eq!(limits, told);
    bench.receiver.on_credit_lost(first);
    assert!(!bench.receiver.is_credit_due(), "it was told again since");
    bench.receiver.on_credit_blocked(channel, CHANNEL_CREDIT_INITIAL).unwrap();
    bench.receiver.on_credit_blocked(None, SESSION_CREDIT_INITIAL).unwrap();
    let (third, limits) = bench.credit();
    assert_eq!((limits, third != second), (told, true), "a sender that stands still is told");
    let mut full = [0; 0];
    bench.receiver.on_credit_lost(third);
    assert!(bench.receiver.write_credit(&mut Writer::new(&mut full)).is_empty());
    assert!(bench.receiver.is_credit_due(), "it did not fit");
}

#[test]
fn a_shard_short_of_memory_grants_nothing() {
    let mut bench = Bench::new();
    bench.receiver.set_short_of_memory(true);
    for message in 0..200 {
        bench.whole(1, message, &[b'x'; 1_000]).unwrap();
        bench.polled();
    }
    assert!(!bench.receiver.is_credit_due());
    bench.receiver.set_short_of_memory(false);
    assert_eq!(bench.credit().1.len(), 2);
}

/// Messages that wait behind a lost one are not the application's fault: a path that loses some and resends them a round trip and a half
/// later earns its window all the same.
#[test]
fn a_path_that_loses_earns_its_window_too() {
    let mut bench = Bench::new();
    let (mut holes, mut next) = (VecDeque::new(), 0);
    for round in 0..3_000u64 {
        bench.now = Instant::ZERO + Duration::from_millis(round);
        bench.receiver.on_round_trip(Duration::from_millis(50));
        while let Some((_, hole)) = holes.pop_front_if(|(begun, _)| *begun + 75 <= round) {
            bench.part(1, hole, (1_000, 8_000), &[b'x'; 7_000]).unwrap();
        }
        bench.polled();
        bench.credit();
        for place in 0..8 {
            let bytes = [b'x'; 8_000];
            let is_lost = place == 0 && round % 5 == 0;
            let first = if is_lost {
                bench.part(1, next, (0, 8_000), &bytes[..1_000])
            } else {
                bench.whole(1, next, &bytes)
            };
            if first == violation(Violation::BeyondCredit) {
                break;
            }
            holes.extend(is_lost.then_some((round, next)));
            next += 1;
        }
    }
    assert!(bench.receiver.window_bytes() >= 4 << 20, "{}", bench.receiver.window_bytes());
}

/// The window doubles while the path is fast and the application keeps up, and never for one that does not read.
#[test]
fn the_window_is_earned() {
    for reads in [true, false] {
        let mut bench = Bench::new();
        let mut messages = 0;
        for round in 0..3_000u64 {
            bench.now = Instant::ZERO + Duration::from_millis(round);
            bench.receiver.on_round_trip(Duration::from_millis(50));
            for _ in 0..8 {
                if bench.whole(1, messages, &[b'x'; 8_000]) == violation(Violation::BeyondCredit) {
                    break;
                }
                messages += 1;
            }
            bench.credit();
            if reads {
                bench.polled();
            }
        }
        // 8,000 bytes eight times a millisecond, in two round trips of 50 ms: 6.4 MB.
        let earned = if reads { 4 << 20..16 << 20 } else { 256 << 10..512 << 10 };
        assert!(earned.contains(&bench.receiver.window_bytes()), "{}", bench.receiver.window_bytes());
    }
}

/// With a bigger largest message the limits are told at once, and a sender that stands at the default ones is let on.
#[test]
fn a_larger_largest_message_is_credited() {
    let limits = ReceiverLimits { message_len_max: 4 << 20, ..ReceiverLimits::default() };
    let mut bench = Bench::new();
    bench.receiver = Receiver::new(limits);
    bench.receiver.on_credit_blocked(Some(ChannelId(9)), CHANNEL_CREDIT_INITIAL).unwrap();
    let (_, limits) = bench.credit();
    assert!(limits.len() == 2 && limits.iter().all(|(_, limit)| *limit >= charge(4 << 20)), "{limits:?}");
}

#[test]
fn an_idle_receiver_is_small_and_a_session_s_end_brings_every_block_home() {
    let mut bench = Bench::new();
    bench.part(1, 0, (0, 9_000), b"open").unwrap();
    bench.whole(1, 1, b"waits").unwrap();
    bench.whole(100, 0, b"ready").unwrap();
    bench.unreliable(0, 4, b"held").unwrap();
    bench.segment(Segment { unreliable: Some(0), ..part(100, 0, (0, 9_000), b"open") }).unwrap();
    bench.receiver.shrink();
    assert!(bench.receiver.held_bytes() > 0);
    bench.receiver.drain(&mut bench.pool);
    assert!(bench.is_clean());
}

proptest! {
    /// Pieces in any order, overlapping, repeated: the message is what the naive model holds, delivered exactly when it is whole.
    /// spec: atp/reliability
    #[test]
    fn reassembly_equals_the_naive_model(
        total in 1usize..3_000,
        pieces in prop::collection::vec((0usize..3_000, 1usize..700), 1..60),
        unreliable: bool,
    ) {
        let mut bench = Bench::new();
        let bytes: Vec<u8> = (0..total).map(|at| (at * 31 + at / 256) as u8).collect();
        let mut model = vec![false; total];
        let last = (0..total).step_by(500).map(|at| (at, 500));
        for (start, len) in pieces.into_iter().chain(last) {
            let start = start % total;
            let end = total.min(start + len);
            let piece = part(100, 0, (start as u32, total as u32), &bytes[start..end]);
            let piece = Segment { unreliable: unreliable.then_some(0), ..piece };
            model[start..end].fill(true);
            let is_whole = model.iter().all(|byte| *byte);
            let expected = if is_whole { Accepted::Delivered } else { Accepted::Kept };
            prop_assert_eq!(bench.segment(piece), Ok(expected));
            if is_whole {
                break;
            }
        }
        let message = bench.receiver.poll_message().unwrap();
        prop_assert_eq!(&*message.block, &bytes[..]);
        prop_assert_eq!((bench.receiver.open_count(), bench.receiver.held_bytes()), (0, 0));
    }
}
