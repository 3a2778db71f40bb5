//! Planted bugs, to prove that the simulator finds what it is built to find (`tests/mutants`).
//!
//! In:    one mutant chosen by `plant`, for the whole process.
//! Out:   `planted`, asked at the one place where each bug would be.
//! Holds: without the feature `mutants`, which is off by default, `planted` is the constant `false` and every bug is compiled away.
//!
//! The feature belongs to one command, `cargo planted`. Nothing that is shipped, measured or tested may turn it on; `--all-features` would,
//! so no command of ours says that, and tidy looks after it.

#[cfg(feature = "mutants")]
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

macro_rules! mutants {
    ($(#[doc = $doc:literal] $name:ident,)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Mutant { $(#[doc = $doc] $name,)+ }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// It shows among nodes that carry rumours, and nowhere else.
            #[must_use]
            pub const fn is_of_rumours(self) -> bool {
                matches!(self, Self::RumourSeenIgnored | Self::RumourEchoed)
            }

            /// It shows among nodes that keep values, and nowhere else.
            #[must_use]
            pub const fn is_of_values(self) -> bool {
                self as usize >= Self::MajorityTooSmall as usize
            }

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What is wrong with it, in a sentence.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $doc.trim_ascii(),)+ }
            }
        }
    };
}

mutants! {
    /// The replay window's upper end is off by one: the newest packet number is fresh twice.
    ReplayWindowOffByOne,
    /// The receive window's lower end is off by one: the message before the next is taken for the next.
    ReceiveWindowOffByOne,
    /// The sender's credit is off by one message: one is started as long as any is left.
    CreditOffByOne,
    /// A packet number is used again for what a probe sends again.
    NumberReused,
    /// Bytes sent to a path that has not answered are not counted.
    PathBudgetNotCounted,
    /// A Reset answers packets that are no longer than itself.
    ResetForShortPackets,
    /// An acknowledgement that is due while own packets are under way is forgotten.
    AckForgotten,
    /// A packet is acknowledged although there was no memory for its message.
    AckedWithoutMemory,
    /// Packets that carry nothing but acknowledgements are acknowledged.
    AckAcknowledged,
    /// The loss timer acts whenever any timer of its session fires.
    StaleTimerActedOn,
    /// After a pause the session probes once for each timeout that it slept through.
    ProbeForEachMissedTimeout,
    /// The probe timeout does not double while nothing comes back.
    ProbeTimeoutNotDoubled,
    /// A packet is lost as soon as any later one arrived.
    LossThresholdOff,
    /// Every other packet's segments are sent twice, lost or not.
    SentTwice,
    /// Early data is delivered before the strike register of another shard has answered.
    StrikeAskedLate,
    /// The strike register forgets the generation before this one.
    StrikeGenerationForgotten,
    /// Early data is taken whatever start of the node it was meant for.
    EarlyDataForAnyInstance,
    /// A Hello's mac1 is not checked.
    Mac1NotChecked,
    /// A cookie is good at every address.
    CookieNotBound,
    /// A session follows a packet to another address without asking there.
    RoamedUnasked,
    /// A Reset's token is not compared with the session's.
    ResetTokenNotCompared,
    /// The key phase is flipped before a packet of the present one was acknowledged.
    KeyFlippedEarly,
    /// The previous key goes as soon as the next one is heard of.
    PreviousKeyDropped,
    /// A message that came and went out of order is delivered again when it comes again.
    DuplicateDelivered,
    /// An ordered channel delivers what arrives, as it arrives.
    OrderIgnored,
    /// Every 64th message that is complete and acknowledged is forgotten before its application has it.
    DeliveryForgotten,
    /// A piece that arrives beyond a gap is put one byte too early.
    PieceMisplaced,
    /// The sender does not charge for the messages that it starts.
    CreditNotCharged,
    /// A channel's new limit is never told.
    CreditNeverTold,
    /// The bytes of a message that was taken back do not come home.
    CancelledNotFreed,
    /// No SKIP is written for a message that was taken back.
    SkipNotWritten,
    /// A peer may leave as many gaps as it likes.
    GapsNotLimited,
    /// Both sessions of a simultaneous open stay.
    BothSessionsStay,
    /// The directory takes identities with one byte in common for one.
    IdentitiesConfused,
    /// What a restarted peer has not acknowledged is not sent again.
    RestartForgets,
    /// A session that is closing never goes.
    ClosingNeverEnds,
    /// A shutdown leaves the first session alone.
    ShutdownForgets,
    /// A silent session never ends.
    IdleIgnored,
    /// A session that is opened by us is counted twice.
    SessionCountedTwice,
    /// The table of sessions has one place more than its limit.
    SessionsOffByOne,
    /// The block of a Hello that was refused does not go home.
    BlockLeaked,
    /// The pool of blocks does not look at its budget.
    PoolBudgetIgnored,
    /// Buffers are sealed before they are filled up with zeros.
    PaddingNotWritten,
    /// A letter that finds its ring full is lost.
    MailLost,
    /// A datagram that landed on the wrong shard is dropped.
    MisroutedDropped,
    /// The length of a sealed packet is not looked at.
    LengthNotChecked,
    /// A forged packet is dropped without being counted.
    DropNotCounted,
    /// A rumour that was carried on before is taken again.
    RumourSeenIgnored,
    /// A rumour is carried on to whom it came from, too.
    RumourEchoed,
    /// Half of the holders, less than more than half, decide.
    MajorityTooSmall,
    /// A holder accepts what is below what it has promised.
    PromiseNotKept,
    /// What was promised and accepted is not known any more after a restart.
    RegisterForgotten,
    /// A register is begun by a majority of those who answer, whoever else may have begun it.
    SilentNotCounted,
    /// The members under whom a state was accepted need not promise.
    MembersIgnored,
    /// What must be there is not compared with what is.
    ConditionIgnored,
    /// A fencing token is not compared with the lease's.
    TokenNotCompared,
    /// A lease counts from when it was granted, and for twice its time.
    LeaseKeptTooLong,
    /// What an owner puts has the first sequence, whatever is there.
    SequenceNotRead,
    /// A holder that has promised once promises nothing to others.
    PromisedForGood,
}

/// The planted mutant's place in `Mutant::ALL`.
#[cfg(feature = "mutants")]
static PLANTED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// From now on this bug is in the code of every thread, and no other; `None`: none is.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.store(mutant.map_or(usize::MAX, |mutant| mutant as usize), Relaxed);
}

/// Whether this bug is in the code.
#[cfg(feature = "mutants")]
#[inline]
#[must_use]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.load(Relaxed) == mutant as usize
}

/// Whether this bug is in the code: never.
#[cfg(not(feature = "mutants"))]
#[inline]
#[must_use]
pub const fn planted(_: Mutant) -> bool {
    false
}

#[cfg(all(test, not(feature = "mutants")))]
mod tests {
    use super::*;

    #[test]
    fn no_bug_is_planted_by_default() {
        const NEVER: bool = planted(Mutant::NumberReused);
        assert!(!NEVER && Mutant::ALL.iter().all(|mutant| !planted(*mutant)));
    }
}
