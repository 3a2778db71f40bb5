//! Which rumours are carried on: asked of the shard that their origin hashes to, once for the node.
//!
//! In:    a message that came, and its id; time.
//! Out:   yes, or why not; each no is counted.
//! Holds: nothing is entered before its signature held, nothing is verified beyond the core's share for it.
//!
//! A shard has no clock, so what verifying costs is reckoned: [`RUMOUR_COST`] each.
//!
//! spec: p2p/rumours

use core::time::Duration;

use dunlin_codec::args::Request;
use dunlin_codec::bytes::Reader;
use dunlin_codec::label::Network;
use dunlin_codec::message::{EVERYBODY, Freshness, Operation, Signed, SignedMessageId};

use super::origins::{Origins, Standing};
use super::{RumourLimits, Seen, check_signature};
use crate::budget::Budget;
use crate::hash::HashKey;
use crate::limits::{RUMOUR_AGE_MAX, RUMOUR_BURST, RUMOUR_COST, RUMOUR_LEN_MAX, RUMOUR_SKEW};
use crate::time::{Now, WallMillis};

/// Why a rumour is not carried on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It was carried on before.
    Duplicate,
    /// It is none: for one node alone, sealed, too long, or not what its operation says.
    Malformed,
    /// Its time is too far from ours.
    Stale,
    /// Its number is too far below others of its origin for us to know whether it was used.
    Replayed,
    /// Its origin says too much.
    TooFast,
    /// Its origin was caught saying two things under one number, of late.
    Muted,
    /// Whoever brought it, or everybody together, brought more than may be verified.
    OverBudget,
    /// Its origin did not sign it.
    Forged,
    /// Its origin signed another under the same number: proof that it lies.
    Equivocated,
}

impl Refusal {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Duplicate,
        Self::Malformed,
        Self::Stale,
        Self::Replayed,
        Self::TooFast,
        Self::Muted,
        Self::OverBudget,
        Self::Forged,
        Self::Equivocated,
    ];
}

/// What became of rumours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Verified and taken.
    pub taken: u64,
    /// Verified: some of them refused then.
    pub verified: u64,
    /// Copies that were given to links.
    pub carried: u64,
    /// Copies that were not, as their link had no room.
    pub crowded_out: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl Counts {
    /// How many were refused for a reason.
    #[must_use]
    pub const fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize]
    }

    /// Counts so many more.
    pub const fn on_refused(&mut self, reason: Refusal, count: u64) {
        self.refused[reason as usize] += count;
    }

    /// These and others.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.taken += other.taken;
        self.verified += other.verified;
        self.carried += other.carried;
        self.crowded_out += other.crowded_out;
        self.refused.iter_mut().zip(other.refused).for_each(|(sum, count)| *sum += count);
        self
    }
}

/// What one shard decides for its node.
#[derive(Debug)]
pub struct Court {
    network: Network,
    limits: RumourLimits,
    origins: Origins,
    spent: Budget,
    /// What became of what it was asked.
    pub counts: Counts,
}

const fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Whether a message's time is near enough to ours.
/// spec: p2p/rumour-age
const fn is_fresh(freshness: Freshness, now: WallMillis) -> bool {
    let apart = freshness.time_ms.abs_diff(now.0);
    apart <= millis(RUMOUR_AGE_MAX) + millis(RUMOUR_SKEW)
}

impl Court {
    /// Nobody was heard yet. The key is drawn at start.
    #[must_use]
    pub fn new(network: Network, limits: RumourLimits, key: HashKey) -> Self {
        Self {
            network,
            limits,
            origins: Origins::new(key),
            spent: Budget::default(),
            counts: Counts::default(),
        }
    }

    /// Decides, and enters what is taken. The message is as before afterwards.
    ///
    /// # Errors
    /// `Refusal`: why it is not carried on; counted.
    pub fn judge(
        &mut self,
        now: Now,
        seen: &mut Seen,
        id: &SignedMessageId,
        message: &mut [u8],
    ) -> Result<(), Refusal> {
        self.decide(now, seen, (id, message), is_rumour)
    }

    /// The same for a letter, of which the caller knows that it is for this node.
    ///
    /// # Errors
    /// `Refusal`: why it is not taken; counted.
    pub fn judge_letter(
        &mut self,
        now: Now,
        seen: &mut Seen,
        id: &SignedMessageId,
        message: &mut [u8],
    ) -> Result<(), Refusal> {
        self.decide(now, seen, (id, message), is_letter)
    }

    fn decide(
        &mut self,
        now: Now,
        seen: &mut Seen,
        (id, message): (&SignedMessageId, &mut [u8]),
        is_fit: fn(&Signed<'_>) -> bool,
    ) -> Result<(), Refusal> {
        let verdict = self.verdict(now, seen, (id, message), is_fit);
        match verdict {
            Ok(()) => self.counts.taken += 1,
            Err(reason) => self.counts.on_refused(reason, 1),
        }
        verdict
    }

    fn verdict(
        &mut self,
        now: Now,
        seen: &mut Seen,
        (id, message): (&SignedMessageId, &mut [u8]),
        is_fit: fn(&Signed<'_>) -> bool,
    ) -> Result<(), Refusal> {
        if seen.has(id) {
            return Err(Refusal::Duplicate);
        }
        let signed = Signed::parse(&mut Reader::new(message)).map_err(|_| Refusal::Malformed)?;
        let freshness = signed.freshness().filter(|_| is_fit(&signed)).ok_or(Refusal::Malformed)?;
        let from = signed.from();
        if !is_fresh(freshness, now.wall) {
            return Err(Refusal::Stale);
        }
        let standing = self.origins.standing(now.instant, &from, freshness, self.limits.origin);
        match standing {
            Standing::New | Standing::Used => {}
            Standing::Old => return Err(Refusal::Replayed),
            Standing::TooFast => return Err(Refusal::TooFast),
            Standing::Muted => return Err(Refusal::Muted),
        }
        self.spend(now)?;
        self.counts.verified += 1;
        check_signature(&self.network, message).map_err(|_| Refusal::Forged)?;
        // spec: p2p/equivocation
        if standing == Standing::Used {
            // We took another under this number. Were that forgotten, this could be it: then nobody is to blame.
            if !seen.is_whole(now.instant) {
                return Err(Refusal::Replayed);
            }
            self.origins.mute(now.instant, &from);
            return Err(Refusal::Equivocated);
        }
        self.origins.enter(now.instant, &from, freshness, self.limits.origin);
        seen.enter(now.instant, id);
        Ok(())
    }

    /// Takes the time for one signature from the core's share.
    // spec: p2p/rumour-budget
    fn spend(&mut self, now: Now) -> Result<(), Refusal> {
        let percent = self.limits.cpu_percent;
        if percent == 0 || self.spent.ready_at(RUMOUR_BURST) > now.instant {
            return Err(Refusal::OverBudget);
        }
        if percent < 100 {
            self.spent.take(now.instant, RUMOUR_COST * 100 / percent);
        }
        Ok(())
    }
}

/// For everybody, readable by everybody, and what its operation says.
fn is_rumour(message: &Signed<'_>) -> bool {
    let operation = message.operation();
    matches!(operation, Operation::Shout | Operation::Announce | Operation::ChangeKey)
        && message.to() == EVERYBODY
        && !message.is_sealed()
        && message.payload().len() <= RUMOUR_LEN_MAX
        && Request::parse(operation, message.payload()).is_ok()
}

/// For one node alone, readable by it alone.
fn is_letter(message: &Signed<'_>) -> bool {
    message.operation() == Operation::Whisper && message.is_sealed() && message.to() != EVERYBODY
}

#[cfg(test)]
mod tests {
    use dunlin_codec::message::{SignedHeader, set_signature};

    use super::*;
    use crate::budget::Rate;
    use crate::gossip::{Rumour, message_id};
    use crate::identity::Identity;
    use crate::time::Instant;

    const NETWORK: Network = Network([7; 32]);
    const WALL: u64 = 1_700_000_000_000;

    fn at(millis: u64) -> Now {
        let instant = Instant::ZERO + Duration::from_secs(1_000) + Duration::from_millis(millis);
        Now { instant, wall: WallMillis(WALL + millis) }
    }

    struct Bar {
        court: Court,
        seen: Seen,
    }

    impl Bar {
        fn new(limits: RumourLimits) -> Self {
            Self { court: Court::new(NETWORK, limits, HashKey([1, 2])), seen: Seen::new(HashKey([3, 4])) }
        }

        fn judge(&mut self, now: Now, message: &[u8]) -> Result<(), Refusal> {
            let id = message_id(&NETWORK, &Signed::parse(&mut Reader::new(message)).unwrap());
            let mut copy = message.to_vec();
            let verdict = self.court.judge(now, &mut self.seen, &id, &mut copy);
            assert_eq!(copy, message, "it is as before");
            verdict
        }
    }

    fn open() -> Bar {
        Bar::new(RumourLimits::UNLIMITED)
    }

    fn header(origin: u8, time_ms: u64, count: u64) -> SignedHeader {
        SignedHeader {
            operation: Operation::Shout,
            is_sealed: false,
            from: Identity::from_seed([origin; 32]).id(),
            to: EVERYBODY,
            freshness: Some(Freshness { time_ms, instance: 5, count }),
        }
    }

    fn signed(header: &SignedHeader, origin: u8, payload: &[u8]) -> Vec<u8> {
        let identity = Identity::from_seed([origin; 32]);
        Rumour::sign(&identity, &NETWORK, (header, payload), None).message().bytes().to_vec()
    }

    fn shout(origin: u8, count: u64, payload: &[u8]) -> Vec<u8> {
        signed(&header(origin, WALL, count), origin, payload)
    }

    /// spec: p2p/rumours
    #[test]
    fn what_was_signed_is_taken_once() {
        let mut bar = open();
        let message = shout(1, 0, &[0xc0]);
        assert_eq!(bar.judge(at(0), &message), Ok(()));
        assert_eq!(bar.judge(at(1), &message), Err(Refusal::Duplicate));
        assert_eq!((bar.court.counts.verified, bar.court.counts.taken), (1, 1), "it was verified once");
        assert_eq!(bar.court.counts.refused(Refusal::Duplicate), 1);
    }

    /// A forged copy under the same id is refused and shadows nothing; another valid signature would be the same message.
    /// spec: p2p/rumours, p2p/signature-rule
    #[test]
    fn a_forged_copy_does_not_shadow_the_true_one() {
        let mut bar = open();
        let message = shout(1, 0, &[0xc0]);
        let mut forged = message.clone();
        for at_byte in [0, 31, 32, 63] {
            forged.copy_from_slice(&message);
            forged[at_byte] ^= 1;
            assert_eq!(bar.judge(at(0), &forged), Err(Refusal::Forged), "byte {at_byte}");
        }
        // S + l: the same signature to a lax verifier.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        forged.copy_from_slice(&message);
        let mut carry = 0;
        for (byte, add) in forged[32..64].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert_eq!(bar.judge(at(0), &forged), Err(Refusal::Forged), "a signature has one form");
        assert_eq!(bar.judge(at(0), &message), Ok(()));
    }

    /// spec: p2p/rumour-age
    #[test]
    fn a_message_is_of_its_time() {
        let mut bar = open();
        let limit = 150_000;
        for (count, (time, expected)) in [
            (WALL - limit, Ok(())),
            (WALL + limit, Ok(())),
            (WALL - limit - 1, Err(Refusal::Stale)),
            (WALL + limit + 1, Err(Refusal::Stale)),
            (0, Err(Refusal::Stale)),
            (u64::MAX, Err(Refusal::Stale)),
        ]
        .into_iter()
        .enumerate()
        {
            let message = signed(&header(1, time, count as u64), 1, &[0xc0]);
            assert_eq!(bar.judge(at(0), &message), expected, "{time}");
        }
    }

    /// What is for one node, sealed, too long or no value is no rumour: nobody verifies it.
    /// spec: p2p/rumours
    #[test]
    fn what_is_no_rumour_is_not_verified() {
        let mut bar = open();
        let usual = header(1, WALL, 0);
        let id = usual.from;
        for (header, payload) in [
            (SignedHeader { to: id, ..usual }, vec![0xc0]),
            (SignedHeader { is_sealed: true, ..usual }, vec![0xc0]),
            (SignedHeader { operation: Operation::Whisper, ..usual }, vec![0xc0]),
            (SignedHeader { operation: Operation::Announce, ..usual }, vec![0xc0]),
            (SignedHeader { freshness: None, ..usual }, vec![0xc0]),
            (usual, vec![0xc1]),
            (usual, vec![0xc0, 0xc0]),
            (usual, [&[0xc5, 0x20, 0x00][..], &[0; 0x2000]].concat()),
        ] {
            let message = signed(&header, 1, &payload);
            assert_eq!(bar.judge(at(0), &message), Err(Refusal::Malformed), "{header:?}");
        }
        assert_eq!(bar.court.counts.verified, 0);
        let longest = [&[0xc5, 0x1f, 0xfd][..], &[0; 0x1ffd]].concat();
        assert_eq!(bar.judge(at(0), &signed(&usual, 1, &longest)), Ok(()));
    }

    /// Two things under one number: the second is not taken, and nothing of that origin is for a while. Others are not hurt.
    /// spec: p2p/equivocation
    #[test]
    fn who_says_two_things_under_one_number_is_muted() {
        let mut bar = open();
        assert_eq!(bar.judge(at(0), &shout(1, 0, &[0xc0])), Ok(()));
        let mut framed = shout(1, 0, &[0xc3]);
        framed[3] ^= 1;
        assert_eq!(bar.judge(at(0), &framed), Err(Refusal::Forged), "nobody is muted by others");
        assert_eq!(bar.judge(at(0), &shout(1, 1, &[0xc0])), Ok(()));
        assert_eq!(bar.judge(at(0), &shout(1, 0, &[0xc3])), Err(Refusal::Equivocated));
        assert_eq!(bar.judge(at(0), &shout(1, 2, &[0xc0])), Err(Refusal::Muted));
        assert_eq!(bar.judge(at(0), &shout(2, 2, &[0xc0])), Ok(()));
        let later = 601_000;
        let after = signed(&header(1, WALL + later, 3), 1, &[0xc0]);
        assert_eq!(bar.judge(at(later), &after), Ok(()), "its time is over");
    }

    /// A number far below the others of its start is not taken, seen or not: nobody can know.
    /// spec: p2p/origin-window
    #[test]
    fn a_number_below_the_window_is_not_taken() {
        let mut bar = open();
        assert_eq!(bar.judge(at(0), &shout(1, 100, &[0xc0])), Ok(()));
        assert_eq!(bar.judge(at(0), &shout(1, 36, &[0xc0])), Err(Refusal::Replayed));
        assert_eq!(bar.judge(at(0), &shout(1, 37, &[0xc0])), Ok(()));
    }

    /// Whatever comes, a core verifies no more than its share; what is forged takes from it as well.
    /// spec: p2p/rumour-budget
    #[test]
    fn verifying_keeps_to_its_share() {
        let mut bar = Bar::new(RumourLimits { cpu_percent: 1, ..RumourLimits::UNLIMITED });
        let mut forged = shout(1, 0, &[0xc0]);
        forged[3] ^= 1;
        let mut verified = 0;
        for millis in 0..2_000 {
            for _ in 0..4 {
                let verdict = bar.judge(at(millis), &forged);
                assert!(matches!(verdict, Err(Refusal::Forged | Refusal::OverBudget)));
                verified += u64::from(verdict == Err(Refusal::Forged));
            }
        }
        assert_eq!(verified, bar.court.counts.verified);
        // 1 % of two seconds and of the burst, at 30 us each.
        let expected = (2_000 + RUMOUR_BURST.as_millis() as u64) * 10 / 30;
        assert!(verified.abs_diff(expected) <= 2, "{verified}, {expected} expected");
        let none = RumourLimits { cpu_percent: 0, ..RumourLimits::UNLIMITED };
        assert_eq!(Bar::new(none).judge(at(0), &shout(1, 0, &[0xc0])), Err(Refusal::OverBudget));
        let none = RumourLimits { origin: Rate { per_second: 0, burst: 1 }, ..RumourLimits::UNLIMITED };
        assert_eq!(Bar::new(none).judge(at(0), &shout(1, 0, &[0xc0])), Err(Refusal::TooFast));
    }

    /// An id and a label are of one network: words of another are forged here.
    /// spec: p2p/rumours
    #[test]
    fn words_of_another_network_are_forged_here() {
        let identity = Identity::from_seed([1; 32]);
        let rumour = Rumour::sign(&identity, &Network([8; 32]), (&header(1, WALL, 0), &[0xc0]), None);
        assert_eq!(open().judge(at(0), rumour.message().bytes()), Err(Refusal::Forged));
        let mut unsigned = shout(1, 0, &[0xc0]);
        set_signature(&mut unsigned, &[0; 64]).unwrap();
        assert_eq!(open().judge(at(0), &unsigned), Err(Refusal::Forged));
    }
}
