//! A lease: the right to be the only one for a while, for whoever keeps to it.
//!
//! In:    a key, how long the lease shall last, how long to wait for it.
//! Out:   a guard with a fencing token; whether and until when it is held.
//! Holds: it renews itself at a third of its time, on a thread of its own, and is given back when its guard is dropped. It counts as held
//!        until a tenth of its time before the holders let others have it, by the clock of this machine, asleep or awake. Given back
//!        is only what its guard gave back: a lease that was lost, or whose process was killed, runs out.
//!
//! While nodes do not reach each other, or a thread sleeps through its own time, nothing but the fencing token is safe: hand it to whatever
//! you write to, and have that refuse a lower one than it has seen. Holders do so for the leased key itself ([`ChangeOptions::token`]).
//!
//! spec: p2p/lease

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dunlin_codec::args::{LeaseAction, Reason};
use dunlin_shards::dht::values::GivenLeave;
use dunlin_shards::dht::values::decision::{Edit, What};
use dunlin_shards::limits::{LEASE_DEFAULT, LEASE_MAX};
use dunlin_shards::time::Instant;

use super::change::{Done, Verdict, refused};
use super::{ChangeOptions, LIFE, ValueError, check_key};
use crate::bell::{Bell, block_on, block_on_timeout};
use crate::clock::Clock;
use crate::entropy::OsEntropy;
use crate::mailbox::lock;
use crate::network::{Network, NetworkError};

/// The shortest lease: it is renewed over a network.
const LEASE_MIN: Duration = Duration::from_secs(1);
/// The longest pause before a lease that another has is asked for again: it may be given back early.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// The shortest.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// How long a thread sleeps at most before it looks at the time: while the machine sleeps, leases run out and no timer fires.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long giving back may take.
const GIVE_BACK_WAIT: Duration = Duration::from_secs(10);

/// How a lease is taken.
#[derive(Clone, Copy, Debug)]
pub struct LeaseOptions {
    /// How long it lasts unless it is renewed: 1 to 60 s. Others wait so long when this node is gone.
    pub lasts: Duration,
    /// How long to wait while another has it.
    pub wait: Duration,
    /// Another owner's leave for its key.
    pub leave: Option<GivenLeave>,
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self { lasts: LEASE_DEFAULT, wait: Duration::ZERO, leave: None }
    }
}

/// A lease that was taken. Dropped, it is given back.
pub struct Lease {
    holding: Arc<Holding>,
}

/// What the guard and its thread share.
struct Holding {
    key: Vec<u8>,
    options: LeaseOptions,
    clock: Clock,
    phase: Mutex<Phase>,
    changed: Bell,
    end: Mutex<Option<End>>,
    ending: Bell,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Refused(Option<ValueError>),
    Held { token: u64, until: Instant },
    Lost,
    GivenBack,
}

/// How the guard wants it to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    GiveBack,
    RunOut,
}

impl Network {
    /// Takes the lease of a key, and waits for it as long as the options say while another has it.
    ///
    /// # Errors
    /// `Refused` with who has it; why it cannot be had. `Unknown`: it may be held by this node until it runs out.
    pub fn lock(&self, key: &[u8], options: &LeaseOptions) -> Result<Lease, ValueError> {
        block_on(self.lock_async(key, options))
    }

    /// The same for any async runtime. Dropped before it is ready, it gives back what it may have got.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub async fn lock_async(&self, key: &[u8], options: &LeaseOptions) -> Result<Lease, ValueError> {
        check_key(key)?;
        if !(LEASE_MIN..=LEASE_MAX).contains(&options.lasts) {
            return Err(ValueError::BadLease);
        }
        let holding = Arc::new(Holding {
            key: key.to_vec(),
            options: *options,
            clock: self.shared.clock,
            phase: Mutex::new(Phase::Waiting),
            changed: Bell::default(),
            end: Mutex::default(),
            ending: Bell::default(),
        });
        let (network, kept) = (self.clone(), Arc::clone(&holding));
        let lease = Lease { holding };
        let thread = thread::Builder::new().name("dunlin-lease".to_owned());
        thread.spawn(move || Keeping(&kept).keep(&network)).map_err(|_| NetworkError::Busy)?;
        loop {
            let listener = lease.holding.changed.listen();
            match &mut *lock(&lease.holding.phase) {
                Phase::Waiting => {}
                Phase::Refused(why) => return Err(why.take().unwrap_or(ValueError::Lost)),
                Phase::Held { .. } | Phase::Lost | Phase::GivenBack => break,
            }
            listener.await;
        }
        Ok(lease)
    }

    fn ask_lease(
        &self,
        holding: &Holding,
        (action, token): (LeaseAction, u64),
        wait: Duration,
    ) -> Option<Verdict> {
        let lasts = if action == LeaseAction::Release { Duration::ZERO } else { holding.options.lasts };
        let what = What::Lease { action, lasts, token };
        let edit = Edit { key: holding.key.clone(), expected: None, what };
        let leaves = holding.options.leave.into_iter().collect();
        let options = ChangeOptions { life: LIFE, is_owned: false, leaves, token: 0 };
        block_on_timeout(self.decide(vec![edit], &options), wait)
    }
}

impl Lease {
    /// Its key, in msgpack.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.holding.key
    }

    /// Its fencing token, higher than that of every lease of this key before; 0 once it is lost.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.holding.held().map_or(0, |(token, _)| token)
    }

    /// Whether it may be relied on right now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.holding.left().is_some()
    }

    /// Until when it may be relied on unless it is renewed, as a time on CLOCK_BOOTTIME; none: it is lost.
    #[must_use]
    pub fn until(&self) -> Option<Duration> {
        self.holding.held().map(|(_, until)| self.holding.clock.boottime_of(until))
    }

    /// Waits until it is lost, at most so long; whether it is.
    #[must_use]
    pub fn wait_lost(&self, wait: Duration) -> bool {
        let clock = Clock::start();
        loop {
            let listener = self.holding.changed.listen();
            let Some(held) = self.holding.left() else { return true };
            let left = wait.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return false;
            }
            listener.wait_timeout(left.min(held).min(LOOK_EVERY));
        }
    }

    /// Waits until it is lost, in any async runtime.
    pub async fn lost_async(&self) {
        loop {
            let listener = self.holding.changed.listen();
            if !self.is_held() {
                return;
            }
            listener.await;
        }
    }

    /// Gives it back, and waits until others can have it.
    ///
    /// # Errors
    /// `Lost`: it was not ours any more, or nobody could be told; it has run out or will.
    pub fn release(self) -> Result<(), ValueError> {
        block_on(self.release_async())
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::release`].
    pub async fn release_async(self) -> Result<(), ValueError> {
        self.holding.finish(End::GiveBack);
        loop {
            let listener = self.holding.changed.listen();
            match *lock(&self.holding.phase) {
                Phase::GivenBack => return Ok(()),
                Phase::Lost | Phase::Refused(_) => return Err(ValueError::Lost),
                Phase::Waiting | Phase::Held { .. } => {}
            }
            listener.await;
        }
    }

    /// Does not give it back: it runs out. For whoever cannot tell whether what it guards has ended.
    pub fn run_out(self) {
        self.holding.finish(End::RunOut);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.holding.finish(End::GiveBack);
    }
}

impl Holding {
    /// The first word counts.
    fn finish(&self, end: End) {
        lock(&self.end).get_or_insert(end);
        self.ending.ring();
    }

    /// Its token, and until when it may be relied on; none: it may not any more.
    fn held(&self) -> Option<(u64, Instant)> {
        let Phase::Held { token, until } = *lock(&self.phase) else { return None };
        (self.clock.instant() < until).then_some((token, until))
    }

    /// How much longer it may be relied on.
    fn left(&self) -> Option<Duration> {
        let (_, until) = self.held()?;
        Some(until.since(self.clock.instant())).filter(|left| !left.is_zero())
    }

    fn set(&self, phase: Phase) {
        *lock(&self.phase) = phase;
        self.changed.ring();
    }

    /// Waits for the end, at most so long.
    fn wait_end(&self, wait: Duration) -> Option<End> {
        let clock = Clock::start();
        loop {
            let listener = self.ending.listen();
            let end = *lock(&self.end);
            let left = wait.saturating_sub(clock.elapsed());
            if end.is_some() || left.is_zero() {
                return end;
            }
            listener.wait_timeout(left.min(LOOK_EVERY));
        }
    }
}

/// The thread's work on a lease. However that ends, nobody waits for it afterwards.
struct Keeping<'a>(&'a Holding);

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        let is_open = matches!(*lock(&self.0.phase), Phase::Waiting | Phase::Held { .. });
        if is_open {
            self.0.set(Phase::Lost);
        }
    }
}

impl Keeping<'_> {
    /// The thread's work: takes it, renews it, gives it back.
    fn keep(self, network: &Network) {
        let token = match self.acquire(network) {
            Ok(Some(token)) => token,
            Ok(None) => return,
            Err(error) => return self.0.set(Phase::Refused(Some(error))),
        };
        match self.renew(network, token) {
            Some(End::GiveBack) => {
                let wait = self.0.options.lasts.min(GIVE_BACK_WAIT);
                let done = network.ask_lease(self.0, (LeaseAction::Release, token), wait);
                self.0.set(if matches!(done, Some(Ok(Ok(_)))) { Phase::GivenBack } else { Phase::Lost });
            }
            Some(End::RunOut) | None => self.0.set(Phase::Lost),
        }
    }

    /// Its token; none: nobody wants it any more.
    fn acquire(&self, network: &Network) -> Result<Option<u64>, ValueError> {
        let clock = Clock::start();
        loop {
            let wait = self.0.options.wait.saturating_sub(clock.elapsed());
            let tried = network.ask_lease(self.0, (LeaseAction::Acquire, 0), Duration::MAX);
            let (error, left) = match tried.unwrap_or(Err(ValueError::Unknown)) {
                Ok(Ok(Done { token, held_until, .. })) => {
                    self.0.set(Phase::Held { token, until: held_until });
                    return Ok(Some(token));
                }
                Ok(Err((reason, state))) => {
                    let left = state.get(&self.0.key).map_or(0, |cell| cell.left_ms);
                    let error = refused(reason, &state, [&self.0.key[..]].into_iter());
                    if reason != Reason::Leased {
                        return Err(error);
                    }
                    (error, Duration::from_millis(left))
                }
                Err(error @ (ValueError::Unknown | ValueError::Unreached)) => (error, PAUSE_MAX),
                Err(error) => return Err(error),
            };
            if wait.is_zero() {
                return Err(error);
            }
            if self.0.wait_end(pause(left).min(wait)).is_some() {
                return Ok(None);
            }
        }
    }

    /// Renews it until its guard ends it; none: it is lost.
    fn renew(&self, network: &Network, token: u64) -> Option<End> {
        let lasts = self.0.options.lasts;
        let mut pause = lasts / 3;
        loop {
            let left = self.0.left()?;
            if let Some(end) = self.0.wait_end(pause.min(left)) {
                return Some(end);
            }
            let left = self.0.left()?;
            match network.ask_lease(self.0, (LeaseAction::Renew, token), left)? {
                Ok(Ok(done)) => {
                    self.0.set(Phase::Held { token, until: done.held_until });
                    pause = lasts / 3;
                }
                Ok(Err((Reason::StaleToken | Reason::NotAllowed, _)))
                | Err(ValueError::Network(NetworkError::Stopped)) => return None,
                Ok(Err(_)) | Err(_) => pause = lasts / 12,
            }
        }
    }
}

/// Between half of a pause and all of it, so that those who wait do not all come at once.
fn pause(left: Duration) -> Duration {
    let whole = left.clamp(PAUSE_MIN, PAUSE_MAX);
    let [chance] = OsEntropy.array::<1>();
    whole / 2 + whole * u32::from(chance) / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(phase: Phase) -> Arc<Holding> {
        Arc::new(Holding {
            key: b"\xa1k".to_vec(),
            options: LeaseOptions::default(),
            clock: Clock::start(),
            phase: Mutex::new(phase),
            changed: Bell::default(),
            end: Mutex::default(),
            ending: Bell::default(),
        })
    }

    fn lease(phase: Phase) -> Lease {
        Lease { holding: holding(phase) }
    }

    /// Nothing but time ends it: no thread runs.
    /// spec: p2p/lease
    #[test]
    fn a_lease_ends_with_its_time() {
        let clock = Clock::start();
        let lease = lease(Phase::Held { token: 9, until: Instant::from_nanos(30_000_000) });
        assert!(lease.until().unwrap() <= clock.boottime_of(clock.instant()) + Duration::from_millis(30));
        assert!(lease.wait_lost(Duration::from_secs(60)) && !lease.is_held());
        assert!(clock.elapsed() >= Duration::from_millis(29), "it was held until then");
        let later = self::lease(Phase::Held { token: 9, until: Instant::from_nanos(u64::MAX / 2) });
        assert!(!later.wait_lost(Duration::from_millis(5)) && later.is_held() && later.token() == 9);
    }

    #[test]
    fn the_first_word_on_its_end_counts() {
        let lease = lease(Phase::Held { token: 9, until: Instant::from_nanos(u64::MAX / 2) });
        let holding = Arc::clone(&lease.holding);
        assert_eq!(holding.wait_end(Duration::ZERO), None);
        lease.run_out();
        assert_eq!(holding.wait_end(Duration::MAX), Some(End::RunOut));
    }

    /// A thread that ends before its time leaves nobody waiting.
    #[test]
    fn whoever_waits_for_a_lease_hears_of_its_end() {
        for phase in [Phase::Waiting, Phase::Held { token: 9, until: Instant::from_nanos(u64::MAX / 2) }] {
            let lease = lease(phase);
            let holding = Arc::clone(&lease.holding);
            let waiting = thread::spawn(move || lease.release());
            drop(Keeping(&holding));
            assert!(matches!(waiting.join().unwrap(), Err(ValueError::Lost)));
        }
    }

    #[test]
    fn pauses_are_bounded() {
        for left in [Duration::ZERO, PAUSE_MAX, Duration::MAX] {
            assert!((PAUSE_MIN / 2..=PAUSE_MAX).contains(&pause(left)), "{left:?}");
        }
    }
}
