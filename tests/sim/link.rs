//! One direction between two nodes, and everything that can go wrong on it.
//!
//! In:    datagrams, one at a time, with the moment at which they leave.
//! Out:   when and how each arrives, or why it does not.
//! Holds: each datagram has its own fate, also within a train. All chance comes from the world's generator.

use core::cell::Cell;
use core::time::Duration;
use std::collections::BTreeSet;
use std::rc::Rc;

use dunlin_shards::rng::Rng;
use dunlin_shards::route::{Ecn, TransmitError};
use dunlin_shards::time::nanos_of;

/// Bytes of IPv4 and UDP headers, which a link's rate is charged for too.
const HEADERS_LEN: usize = 28;

/// Losses that come in bursts: a chain of two states (Gilbert and Elliott).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Burst {
    /// Chance in a thousand to enter a burst, per datagram.
    pub begin_permille: u32,
    /// Chance in a thousand to leave it, per datagram.
    pub end_permille: u32,
    /// Chance in a thousand to be lost while in it.
    pub loss_permille: u32,
}

/// How a link treats datagrams. Chances are in a thousand, lengths in bytes of UDP payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conditions {
    /// Lost, each by itself.
    pub loss_permille: u32,
    /// Lost in bursts.
    pub burst: Option<Burst>,
    /// Delivered twice.
    pub duplicate_permille: u32,
    /// Held back, so that later ones overtake it …
    pub reorder_permille: u32,
    /// … for up to so long.
    pub reorder_by: Duration,
    /// One bit is wrong.
    pub corrupt_permille: u32,
    /// The end is missing.
    pub truncate_permille: u32,
    /// Time on the way.
    pub delay: Duration,
    /// More time on the way, up to so much; keeps the order.
    pub jitter: Duration,
    /// Bits a second.
    pub rate: Option<u64>,
    /// Bytes that may wait for the rate; what comes then is dropped.
    pub queue_len: usize,
    /// Bytes waiting above which ECN-capable datagrams are marked.
    pub mark_above: Option<usize>,
    /// The longest datagram that passes.
    pub mtu: usize,
    /// A longer one is refused to its sender (EMSGSIZE) and not just lost.
    pub refuses_too_long: bool,
    /// Nothing passes.
    pub is_cut: bool,
    /// What enters is held until then, and comes out at once: time since the world began.
    pub clogged_until: Duration,
    /// Sends for which the kernel has no buffer (ENOBUFS).
    pub no_buffers_permille: u32,
    /// Sends that somebody on the way is said to have refused (ECONNREFUSED).
    pub refused_permille: u32,
    /// Sends that the outgoing link says are too long (EMSGSIZE), whatever their length.
    pub too_long_permille: u32,
    /// Datagrams of one train that arrive at one moment are handed over as one train (GRO).
    pub joins: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            loss_permille: 0,
            burst: None,
            duplicate_permille: 0,
            reorder_permille: 0,
            reorder_by: Duration::from_millis(20),
            corrupt_permille: 0,
            truncate_permille: 0,
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            rate: None,
            queue_len: 256 << 10,
            mark_above: None,
            mtu: 1_472,
            refuses_too_long: false,
            is_cut: false,
            clogged_until: Duration::ZERO,
            no_buffers_permille: 0,
            refused_permille: 0,
            too_long_permille: 0,
            joins: true,
        }
    }
}

/// Why a datagram did not arrive, or not as it was.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// By chance.
    Loss,
    /// In a burst of losses.
    Burst,
    /// No room in the queue.
    Queue,
    /// Longer than the link carries.
    TooLong,
    /// The link is cut.
    Cut,
    /// A story wanted it to be.
    Scripted,
    /// The sender's kernel had no buffer.
    NoBuffers,
    /// The sender was told that nobody listens there.
    Refused,
    /// A NAT does not let it in, or not back.
    Filtered,
    /// Nobody has the address, or its node is down.
    Nobody,
    /// Delivered twice.
    Duplicated,
    /// Overtaken.
    Reordered,
    /// One bit was changed.
    Corrupted,
    /// Its end was cut off.
    Truncated,
    /// It carries a mark of congestion.
    Marked,
    /// It was held back with everything else on the link.
    Clogged,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Loss,
        Self::Burst,
        Self::Queue,
        Self::TooLong,
        Self::Cut,
        Self::Scripted,
        Self::NoBuffers,
        Self::Refused,
        Self::Filtered,
        Self::Nobody,
        Self::Duplicated,
        Self::Reordered,
        Self::Corrupted,
        Self::Truncated,
        Self::Marked,
        Self::Clogged,
    ];
}

/// What a link has done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LinkCounts {
    /// Datagrams given to it.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    causes: [u64; Cause::ALL.len()],
}

impl LinkCounts {
    /// How often this happened.
    #[must_use]
    pub fn of(&self, cause: Cause) -> u64 {
        self.causes[cause as usize]
    }

    /// Datagrams that did not arrive.
    #[must_use]
    pub fn lost(&self) -> u64 {
        Cause::ALL.iter().take(Cause::Nobody as usize + 1).map(|cause| self.of(*cause)).sum()
    }

    pub(crate) fn count(&mut self, cause: Cause) {
        self.causes[cause as usize] += 1;
    }
}

/// A datagram that arrives.
#[derive(Clone, Debug)]
pub struct Carried {
    /// When, in nanoseconds of the world.
    pub at: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its mark.
    pub ecn: Ecn,
}

/// Decides whether a datagram is dropped: a story's own rule.
pub type Filter = Box<dyn FnMut(&[u8]) -> bool>;

/// When the last bit of what waits leaves a queue. Clones are the same queue.
#[derive(Clone, Debug, Default)]
pub struct Queue(Rc<Cell<u64>>);

/// One direction between two nodes.
#[derive(Default)]
pub struct Link {
    /// How it treats datagrams, from now on.
    pub conditions: Conditions,
    /// What it has done.
    pub counts: LinkCounts,
    in_burst: bool,
    /// The queue before the rate; other links may wait in it too.
    queue: Queue,
    /// The order is kept: nothing arrives before this.
    latest: u64,
    drops: BTreeSet<u64>,
    filter: Option<Filter>,
    recording: Option<Vec<Vec<u8>>>,
}

impl Link {
    /// A link with these conditions.
    #[must_use]
    pub fn new(conditions: Conditions) -> Self {
        Self { conditions, ..Self::default() }
    }

    /// Drops the `n`-th datagram from now on, counted from 1.
    pub fn drop_nth(&mut self, n: u64) -> &mut Self {
        self.drops.insert(self.counts.datagrams + n);
        self
    }

    /// Drops every datagram for which `filter` says so.
    pub fn drop_if(&mut self, filter: impl FnMut(&[u8]) -> bool + 'static) -> &mut Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// Ends `drop_if`.
    pub fn drop_no_more(&mut self) -> &mut Self {
        self.filter = None;
        self
    }

    /// The queue that its datagrams wait in.
    #[must_use]
    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// From now on its datagrams wait in another link's queue, behind and before those of that link: a bottleneck that both share.
    /// Both must have the same rate.
    pub fn share(&mut self, queue: Queue) -> &mut Self {
        self.queue = queue;
        self
    }

    /// Keeps a copy of every datagram from now on.
    pub fn record(&mut self) -> &mut Self {
        self.recording = Some(Vec::new());
        self
    }

    /// What was recorded; recording goes on from nothing.
    pub fn take_recorded(&mut self) -> Vec<Vec<u8>> {
        self.recording.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// Carries one datagram.
    ///
    /// # Errors
    /// Why it does not arrive.
    pub fn carry(
        &mut self,
        now: u64,
        (datagram, ecn): (&[u8], Ecn),
        chance: &mut Rng,
        out: &mut Vec<Carried>,
    ) -> Result<(), Cause> {
        self.counts.datagrams += 1;
        self.counts.bytes += datagram.len() as u64;
        if let Some(recording) = &mut self.recording {
            recording.push(datagram.to_vec());
        }
        let arrival = self.pass(now, datagram, ecn, chance);
        let (at, ecn) = arrival.inspect_err(|cause| self.counts.count(*cause))?;
        let mut bytes = datagram.to_vec();
        self.damage(&mut bytes, chance);
        if self.happens(self.conditions.duplicate_permille, Cause::Duplicated, chance) {
            let again = at + chance.below(nanos_of(self.conditions.delay).max(1_000_000));
            out.push(Carried { at: again, bytes: bytes.clone(), ecn });
        }
        out.push(Carried { at, bytes, ecn });
        Ok(())
    }

    /// The error that the sender's kernel gives for a train, if it gives one: nothing of it leaves then.
    pub fn refuses(&mut self, segment_len: usize, chance: &mut Rng) -> Option<(Cause, TransmitError)> {
        let Conditions { no_buffers_permille, refused_permille, too_long_permille, .. } = self.conditions;
        let is_longer = segment_len > self.conditions.mtu && self.conditions.refuses_too_long;
        if is_longer || self.happens(too_long_permille, Cause::TooLong, chance) {
            return Some((Cause::TooLong, TransmitError::TooLong));
        }
        if self.happens(no_buffers_permille, Cause::NoBuffers, chance) {
            return Some((Cause::NoBuffers, TransmitError::NoBuffers));
        }
        self.happens(refused_permille, Cause::Refused, chance)
            .then_some((Cause::Refused, TransmitError::Refused))
    }

    fn happens(&mut self, permille: u32, cause: Cause, chance: &mut Rng) -> bool {
        let happens = permille > 0 && chance.below(1_000) < u64::from(permille);
        if happens {
            self.counts.count(cause);
        }
        happens
    }

    /// When it arrives, and with which mark.
    fn pass(&mut self, now: u64, datagram: &[u8], ecn: Ecn, chance: &mut Rng) -> Result<(u64, Ecn), Cause> {
        if self.conditions.is_cut {
            return Err(Cause::Cut);
        }
        if datagram.len() > self.conditions.mtu {
            return Err(Cause::TooLong);
        }
        let is_scripted = self.filter.as_mut().is_some_and(|filter| filter(datagram));
        if self.drops.remove(&self.counts.datagrams) || is_scripted {
            return Err(Cause::Scripted);
        }
        self.lose(chance)?;
        let (left, ecn) = self.wait(now, datagram.len(), ecn)?;
        let jitter = nanos_of(self.conditions.jitter);
        let jitter = if jitter > 0 { chance.below(jitter) } else { 0 };
        let at = (left + nanos_of(self.conditions.delay) + jitter).max(self.latest).max(now + 1_000);
        let clogged_until = nanos_of(self.conditions.clogged_until);
        if clogged_until > at {
            self.counts.count(Cause::Clogged);
            self.latest = clogged_until;
            return Ok((clogged_until, ecn));
        }
        if self.happens(self.conditions.reorder_permille, Cause::Reordered, chance) {
            return Ok((at + 1 + chance.below(nanos_of(self.conditions.reorder_by).max(1)), ecn));
        }
        self.latest = at;
        Ok((at, ecn))
    }

    fn lose(&mut self, chance: &mut Rng) -> Result<(), Cause> {
        let draw = |permille: u32, chance: &mut Rng| chance.below(1_000) < u64::from(permille);
        if let Some(burst) = self.conditions.burst {
            let turn = if self.in_burst { burst.end_permille } else { burst.begin_permille };
            self.in_burst ^= draw(turn, chance);
            if self.in_burst && draw(burst.loss_permille, chance) {
                return Err(Cause::Burst);
            }
        }
        if self.conditions.loss_permille > 0 && draw(self.conditions.loss_permille, chance) {
            return Err(Cause::Loss);
        }
        Ok(())
    }

    /// When its last bit has left, after all that waits before it.
    fn wait(&mut self, now: u64, len: usize, ecn: Ecn) -> Result<(u64, Ecn), Cause> {
        let Some(rate) = self.conditions.rate else { return Ok((now, ecn)) };
        let begin = self.queue.0.get().max(now);
        let waiting = (u128::from(begin - now) * u128::from(rate) / 8_000_000_000) as usize;
        if waiting + len > self.conditions.queue_len {
            return Err(Cause::Queue);
        }
        let is_marked = self.conditions.mark_above.is_some_and(|mark| waiting > mark);
        let ecn = if is_marked && ecn != Ecn::NotEct {
            self.counts.count(Cause::Marked);
            Ecn::Ce
        } else {
            ecn
        };
        let bits = (len + HEADERS_LEN) as u128 * 8;
        let end = begin + (bits * 1_000_000_000 / u128::from(rate)) as u64;
        self.queue.0.set(end);
        Ok((end, ecn))
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, chance: &mut Rng) {
        if bytes.is_empty() {
            return;
        }
        if self.happens(self.conditions.corrupt_permille, Cause::Corrupted, chance) {
            let bit = chance.below(8 * bytes.len() as u64);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        if self.happens(self.conditions.truncate_permille, Cause::Truncated, chance) {
            bytes.truncate(chance.below(bytes.len() as u64) as usize);
        }
    }
}
