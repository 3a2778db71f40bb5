//! Stories of loss recovery: what arrives, what is lost, what is marked, and what the controller makes of it.

use core::ops::RangeInclusive;
use core::time::Duration;

use dunlin_codec::frame::EcnCounts;
use dunlin_codec::ids::PacketNumber;
use proptest::prelude::*;

use super::link::World;
use super::*;
use crate::arq::congestion::{Algorithm, MINIMUM_DATAGRAMS, Phase};
use crate::limits::{ACK_DELAY_MAX, ACK_DELAY_PATIENT, DATAGRAM_MIN};

const START: Instant = Instant::from_nanos(1_000_000_000);
const ROUND_TRIP: Duration = Duration::from_millis(40);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn config(algorithm: Algorithm, datagram_len_max: usize) -> RecoveryConfig {
    RecoveryConfig { algorithm, datagram_len_max, seed: 1 }
}

/// A sender whose packets' fates are collected.
struct Bench {
    recovery: Recovery<[u64; 2]>,
    now: Instant,
    acked: Vec<u64>,
    lost: Vec<u64>,
}

impl Bench {
    fn new(algorithm: Algorithm) -> Self {
        let recovery = Recovery::new(config(algorithm, DATAGRAM_MIN));
        Self { recovery, now: START, acked: Vec::new(), lost: Vec::new() }
    }

    /// Packet 0 has made one round trip of 40 ms.
    fn measured() -> Self {
        let mut bench = Self::new(Algorithm::Cubic);
        bench.send([0]);
        bench.wait(ROUND_TRIP);
        bench.ack(&[0..=0]).unwrap();
        bench.acked.clear();
        bench
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn packet(number: u64) -> SentPacket<[u64; 2]> {
        let kind = SentKind::Eliciting;
        SentPacket { number: PacketNumber(number), bytes: 1_200, kind, is_ect: true, contents: [number, 0] }
    }

    fn send(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.recovery.on_sent(self.now, &Self::packet(number));
        }
    }

    fn ack(&mut self, ranges: &[RangeInclusive<u64>]) -> Result<AckSummary, FalseAck> {
        self.ack_with(ranges, None)
    }

    fn ack_with(
        &mut self,
        ranges: &[RangeInclusive<u64>],
        ecn: Option<EcnCounts>,
    ) -> Result<AckSummary, FalseAck> {
        let largest = PacketNumber(*ranges[0].end());
        let input = AckInput { largest, delay: Duration::ZERO, ranges: ranges.iter().cloned(), ecn };
        let (acked, lost) = (&mut self.acked, &mut self.lost);
        self.recovery.on_ack(self.now, input, &mut |outcome| collect(acked, lost, outcome))
    }

    fn time_out(&mut self) -> TimeoutKind {
        let (acked, lost) = (&mut self.acked, &mut self.lost);
        self.recovery.on_timeout(self.now, &mut |outcome| collect(acked, lost, outcome))
    }

    fn take_lost(&mut self) -> Vec<u64> {
        core::mem::take(&mut self.lost)
    }
}

fn collect(acked: &mut Vec<u64>, lost: &mut Vec<u64>, outcome: Outcome<[u64; 2]>) {
    let (list, number, contents) = match outcome {
        Outcome::Acked(number, contents) => (acked, number, contents),
        Outcome::Lost(number, contents) => (lost, number, contents),
    };
    assert_eq!(number.0, contents[0]);
    list.push(number.0);
}

/// Three packets sent later have arrived: the missing one is lost. A skipped number is no packet.
/// spec: atp/recovery
#[test]
fn the_packet_threshold_counts_packets_not_numbers() {
    let mut bench = Bench::measured();
    bench.send([1, 2, 4]); // 3 is skipped
    bench.ack(&[4..=4, 2..=2]).unwrap();
    assert_eq!((bench.take_lost(), bench.recovery.bytes_in_flight()), (vec![], 1_200));
    bench.send([5]);
    bench.ack(&[4..=5, 2..=2]).unwrap();
    assert_eq!((bench.take_lost(), bench.recovery.bytes_in_flight()), (vec![1], 0));
    assert_eq!(bench.acked, [4, 2, 5]);
    assert_eq!(bench.recovery.poll_timeout(), None);
}

/// One packet sent later has arrived, and 9/8 round trips have passed: lost as well.
/// spec: atp/recovery
#[test]
fn a_straggler_is_lost_after_nine_eighths_of_a_round_trip() {
    let mut bench = Bench::measured();
    bench.send([1, 2]);
    bench.wait(ROUND_TRIP);
    bench.ack(&[2..=2]).unwrap();
    let lost_at = START + ROUND_TRIP + ROUND_TRIP * 9 / 8;
    assert_eq!(bench.recovery.poll_timeout(), Some(lost_at));
    assert_eq!(bench.time_out(), TimeoutKind::None);
    bench.now = lost_at;
    assert_eq!((bench.time_out(), bench.take_lost()), (TimeoutKind::Lost(1), vec![1]));
    assert_eq!(bench.time_out(), TimeoutKind::None);
}

/// Where nothing would be sent again the answer takes its time, and the probe waits for that; one packet that presses is enough to wait
/// no longer. A long wait is not taken for the path's round trip.
/// spec: atp/acknowledgement
#[test]
fn patient_packets_are_answered_late() {
    let mut bench = Bench::measured();
    let timeout = ROUND_TRIP + ROUND_TRIP * 2 + ACK_DELAY_MAX;
    let patient = |number| SentPacket { kind: SentKind::Patient, ..Bench::packet(number) };
    bench.recovery.on_sent(bench.now, &patient(1));
    let patience = ACK_DELAY_PATIENT - ACK_DELAY_MAX;
    assert_eq!(bench.recovery.poll_timeout(), Some(bench.now + timeout + patience));
    bench.send([2]);
    bench.recovery.on_sent(bench.now, &patient(3));
    assert_eq!(bench.recovery.poll_timeout(), Some(bench.now + timeout));
    bench.wait(ROUND_TRIP);
    bench.ack(&[1..=2]).unwrap();
    assert_eq!(
        bench.recovery.poll_timeout().map(|at| at > bench.now + timeout),
        Some(true),
        "3 alone is patient"
    );
    let smoothed = bench.recovery.rtt().smoothed();
    bench.wait(ACK_DELAY_PATIENT);
    let (largest, delay) = (PacketNumber(3), ACK_DELAY_PATIENT);
    let input = AckInput { largest, delay, ranges: [1..=3].into_iter(), ecn: None };
    let summary = bench.recovery.on_ack(bench.now, input, &mut |_| {}).unwrap();
    assert!((summary.acked_packets, summary.is_sampled) == (1, false));
    assert_eq!((bench.recovery.rtt().smoothed(), bench.recovery.bytes_in_flight()), (smoothed, 0));
}

/// A tail that vanished is asked about: two packets, whatever the window says, then half as often.
/// spec: atp/recovery
#[test]
fn silence_makes_probes_that_back_off() {
    let mut bench = Bench::measured();
    let window = bench.recovery.window_left() / 1_200;
    bench.send(1..=window);
    assert_eq!((bench.recovery.window_left(), bench.recovery.can_send(1_200)), (0, false));
    let timeout = ROUND_TRIP + ROUND_TRIP * 2 + ACK_DELAY_MAX;
    assert_eq!(bench.recovery.poll_timeout(), Some(bench.now + timeout));
    let mut next = window + 1;
    for backoff in [1, 2, 4] {
        bench.wait(timeout * backoff);
        assert_eq!(bench.time_out(), TimeoutKind::Probe(2));
        assert_eq!(bench.time_out(), TimeoutKind::None);
        assert!(bench.recovery.can_send(1_200) && bench.recovery.send_budget(bench.now) >= 2_400);
        assert_eq!(
            bench.recovery.unanswered().map(|(number, _)| number.0).take(2).collect::<Vec<_>>(),
            [1, 2]
        );
        bench.send([next, next + 1]);
        next += 2;
        assert!(!bench.recovery.can_send(1_200));
        assert_eq!(bench.recovery.poll_timeout(), Some(bench.now + timeout * backoff * 2));
    }
    assert_eq!(bench.recovery.congestion().shrunk_count, 0, "silence alone is no loss");
    bench.wait(ROUND_TRIP);
    bench.ack(&[next - 2..=next - 1]).unwrap();
    assert_eq!(bench.recovery.probe_count(), 0);
    assert_eq!(bench.lost.len() as u64, next - 3, "what the probe's answer shows is lost");
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
}

/// I12: the machine slept for a minute; when it wakes, one probe burst is sent, not one per timeout missed.
/// spec: atp/recovery
#[test]
fn after_a_pause_there_is_one_probe_burst() {
    let mut bench = Bench::measured();
    bench.send(1..=20);
    bench.wait(Duration::from_secs(60));
    let mut bursts = 0;
    while bench.recovery.poll_timeout().is_some_and(|at| at <= bench.now) {
        bursts += u32::from(matches!(bench.time_out(), TimeoutKind::Probe(2)));
    }
    assert_eq!(bursts, 1);
    assert_eq!(bench.recovery.probes_owed(), 2);
}

/// T4: whoever acknowledges what was never sent, or what was skipped to catch it, is a liar.
/// spec: atp/false-ack
#[test]
fn a_false_acknowledgement_is_an_error() {
    let mut bench = Bench::measured();
    bench.send([1, 2, 4]);
    assert_eq!(bench.ack(&[5..=5]), Err(FalseAck));
    assert_eq!(bench.ack(&[0..=u64::MAX]), Err(FalseAck));
    assert_eq!(bench.recovery.bytes_in_flight(), 3_600, "nothing was taken");
    assert_eq!(bench.ack(&[1..=4]), Err(FalseAck));
}

/// The same acknowledgement twice, an older one late, one for what is long forgotten: nothing happens twice.
#[test]
fn acknowledgements_may_repeat_and_overtake() {
    let mut bench = Bench::measured();
    bench.send(1..=10);
    bench.ack(&[7..=10, 1..=5]).unwrap();
    assert_eq!((bench.acked.len(), bench.take_lost()), (9, vec![6]));
    let again = bench.ack(&[7..=10, 1..=5]).unwrap();
    let older = bench.ack(&[1..=4]).unwrap();
    assert_eq!((again, older), (AckSummary::default(), AckSummary::default()));
    assert_eq!(bench.acked.len(), 9);
}

/// A packet given up arrives after all: it is reported, the window comes back, the thresholds rise.
/// spec: atp/recovery
#[test]
fn a_spurious_loss_is_undone_and_learnt_from() {
    let mut bench = Bench::measured();
    bench.send(1..=10);
    let before = bench.recovery.congestion().window;
    bench.ack(&[5..=5]).unwrap();
    assert_eq!(bench.take_lost(), [1, 2]);
    assert!(bench.recovery.congestion().window < before);
    let summary = bench.ack(&[1..=5]).unwrap();
    assert_eq!((summary.spurious_packets, bench.acked.clone()), (2, vec![5, 4, 3, 2, 1]));
    assert!(bench.recovery.congestion().window >= before);
    bench.ack(&[9..=9, 1..=5]).unwrap();
    assert_eq!(bench.take_lost(), Vec::<u64>::new(), "four packets later are not enough any more"); // 6 is three packets below 9
    assert_eq!(bench.recovery.stats().spurious_packets, 2);
    assert_eq!(bench.recovery.bytes_in_flight(), 4 * 1_200);
}

/// Nothing arrived over three probe timeouts: two datagrams remain of the window.
/// spec: atp/recovery
#[test]
fn persistent_congestion_takes_the_window_down() {
    let mut bench = Bench::measured();
    let length = bench.recovery.rtt().persistent_congestion();
    bench.wait(ms(1));
    for number in 1..=4 {
        bench.send([number]);
        bench.wait(length / 3 + ms(1));
    }
    bench.send([5, 6, 7]);
    bench.wait(ROUND_TRIP);
    bench.ack(&[7..=7]).unwrap();
    assert_eq!(bench.recovery.congestion().window, MINIMUM_DATAGRAMS * 1_200);
    assert_eq!(bench.recovery.stats().persistent_congestions, 1);
    // The same losses with one arrival between are two stretches, each too short.
    let mut bench = Bench::measured();
    bench.wait(ms(1));
    for number in 1..=4 {
        bench.send([number]);
        bench.wait(length / 3 + ms(1));
    }
    bench.send([5, 6, 7]);
    bench.wait(ROUND_TRIP);
    bench.ack(&[7..=7, 3..=3]).unwrap();
    assert!(bench.recovery.congestion().window > MINIMUM_DATAGRAMS * 1_200);
}

/// Marks and losses of one round trip shrink the window once.
/// spec: atp/congestion
#[test]
fn marks_halve_nothing_twice_in_a_round_trip() {
    let mut bench = Bench::measured();
    bench.recovery.marks.on_path_changed();
    bench.send(1..=30);
    for number in 1..=20 {
        bench.ack_with(&[1..=number], Some(EcnCounts { ect0: 1, ce: number })).unwrap();
    }
    bench.ack_with(&[24..=29, 1..=20], Some(EcnCounts { ect0: 1, ce: 26 })).unwrap();
    assert_eq!(bench.take_lost(), [21, 22, 23]);
    assert_eq!(bench.recovery.congestion().shrunk_count, 1);
    bench.send(31..=32);
    bench.ack_with(&[24..=32, 1..=20], Some(EcnCounts { ect0: 1, ce: 29 })).unwrap();
    assert_eq!(bench.recovery.congestion().shrunk_count, 2, "the next round trip counts again");
}

/// A side that only receives sends nothing but acknowledgements, for ever: it keeps few of them, and no timer.
#[test]
fn acknowledgements_alone_are_not_hoarded() {
    let mut bench = Bench::measured();
    for number in 1..10_000 {
        bench.recovery.on_sent(bench.now, &SentPacket { kind: SentKind::AckOnly, ..Bench::packet(number) });
        bench.wait(ms(1));
    }
    assert!(bench.recovery.ring.len() < 200);
    assert_eq!((bench.recovery.poll_timeout(), bench.recovery.bytes_in_flight()), (None, 0));
    bench.ack(&[9_990..=9_999]).unwrap();
    assert_eq!(bench.acked.len(), 10, "their fate is still of interest");
}

/// What was sent on the old path says nothing about the new one, but is still delivered or lost.
#[test]
fn another_path_starts_anew() {
    let mut bench = Bench::measured();
    bench.send(1..=10);
    bench.recovery.on_path_changed();
    assert!(!bench.recovery.rtt().is_measured());
    bench.send([11]);
    bench.wait(ms(300));
    bench.ack(&[10..=10]).unwrap();
    assert_eq!(bench.take_lost(), (1..=9).collect::<Vec<_>>());
    let window = bench.recovery.congestion();
    assert_eq!((window.shrunk_count, window.window), (0, 32 * 1_200));
    assert!(!bench.recovery.rtt().is_measured());
    bench.ack(&[10..=11]).unwrap();
    assert_eq!(bench.recovery.rtt().latest(), ms(300));
}

/// The peer is told how much may wait, whenever that has become another amount, and again when the frame was lost.
#[test]
fn the_peer_learns_how_much_may_wait() {
    let mut fixed = Bench::new(Algorithm::Fixed(100 * 1_200)).recovery;
    let told = fixed.poll_ack_frequency().unwrap();
    assert_eq!((told, fixed.poll_ack_frequency()), (AckFrequency { sequence: 1, bytes: 15_000 }, None));
    fixed.on_ack_frequency_lost(told.sequence);
    assert_eq!(fixed.poll_ack_frequency(), Some(told));
    fixed.on_ack_frequency_lost(0);
    assert_eq!(fixed.poll_ack_frequency(), None);
    let mut large = Bench::new(Algorithm::Fixed(64 << 20)).recovery;
    assert_eq!(large.poll_ack_frequency().unwrap().bytes, 64 << 10);
}

/// An idle session holds no packets, and little besides (of at most 4 KiB in all).
#[test]
fn an_idle_session_is_small() {
    let mut bench = Bench::measured();
    bench.send(1..=30);
    bench.ack(&[0..=30]).unwrap();
    bench.recovery.shrink();
    assert_eq!(bench.recovery.ring.len(), 0);
    assert!(size_of::<Recovery<[u64; 2]>>() <= 1_024, "{}", size_of::<Recovery<[u64; 2]>>());
}

/// Slow start also ends in time on other links, as long as growth of the round trip stands out (4 ms at least).
/// spec: atp/hystart
#[test]
fn hystart_works_on_other_links() {
    for (mbit, round_trip) in [(20, 50), (20, 200), (100, 100), (500, 50), (500, 100)] {
        let mut world =
            World::new(mbit * 1_000_000, ms(round_trip / 2), config(Algorithm::Cubic, DATAGRAM_MIN));
        world.fresh = u64::MAX;
        world.measure();
        world.run_for(Duration::from_secs(3));
        let phase = world.phase_at_first_overflow;
        assert!(phase.is_none_or(|phase| phase != Phase::SlowStart), "{mbit} Mbit/s, {round_trip} ms");
    }
}

/// 100 Mbit/s, 50 ms, a queue of one bandwidth-delay product: slow start ends before the first drop, and the link stays full.
/// spec: atp/hystart
#[test]
fn hystart_leaves_slow_start_before_the_first_drop() {
    let mut world = World::new(100_000_000, ms(25), config(Algorithm::Cubic, DATAGRAM_MIN));
    world.fresh = u64::MAX;
    world.measure();
    world.run_for(Duration::from_secs(20));
    let phase = world.phase_at_first_overflow;
    assert!(phase.is_none_or(|phase| phase != Phase::SlowStart), "{phase:?}");
    let rate = world.delivered.len() as u64 * 1_200 * 8 / 20;
    assert!(rate > 95_000_000, "{rate} bit/s");
    assert!(world.forward.overflowed < world.sent / 100, "{} of {}", world.forward.overflowed, world.sent);
    assert!(world.largest_train <= 25, "{} datagrams at once", world.largest_train); // twice 100 Mbit/s for 1 ms
}

/// Everything arrives through loss in both directions, and little is sent twice (I1, I11).
/// spec: atp/recovery
#[test]
fn everything_arrives_through_loss() {
    for (loss_per_mille, jitter) in [(10, ms(0)), (50, ms(0)), (50, ms(3)), (200, ms(0)), (0, ms(10))] {
        let mut world = World::new(100_000_000, ms(10), config(Algorithm::Cubic, DATAGRAM_MIN));
        (world.forward.loss_per_mille, world.backward.loss_per_mille) = (loss_per_mille, loss_per_mille);
        world.forward.jitter = jitter;
        world.fresh = 10_000;
        world.measure();
        world.run_for(Duration::from_secs(600));
        assert!(world.is_done() && world.delivered.len() == 10_000, "{loss_per_mille} per mille");
        let lost = world.forward.lost_by_chance + world.forward.overflowed;
        assert!(
            world.resent <= 3 * lost + 500,
            "{} sent again for {lost} lost, jitter {jitter:?}",
            world.resent
        );
    }
}

/// On one machine a round trip takes 50 us and a core moves 20 Gbit/s: neither pacing nor the window is in the way.
/// spec: atp/pacing
#[test]
fn a_short_fast_path_is_filled() {
    let mut world = World::new(20_000_000_000, Duration::from_micros(25), RecoveryConfig::default());
    world.forward.queue_bytes = 4 << 20;
    world.fresh = u64::MAX;
    world.run_for(ms(20));
    let before = world.delivered.len();
    world.run_for(ms(50));
    let rate = (world.delivered.len() - before) as u64 * 1_452 * 8 * 20;
    assert!(rate > 19_000_000_000, "{rate} bit/s");
}

/// A queue that marks instead of dropping: no packet is lost, the link stays in use, and the window shrinks once per round trip at most.
/// spec: atp/congestion
#[test]
fn marks_keep_the_queue_from_overflowing() {
    let mut world = World::new(100_000_000, ms(10), config(Algorithm::Cubic, DATAGRAM_MIN));
    world.forward.queue_bytes = 4 * 250_000;
    world.forward.mark_above_bytes = 125_000;
    world.fresh = u64::MAX;
    world.run_for(Duration::from_secs(10));
    assert_eq!((world.forward.overflowed, world.resent), (0, 0));
    assert!(world.shrinks.len() > 2);
    assert!(world.shrinks.windows(2).all(|pair| pair[1].0.since(pair[0].0) >= ms(20)));
    let rate = world.delivered.len() as u64 * 1_200 * 8 / 10;
    assert!(rate > 90_000_000, "{rate} bit/s");
}

/// A link of 1,400 bytes is found within eight probes while traffic flows; later it swallows what exceeds 1,300, and is left within three
/// probe timeouts. No probe's loss shrinks the window.
/// spec: atp/path-mtu
#[test]
fn a_black_hole_is_left_within_three_probe_timeouts() {
    for delay in [ms(1), ms(20), ms(100)] {
        let mut world = World::new(50_000_000, delay, config(Algorithm::Fixed(100_000), 1_452));
        world.forward.queue_bytes = 1 << 20;
        world.forward.len_max = 1_400;
        world.fresh = u64::MAX;
        world.run_for(ms(100) + 40 * delay);
        assert_eq!((world.sender.datagram_len(), world.sender.congestion().shrunk_count), (1_400, 0));
        assert!(world.mtu_probes <= 8, "{}", world.mtu_probes);

        world.forward.len_max = 1_300;
        let (fell_at, timeout) = (world.now, world.sender.probe_timeout());
        while world.sender.datagram_len() == 1_400 {
            world.run_for(ms(1));
            assert!(world.now.since(fell_at) <= timeout * 3, "{delay:?}");
        }
        assert_eq!(world.sender.stats().black_holes, 1);
        world.run_for(Duration::from_secs(10) + 40 * delay);
        assert!((1_297..=1_300).contains(&world.sender.datagram_len()));
    }
}

/// The link falls silent for ten seconds: a few probes, then everything goes on.
#[test]
fn an_outage_ends() {
    let mut world = World::new(50_000_000, ms(20), config(Algorithm::Cubic, DATAGRAM_MIN));
    world.fresh = 20_000;
    world.run_for(ms(500));
    world.forward.loss_per_mille = 1_000;
    world.run_for(Duration::from_secs(10));
    assert!((3..=9).contains(&world.probe_bursts.len()), "{:?}", world.probe_bursts);
    world.forward.loss_per_mille = 0;
    world.run_for(Duration::from_secs(30));
    assert!(world.is_done() && world.delivered.len() == 20_000);
}

/// A peer that slept while it was called answers late: that is no round trip, and what is lost next is not waited for as if it were.
/// spec: atp/handshake-round-trip
#[test]
fn a_handshake_with_a_sleeper_is_no_measurement() {
    let mut bench = Bench::new(Algorithm::Cubic);
    let unmeasured = bench.recovery.probe_timeout();
    bench.recovery.on_handshake_round_trip(bench.now, ms(5_375));
    assert_eq!(bench.recovery.probe_timeout(), unmeasured);
    bench.recovery.on_handshake_round_trip(bench.now, ms(900));
    assert_eq!(bench.recovery.rtt().smoothed(), ms(900));
}

/// Jitter reorders packets, hundreds at a time on a fast link: what is late is learnt, not taken for lost again and again (I11).
/// spec: atp/recovery
#[test]
fn jitter_costs_little() {
    for (mbit, round_trip, jitter) in [(100, 20, 5), (100, 50, 10), (500, 20, 10), (500, 100, 5)] {
        let mut world =
            World::new(mbit * 1_000_000, ms(round_trip / 2), config(Algorithm::Cubic, DATAGRAM_MIN));
        world.forward.jitter = ms(jitter);
        world.fresh = u64::MAX;
        world.measure();
        world.run_for(Duration::from_secs(4));
        let percent = world.delivered.len() as u64 * 1_200 * 8 / (mbit * 10_000 * 4);
        assert!(percent >= 65, "{mbit} Mbit/s, {round_trip} ms, jitter {jitter} ms: {percent} %");
        let allowed = 3 * world.forward.overflowed + world.sent / 100;
        assert!(world.resent <= allowed, "{} of {} sent again", world.resent, world.sent);
    }
}

proptest! {
    /// Whatever is sent, acknowledged and waited for: each packet's fate is told as promised, and the bytes in flight are those without one.
    #[test]
    fn the_books_are_kept(steps in prop::collection::vec((0u8..4, 0u64..60, 0u64..20, 0u64..200), 1..150)) {
        let mut bench = Bench::measured();
        bench.recovery = Recovery::new(config(Algorithm::Cubic, DATAGRAM_MIN));
        let mut next = 0;
        for (kind, back, len, wait) in steps {
            match kind {
                0 | 1 => {
                    bench.send(next..next + len);
                    next += len;
                }
                2 if next > back => {
                    let end = next - 1 - back;
                    let older = end.saturating_sub(2 * len + 2);
                    bench.ack(&[end.saturating_sub(len)..=end, older.saturating_sub(len)..=older]).unwrap();
                }
                _ => {
                    bench.wait(ms(wait));
                    while bench.recovery.poll_timeout().is_some_and(|at| at <= bench.now) {
                        prop_assert_ne!(bench.time_out(), TimeoutKind::None);
                    }
                }
            }
            let (acked, lost) = (bench.acked.clone(), bench.lost.clone());
            let settled = (0..next).filter(|number| acked.contains(number) || lost.contains(number)).count() as u64;
            prop_assert_eq!(bench.recovery.bytes_in_flight(), (next - settled) * 1_200);
            prop_assert_eq!(bench.recovery.unanswered().count() as u64, next - settled);
            for list in [acked, lost] {
                let mut unique = list.clone();
                unique.sort_unstable();
                unique.dedup();
                prop_assert_eq!(unique.len(), list.len(), "a fate was told twice");
            }
        }
    }
}
