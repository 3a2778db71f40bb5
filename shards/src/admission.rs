//! Who may have a handshake: cookies and budgets, which act only under load (T1, T2).
//!
//! In:    Hellos whose mac1 held, time.
//! Out:   a verdict; whether a cookie is to be asked for.
//! Holds: an address without a bucket (loopback, trusted) is never refused; without load nobody is.
//!
//! Load is the queue's length, or the processor time that handshakes took: a shard has no clock, so the
//! time is the number of handshakes begun in the last 100 ms times what one costs (`HANDSHAKE_COST`).
//! The time makes untrusted addresses prove that they are there; a trusted one needs no proof, and is not charged a round
//! trip for being busy. A long queue asks everybody.

use core::hash::BuildHasher;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::hash::HashKey;
use crate::limits::{
    COOKIES_PER_SECOND, HANDSHAKE_BURST, HANDSHAKE_COST, HANDSHAKE_CPU_LOAD_PERCENT, HANDSHAKE_LOAD_HOLD,
    HANDSHAKE_QUEUE_LOAD, HANDSHAKES_PER_SECOND_KEY, HANDSHAKES_PER_SECOND_PREFIX, MISROUTED_PER_SECOND,
    REPLIES_PER_SECOND_PREFIX, RESETS_PER_SECOND,
};
use crate::time::{Instant, nanos_of};

/// How many buckets a table has; a power of two.
const BUCKETS: usize = 1 << 11;
const WINDOW: Duration = Duration::from_millis(100);

/// A network prefix with its length in bits: trusted ones have no bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prefix {
    /// Its address.
    pub address: IpAddr,
    /// How many leading bits count.
    pub bits: u8,
}

impl Prefix {
    /// The address lies within.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let word = |address| match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((ours, width), (theirs, their_width)) = (word(self.address), word(address));
        let bits = u32::from(self.bits).min(width);
        width == their_width && (bits == 0 || (ours ^ theirs) >> (128 - bits) == 0)
    }
}

/// Token buckets by key: a fixed table; a full bucket makes room for another key.
#[derive(Debug)]
struct Buckets {
    slots: Vec<(u64, u64)>,
    interval: u64,
    burst: u64,
}

impl Buckets {
    fn per_second(rate: u64, burst: u64) -> Self {
        Self { slots: Vec::new(), interval: 1_000_000_000 / rate, burst }
    }

    /// Takes a token. Each slot holds the instant at which its bucket is full again (virtual scheduling).
    fn take(&mut self, key: u64, now: Instant) -> bool {
        if self.slots.is_empty() {
            self.slots.resize(BUCKETS, (0, 0));
        }
        let now = now.as_nanos();
        let slot = &mut self.slots[key as usize % BUCKETS];
        if slot.0 != key && slot.1 > now {
            // Somebody else's bucket is in use here: share it rather than grow.
            return Self::spend(&mut slot.1, now, self.interval, self.burst);
        }
        if slot.0 != key {
            *slot = (key, now);
        }
        Self::spend(&mut slot.1, now, self.interval, self.burst)
    }

    fn spend(full_at: &mut u64, now: u64, interval: u64, burst: u64) -> bool {
        let next = (*full_at).max(now) + interval;
        if next - now > interval * burst {
            return false;
        }
        *full_at = next;
        true
    }
}

/// The shard's gate for handshakes.
#[derive(Debug)]
pub struct Admission {
    hash: HashKey,
    trusted: Vec<Prefix>,
    prefixes: Buckets,
    keys: Buckets,
    replies: Buckets,
    cookies: Buckets,
    resets: Buckets,
    misrouted: Buckets,
    window_started: Instant,
    window_handshakes: u64,
    /// The queue was long until then, and a while after.
    crowded_until: Instant,
    /// Handshakes took too much of the core until then, and a while after.
    busy_until: Instant,
}

impl Admission {
    /// A gate; `trusted` prefixes have no bucket, nor has loopback.
    #[must_use]
    pub fn new(hash: HashKey, trusted: Vec<Prefix>) -> Self {
        Self {
            hash,
            trusted,
            prefixes: Buckets::per_second(HANDSHAKES_PER_SECOND_PREFIX, HANDSHAKE_BURST),
            keys: Buckets::per_second(HANDSHAKES_PER_SECOND_KEY, HANDSHAKE_BURST),
            replies: Buckets::per_second(REPLIES_PER_SECOND_PREFIX, REPLIES_PER_SECOND_PREFIX),
            cookies: Buckets::per_second(COOKIES_PER_SECOND, COOKIES_PER_SECOND / 10),
            resets: Buckets::per_second(RESETS_PER_SECOND, RESETS_PER_SECOND / 10),
            misrouted: Buckets::per_second(MISROUTED_PER_SECOND, MISROUTED_PER_SECOND / 10),
            window_started: Instant::ZERO,
            window_handshakes: 0,
            crowded_until: Instant::ZERO,
            busy_until: Instant::ZERO,
        }
    }

    /// The address has no bucket.
    #[must_use]
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.trusted.iter().any(|prefix| prefix.contains(address))
    }

    /// A handshake is about to be computed.
    pub fn on_handshake(&mut self, now: Instant) {
        if now.since(self.window_started) >= WINDOW {
            self.window_started = now;
            self.window_handshakes = 0;
        }
        self.window_handshakes += 1;
        let spent = HANDSHAKE_COST.saturating_mul(u32::try_from(self.window_handshakes).unwrap_or(u32::MAX));
        if spent * 100 > WINDOW * HANDSHAKE_CPU_LOAD_PERCENT {
            self.busy_until = now + HANDSHAKE_LOAD_HOLD;
        }
    }

    /// The window still has time for a handshake of an untrusted address, of which `percent` of a core is theirs under load.
    #[must_use]
    pub fn has_time(&self, now: Instant, percent: u32) -> bool {
        let spent = HANDSHAKE_COST.saturating_mul(u32::try_from(self.window_handshakes).unwrap_or(u32::MAX));
        now >= self.busy_until.max(self.crowded_until)
            || now.since(self.window_started) >= WINDOW
            || spent * 100 < WINDOW * percent
    }

    /// Hellos from there must carry a cookie now.
    pub fn is_under_load(&mut self, now: Instant, queued: usize, from: IpAddr) -> bool {
        if queued >= HANDSHAKE_QUEUE_LOAD {
            self.crowded_until = now + HANDSHAKE_LOAD_HOLD;
        }
        now < self.crowded_until || (now < self.busy_until && !self.is_trusted(from))
    }

    /// The prefix has a handshake left. Asked only under load, for addresses that are not trusted.
    pub fn take_prefix(&mut self, remote: SocketAddr, now: Instant) -> bool {
        let key = self.prefix_key(remote.ip());
        self.prefixes.take(key, now)
    }

    /// The static key has a handshake left. Asked only under load.
    pub fn take_key(&mut self, static_key: &[u8; 32], now: Instant) -> bool {
        let key = self.hash.hash_one(static_key);
        self.keys.take(key, now)
    }

    /// A stateless reply may go there.
    pub fn take_reply(&mut self, remote: SocketAddr, now: Instant) -> bool {
        if self.is_trusted(remote.ip()) {
            return true;
        }
        let key = self.reply_key(remote.ip());
        self.replies.take(key, now)
    }

    /// Another Cookie may be sent.
    pub fn take_cookie(&mut self, now: Instant) -> bool {
        self.cookies.take(1, now)
    }

    /// Another Reset may go there. Trusted addresses have a bound too: a flood from one must not be answered at its own rate.
    pub fn take_reset(&mut self, remote: SocketAddr, now: Instant) -> bool {
        self.take_reply(remote, now) && self.resets.take(1, now)
    }

    /// Another datagram may be passed on to the shard that it belongs to (T24).
    pub fn take_misrouted(&mut self, now: Instant) -> bool {
        self.misrouted.take(1, now)
    }

    /// How long until the window of handshakes ends.
    #[must_use]
    pub fn window_left(&self, now: Instant) -> Duration {
        Duration::from_nanos(nanos_of(WINDOW).saturating_sub(nanos_of(now.since(self.window_started))))
    }

    fn prefix_key(&self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(v4) => self.hash.hash_one((4_u8, u64::from(v4.to_bits()))),
            IpAddr::V6(v6) => self.hash.hash_one((6_u8, (v6.to_bits() >> 64) as u64)),
        }
    }

    fn reply_key(&self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(v4) => self.hash.hash_one((14_u8, u64::from(v4.to_bits() >> 8))),
            IpAddr::V6(v6) => self.hash.hash_one((16_u8, (v6.to_bits() >> 80) as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Admission {
        Admission::new(HashKey([1, 2]), vec![Prefix { address: "10.1.0.0".parse().unwrap(), bits: 16 }])
    }

    /// T2: a prefix under load has its burst, then its rate.
    #[test]
    fn a_prefix_has_a_burst_and_then_a_rate() {
        let mut gate = gate();
        let remote = "198.51.100.7:9".parse().unwrap();
        let at = |millis: u64| Instant::from_nanos(1_000_000_000 + millis * 1_000_000);
        let burst = (0..20).filter(|_| gate.take_prefix(remote, at(0))).count();
        assert_eq!(burst as u64, HANDSHAKE_BURST);
        let later = (0..20).filter(|_| gate.take_prefix(remote, at(100))).count();
        assert_eq!(later as u64, HANDSHAKES_PER_SECOND_PREFIX / 10);
    }

    /// T24: what lands on the wrong shard does not eat the right one.
    #[test]
    fn misrouted_datagrams_have_a_rate() {
        let mut gate = gate();
        let at = |micros: u64| Instant::from_nanos(1_000_000_000 + micros * 1_000);
        let once = (0..200_000).filter(|_| gate.take_misrouted(at(0))).count() as u64;
        assert_eq!(once, MISROUTED_PER_SECOND / 10);
        let second = (0..1_000_000).filter(|n| gate.take_misrouted(at(1 + n))).count() as u64;
        assert!(
            (MISROUTED_PER_SECOND * 9 / 10..=MISROUTED_PER_SECOND * 11 / 10).contains(&second),
            "{second}"
        );
    }

    /// T1: whoever floods with packets for nobody is not answered at the flood's rate, loopback or not.
    #[test]
    fn resets_have_a_rate_for_everybody() {
        let at = |millis: u64| Instant::from_nanos(1_000_000_000 + millis * 1_000_000);
        for remote in ["127.0.0.1:9", "10.1.0.1:9"] {
            let (mut gate, remote) = (gate(), remote.parse().unwrap());
            let once = (0..10_000).filter(|_| gate.take_reset(remote, at(0))).count() as u64;
            assert_eq!(once, RESETS_PER_SECOND / 10);
            let second = (0..10_000).filter(|n| gate.take_reset(remote, at(1 + n / 10))).count() as u64;
            assert!((RESETS_PER_SECOND * 9 / 10..=RESETS_PER_SECOND * 11 / 10).contains(&second), "{second}");
        }
        let (mut gate, stranger) = (gate(), "198.51.100.7:9".parse().unwrap());
        let once = (0..10_000).filter(|_| gate.take_reset(stranger, at(0))).count() as u64;
        assert!(once <= REPLIES_PER_SECOND_PREFIX, "{once}");
    }

    #[test]
    fn trusted_prefixes_and_loopback_have_no_bucket() {
        let gate = gate();
        assert!(gate.is_trusted("127.0.0.9".parse().unwrap()));
        assert!(gate.is_trusted("10.1.200.3".parse().unwrap()));
        assert!(!gate.is_trusted("10.2.0.1".parse().unwrap()));
        assert!(!gate.is_trusted("::ffff".parse().unwrap()));
    }

    /// T1: load begins at the queue's mark and ends a second after it has gone.
    #[test]
    fn load_has_hysteresis() {
        let mut gate = gate();
        let at = |millis: u64| Instant::from_nanos(1_000_000_000 + millis * 1_000_000);
        let anybody = "198.51.100.7".parse().unwrap();
        assert!(!gate.is_under_load(at(0), HANDSHAKE_QUEUE_LOAD - 1, anybody));
        assert!(gate.is_under_load(at(1), HANDSHAKE_QUEUE_LOAD, anybody));
        assert!(gate.is_under_load(at(900), 0, anybody));
        assert!(gate.is_under_load(at(900), 0, "127.0.0.1".parse().unwrap()), "a long queue asks everybody");
        assert!(!gate.is_under_load(at(1100), 0, anybody));
    }

    #[test]
    fn many_handshakes_in_a_window_are_load_for_untrusted_addresses() {
        let mut gate = gate();
        let anybody = "198.51.100.7".parse().unwrap();
        let now = Instant::from_nanos(5_000_000_000);
        let enough =
            WINDOW.as_nanos() * u128::from(HANDSHAKE_CPU_LOAD_PERCENT) / 100 / HANDSHAKE_COST.as_nanos();
        for _ in 0..enough {
            gate.on_handshake(now);
        }
        assert!(!gate.is_under_load(now, 0, anybody));
        gate.on_handshake(now);
        gate.on_handshake(now);
        assert!(gate.is_under_load(now, 0, anybody));
        assert!(
            !gate.is_under_load(now, 0, "10.1.2.3".parse().unwrap()),
            "a trusted address has nothing to prove"
        );
    }
}
