//! The largest datagram that a path carries: found by probes, and left when it stops to pass.
//!
//! In:    `on_probe_acked`, `on_probe_lost`, `on_too_big` (the machine refused it), and what happened to full-size packets.
//! Out:   `poll_probe`: the size of a packet to send, PING and padding; `current`: what to fill datagrams up to.
//! Holds: `current` passed as a probe, or is [`DATAGRAM_MIN`]; one probe is under way at a time; a lost probe is no congestion.
//!
//! The search tries the largest size first, then Ethernet's, then halves what is left. One loss counts as too big at once, which costs
//! few probes; the size where the search ends is tried a second time, so that one probe lost by chance misleads nobody.
//! A *black hole* is a path that swallows large packets while smaller ones arrive (RFC 8899 section 4.3). It is suspected, and left
//! at once, when three of more than [`DATAGRAM_MIN`] were lost and none as long as the shortest of them, sent since, arrived: on a path
//! of 8,900 bytes that shrank to 1,500 the last 3,500 of a message are sent again for ever if only full ones count. An overflowing
//! queue can look the same for a moment; so the size that is left is the first one probed again, and the error costs a round trip of
//! smaller packets.
//! spec: atp/path-mtu

use core::time::Duration;

use crate::limits::DATAGRAM_MIN;
use crate::time::Instant;

/// What most paths carry: Ethernet's 1,500 less IPv6 and UDP headers.
pub const DATAGRAM_LEN_DEFAULT: usize = 1_452;
/// The largest datagram that can be configured.
pub const DATAGRAM_LEN_MAX: usize = 9_216;
/// How long a found size is trusted before a larger one is tried again.
pub const SEARCH_INTERVAL: Duration = Duration::from_secs(600);
/// The search ends when fewer bytes than this are left to win.
const GRAIN: usize = 4;
/// Probes in one search at most, however lossy the path.
const SEARCH_PROBES_MAX: u8 = 32;
/// Lost full-size packets that make a black hole.
const BLACK_HOLE_LOSSES: u8 = 3;
/// Packets that fall short of a datagram by less than this are full-size too.
const FULL_SLACK: usize = 64;

const _: () = assert!(DATAGRAM_MIN < DATAGRAM_LEN_DEFAULT && DATAGRAM_LEN_DEFAULT < DATAGRAM_LEN_MAX);
const _: () = assert!(DATAGRAM_LEN_MAX < u16::MAX as usize);

/// A size that was left under suspicion.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    size: usize,
    /// What was too big before, to go back to.
    too_big: usize,
}

/// The search on one path.
#[derive(Clone, Debug)]
pub struct Mtu {
    current: usize,
    max: usize,
    /// The smallest size that did not pass; `max` + 1 when there is none.
    too_big: usize,
    /// Whether `too_big` was lost more than once.
    is_certain: bool,
    probe: Option<usize>,
    probes_left: u8,
    /// When to search again; `None` while searching.
    resume_at: Option<Instant>,
    /// The largest number of a full-size packet that arrived, and how many large ones were lost that were sent later.
    full_arrived: Option<u64>,
    large_lost: u8,
    /// The shortest of those lost; `u16::MAX` when there is none.
    shortest_lost: u16,
    doubt: Option<Doubt>,
}

impl Mtu {
    /// A path that carries [`DATAGRAM_MIN`] and perhaps up to `max` bytes. With `max` = [`DATAGRAM_MIN`] nothing is ever probed.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let max = max.clamp(DATAGRAM_MIN, DATAGRAM_LEN_MAX);
        Self {
            current: DATAGRAM_MIN,
            max,
            too_big: max + 1,
            is_certain: false,
            probe: None,
            probes_left: SEARCH_PROBES_MAX,
            resume_at: None,
            full_arrived: None,
            large_lost: 0,
            shortest_lost: u16::MAX,
            doubt: None,
        }
    }

    /// Bytes of a full datagram.
    #[inline]
    #[must_use]
    pub const fn current(&self) -> usize {
        self.current
    }

    /// Whether the arrival of a packet of this size tells something about the path's limit.
    #[inline]
    #[must_use]
    pub const fn is_full(&self, bytes: usize) -> bool {
        bytes > DATAGRAM_MIN && (bytes + FULL_SLACK > self.current || bytes >= self.shortest_lost as usize)
    }

    /// The size of a probe to send now, if one is due. Ask only while there is something to send: a quiet session need not know.
    pub fn poll_probe(&mut self, now: Instant) -> Option<usize> {
        if self.probe.is_some() || self.current == self.max {
            return None;
        }
        if let Some(resume_at) = self.resume_at {
            if now < resume_at {
                return None;
            }
            self.search(self.max + 1);
        }
        let size = self.next_size().filter(|_| self.probes_left > 0);
        if size.is_none() {
            self.resume_at = Some(now + SEARCH_INTERVAL);
        }
        size
    }

    /// A probe of this size has left.
    pub fn on_probe_sent(&mut self, size: usize) {
        self.probe = Some(size);
        self.probes_left = self.probes_left.saturating_sub(1);
    }

    /// A probe of this size arrived. Returns whether `current` changed.
    pub fn on_probe_acked(&mut self, size: usize) -> bool {
        self.probe = None;
        if size >= self.too_big {
            // It was lost by chance before; so may have been what was tried above it. A doubt, though, was about this size alone.
            let too_big =
                self.doubt.filter(|doubt| doubt.size == size).map_or(self.max + 1, |doubt| doubt.too_big);
            (self.too_big, self.is_certain) = (too_big, too_big <= self.max);
        }
        self.doubt = None;
        let is_news = size > self.current;
        self.current = self.current.max(size);
        is_news
    }

    /// A probe of this size was lost.
    pub fn on_probe_lost(&mut self, size: usize) {
        self.probe = None;
        self.doubt = self.doubt.filter(|doubt| doubt.size != size);
        // A larger one, given up before, may have arrived after all.
        if size > self.current {
            self.refuse(size, false);
        }
    }

    /// The machine itself refused to send a datagram of this size (EMSGSIZE). Returns whether `current` changed.
    pub fn on_too_big(&mut self, size: usize) -> bool {
        self.probe = self.probe.filter(|probe| *probe < size);
        self.refuse(size, true);
        if size > self.current || self.current == DATAGRAM_MIN {
            return false;
        }
        self.fall();
        true
    }

    /// A full-size packet arrived.
    #[inline]
    pub fn on_full_acked(&mut self, number: u64) {
        if Some(number) > self.full_arrived {
            self.full_arrived = Some(number);
            (self.large_lost, self.shortest_lost) = (0, u16::MAX);
        }
    }

    /// A packet that was no probe was lost. Returns whether that looks like a black hole, so that `current` fell to [`DATAGRAM_MIN`].
    /// Arrivals that the same acknowledgement shows come first.
    pub fn on_lost(&mut self, number: u64, bytes: usize) -> bool {
        if bytes <= DATAGRAM_MIN || bytes > self.current || Some(number) <= self.full_arrived {
            return false;
        }
        self.large_lost += 1;
        self.shortest_lost = self.shortest_lost.min(bytes as u16);
        if self.large_lost < BLACK_HOLE_LOSSES {
            return false;
        }
        let doubt = Doubt { size: self.current, too_big: self.too_big };
        self.refuse(self.current, false);
        self.fall();
        self.doubt = Some(doubt);
        true
    }

    fn refuse(&mut self, size: usize, is_certain: bool) {
        if size < self.too_big {
            (self.too_big, self.is_certain) = (size.max(DATAGRAM_MIN + 1), is_certain);
        } else if size == self.too_big {
            self.is_certain = true;
        }
    }

    /// Back to what every path carries, and up again from there.
    fn fall(&mut self) {
        self.current = DATAGRAM_MIN;
        (self.large_lost, self.shortest_lost, self.doubt) = (0, u16::MAX, None);
        self.search(self.too_big);
    }

    fn search(&mut self, too_big: usize) {
        self.is_certain &= too_big == self.too_big;
        self.too_big = too_big;
        self.probes_left = SEARCH_PROBES_MAX;
        self.resume_at = None;
    }

    fn next_size(&self) -> Option<usize> {
        if let Some(doubt) = self.doubt {
            return Some(doubt.size);
        }
        if self.too_big > self.max {
            return Some(self.max);
        }
        if self.too_big - self.current <= GRAIN {
            return (!self.is_certain).then_some(self.too_big);
        }
        let is_ethernet_open = self.current < DATAGRAM_LEN_DEFAULT && DATAGRAM_LEN_DEFAULT < self.too_big;
        Some(if is_ethernet_open { DATAGRAM_LEN_DEFAULT } else { self.current.midpoint(self.too_big) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000);

    /// Probes until the search rests, on a link that carries `limit` bytes; how many probes it took.
    fn search(mtu: &mut Mtu, now: Instant, limit: usize) -> usize {
        let mut count = 0;
        while let Some(size) = mtu.poll_probe(now) {
            count += 1;
            mtu.on_probe_sent(size);
            assert_eq!(mtu.poll_probe(now), None, "one probe at a time");
            if size <= limit {
                mtu.on_probe_acked(size);
            } else {
                mtu.on_probe_lost(size);
            }
        }
        count
    }

    /// spec: atp/path-mtu
    #[test]
    fn a_link_of_1400_bytes_is_found_within_eight_probes() {
        let mut mtu = Mtu::new(DATAGRAM_LEN_DEFAULT);
        let count = search(&mut mtu, START, 1_400);
        assert_eq!(mtu.current(), 1_400);
        assert!(count <= 8, "{count}");
    }

    /// A probe that was given up arrives after all while a smaller one is under way, which is lost: what is known stays known.
    /// spec: atp/path-mtu
    #[test]
    fn a_late_answer_outweighs_the_loss_of_a_smaller_probe() {
        let mut mtu = Mtu::new(9_000);
        let send = |mtu: &mut Mtu| {
            let size = mtu.poll_probe(START).unwrap();
            mtu.on_probe_sent(size);
            size
        };
        assert_eq!(send(&mut mtu), 9_000);
        mtu.on_probe_lost(9_000);
        assert_eq!(send(&mut mtu), DATAGRAM_LEN_DEFAULT);
        mtu.on_probe_lost(DATAGRAM_LEN_DEFAULT);
        let smaller = send(&mut mtu);
        assert!(mtu.on_probe_acked(DATAGRAM_LEN_DEFAULT));
        mtu.on_probe_lost(smaller);
        assert_eq!(mtu.current(), DATAGRAM_LEN_DEFAULT);
        assert!(mtu.poll_probe(START).is_some_and(|size| size > DATAGRAM_LEN_DEFAULT));
    }

    /// The common case costs one probe; a jumbo path too; Ethernet on the way of a jumbo sender few more.
    /// spec: atp/path-mtu
    #[test]
    fn the_usual_sizes_are_tried_first() {
        for (max, limit, probes) in
            [(1_452, 9_000, 1), (9_000, 9_000, 1), (9_000, 1_452, 14), (1_200, 9_000, 0)]
        {
            let mut mtu = Mtu::new(max);
            let count = search(&mut mtu, START, limit);
            assert_eq!(mtu.current(), max.min(limit));
            assert!(count <= probes, "{max} on {limit}: {count}");
        }
    }

    /// After ten minutes, and not before, a larger size is tried again.
    /// spec: atp/path-mtu
    #[test]
    fn the_search_is_repeated_after_ten_minutes() {
        let mut mtu = Mtu::new(DATAGRAM_LEN_DEFAULT);
        search(&mut mtu, START, 1_300);
        assert!((1_297..=1_300).contains(&mtu.current()));
        assert_eq!(search(&mut mtu, START + SEARCH_INTERVAL / 2, 1_452), 0);
        assert_eq!(search(&mut mtu, START + SEARCH_INTERVAL, 1_452), 1);
        assert_eq!(mtu.current(), 1_452);
    }

    /// One probe lost by chance costs probes, not bytes.
    #[test]
    fn a_probe_lost_by_chance_does_not_mislead() {
        let mut mtu = Mtu::new(DATAGRAM_LEN_DEFAULT);
        let size = mtu.poll_probe(START).unwrap();
        assert_eq!(mtu.poll_probe(START), Some(size), "asking costs nothing");
        mtu.on_probe_sent(size);
        mtu.on_probe_lost(size);
        search(&mut mtu, START, 1_452);
        assert_eq!(mtu.current(), 1_452);
    }

    fn found(limit: usize) -> Mtu {
        let mut mtu = Mtu::new(DATAGRAM_LEN_DEFAULT);
        search(&mut mtu, START, limit);
        mtu
    }

    /// Three full-size losses, nothing full-size arrived since: a black hole. The search finds what is left.
    /// spec: atp/path-mtu
    #[test]
    fn a_black_hole_is_left() {
        let mut mtu = found(1_452);
        mtu.on_full_acked(10);
        assert!(!mtu.on_lost(11, 1_452) && !mtu.on_lost(12, 1_452) && mtu.on_lost(14, 1_440));
        assert_eq!(mtu.current(), DATAGRAM_MIN);
        assert!(!mtu.on_lost(15, 1_452), "what was sent before is not evidence against what is sent now");
        let count = search(&mut mtu, START, 1_300);
        assert!((1_297..=1_300).contains(&mtu.current()));
        assert!(count <= 9, "{count}");
    }

    /// When the queue was to blame, one probe brings the size back.
    #[test]
    fn a_wrong_suspicion_costs_one_probe() {
        for limit in [1_452, 1_400] {
            let mut mtu = found(limit);
            (1..=3).for_each(|number| {
                mtu.on_lost(number, limit);
            });
            assert_eq!(mtu.current(), DATAGRAM_MIN);
            assert_eq!(search(&mut mtu, START, limit), 1);
            assert_eq!(mtu.current(), limit);
        }
    }

    /// The path shrinks under packets that are too long for it now, and were not full before.
    #[test]
    fn large_packets_that_are_not_full_find_a_black_hole() {
        let mut mtu = Mtu::new(8_900);
        search(&mut mtu, START, 8_900);
        assert!(!mtu.on_lost(1, 3_567) && !mtu.on_lost(2, 3_600));
        assert!(!mtu.is_full(1_452), "shorter ones say nothing of it");
        assert!(mtu.on_lost(3, 3_567));
        assert_eq!(mtu.current(), DATAGRAM_MIN);
        search(&mut mtu, START, 1_472);
        assert!((1_440..=1_472).contains(&mtu.current()), "{}", mtu.current());
        // As long as the shortest that was lost: it is not the path.
        let mut mtu = Mtu::new(8_900);
        search(&mut mtu, START, 8_900);
        assert!(!mtu.on_lost(1, 3_567) && !mtu.on_lost(2, 3_567) && mtu.is_full(3_567));
        mtu.on_full_acked(3);
        assert!(!mtu.on_lost(4, 3_567) && !mtu.on_lost(5, 3_567));
        assert_eq!(mtu.current(), 8_900);
    }

    /// Congestion also loses full-size packets, but others arrive.
    #[test]
    fn congestion_is_no_black_hole() {
        let mut mtu = found(1_452);
        for round in 0..100 {
            mtu.on_full_acked(round * 10 + 9);
            for number in 0..8 {
                assert!(!mtu.on_lost(round * 10 + number, 1_452));
            }
            assert!(!mtu.on_lost(round * 10 + 9, 600), "small packets say nothing");
        }
        assert!(!mtu.on_lost(1_001, 1_452) && !mtu.on_lost(1_002, 1_452));
        mtu.on_full_acked(1_003);
        assert!(!mtu.on_lost(1_004, 1_452) && !mtu.on_lost(1_005, 1_452));
        assert_eq!(mtu.current(), 1_452);
    }

    /// The machine's own refusal is believed at once.
    #[test]
    fn a_refusal_by_the_machine_ends_a_size() {
        let mut mtu = found(1_452);
        assert!(mtu.on_too_big(1_452));
        assert_eq!(mtu.current(), DATAGRAM_MIN);
        search(&mut mtu, START, 1_420);
        assert!((1_417..=1_420).contains(&mtu.current()));
        let mut fresh = Mtu::new(9_000);
        assert_eq!(fresh.poll_probe(START), Some(9_000));
        fresh.on_probe_sent(9_000);
        assert!(!fresh.on_too_big(9_000));
        assert_eq!(fresh.poll_probe(START), Some(1_452));
    }

    proptest! {
        /// Whatever the limit: found to within 4 bytes, in few probes, never above.
        #[test]
        fn every_limit_is_found(max in 1_200usize..9_217, limit in 1_200usize..9_217) {
            let mut mtu = Mtu::new(max);
            let count = search(&mut mtu, START, limit);
            prop_assert!(mtu.current() <= limit && mtu.current() + 4 > limit.min(max));
            prop_assert!(count <= 16, "{}", count);
        }

        /// However probes are lost, the search ends.
        #[test]
        fn a_lossy_search_ends(fates in prop::collection::vec(any::<bool>(), 64)) {
            let mut mtu = Mtu::new(9_000);
            let mut count = 0;
            while let Some(size) = mtu.poll_probe(START) {
                mtu.on_probe_sent(size);
                if fates[count] { mtu.on_probe_acked(size); } else { mtu.on_probe_lost(size); }
                count += 1;
            }
            prop_assert!(count <= 32);
        }
    }
}
