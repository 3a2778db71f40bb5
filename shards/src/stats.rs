//! What a shard counts: every datagram that it dropped, by reason, and what it did.
//!
//! In:    one call per fact.
//! Out:   numbers; sums of several shards.
//! Holds: counting never fails, allocates or logs.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a datagram, packet or piece of mail was dropped. Nothing else was changed by it.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum DropReason { $($(#[doc = $doc])+ $name,)+ }

        impl DropReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name in metrics and tables.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

reasons! {
    /// Shorter than any packet.
    TooShort,
    /// Longer than the configured largest datagram.
    TooLong,
    /// A first byte that no packet has.
    UnknownType,
    /// Bencoded dialect: not served by this node.
    KrpcNotServed,
    /// A source address that nobody can have: port 0, multicast, broadcast, unspecified, or our own.
    BadSource,
    /// Bytes that do not follow their type's layout.
    Malformed,
    /// Another protocol version or an unknown suite or pattern.
    UnknownVersion,
    /// A session id that no live session has.
    UnknownSession,
    /// A packet number that was opened before.
    Replayed,
    /// A packet number older than the replay window.
    TooOld,
    /// A tag that does not hold.
    Forged,
    /// Too many packets from addresses other than the session's own since the last that opened.
    UnmatchedSource,
    /// A Hello whose mac1 is not made for us.
    BadMac1,
    /// A Hello without a cookie while one is needed; it was answered with one, or the answer was over its rate.
    CookieNeeded,
    /// A Hello whose cookie is wrong or too old.
    BadCookie,
    /// A Hello over its prefix's or key's rate while under load.
    HandshakeRate,
    /// A Hello while the handshake queue is full.
    HandshakeQueueFull,
    /// A Noise message that does not decrypt or has a bad point.
    HandshakeFailed,
    /// An identity that is not canonical, of small order, or not the one proven.
    BadIdentity,
    /// A handshake with ourselves.
    OwnIdentity,
    /// A Hello while the table of sessions is full.
    SessionsFull,
    /// A Welcome, Finish or Cookie for a handshake that is not under way.
    NoHandshake,
    /// A Reset whose token is not the session's.
    BadReset,
    /// A packet for a session that is closing.
    Closing,
    /// No memory left for what the packet carried; it was not acknowledged.
    NoMemory,
    /// Mail between shards that found the ring full, or was over its rate.
    MailFull,
    /// Mail that names a session or handshake which is gone.
    StaleMail,
    /// A reply that would have been larger than what an unvalidated address sent.
    AmplificationLimit,
    /// A reply over its prefix's rate.
    ReplyRate,
    /// More landed on this shard for others than it passes on.
    MisroutedRate,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What a shard did since its start.
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: u64,)+
            drops: [u64; DropReason::ALL.len()],
        }

        impl Stats {
            /// Every counter but the drops, by name.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }

            /// Adds another shard's numbers.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
                for (sum, drops) in self.drops.iter_mut().zip(other.drops) {
                    *sum += drops;
                }
            }
        }
    };
}

counters! {
    /// Calls of `handle_datagram`: trains received.
    trains_in,
    /// Datagrams received.
    datagrams_in,
    /// Bytes of UDP payload received.
    bytes_in,
    /// Trains sent.
    trains_out,
    /// Datagrams sent.
    datagrams_out,
    /// Bytes of UDP payload sent.
    bytes_out,
    /// Sealed packets opened.
    packets_opened,
    /// Packets that were found lost.
    packets_lost,
    /// Packets found lost whose acknowledgement came later.
    packets_lost_spuriously,
    /// Segments sent again.
    segments_resent,
    /// Probe timeouts that fired.
    probe_timeouts,
    /// Messages delivered to the application.
    messages_delivered,
    /// Messages taken from the application.
    messages_sent,
    /// Handshakes begun by us.
    handshakes_begun,
    /// Handshakes completed, on either side.
    handshakes_completed,
    /// Handshakes of ours that ran into their deadline.
    handshakes_timed_out,
    /// Hellos answered with a Cookie.
    cookies_sent,
    /// Hellos whose early data was delivered.
    early_data_accepted,
    /// Hellos whose early data was refused; it travels again after the handshake.
    early_data_refused,
    /// Stateless resets sent.
    resets_sent,
    /// Stateless resets believed: their sessions began anew or ended.
    resets_taken,
    /// Sessions opened.
    sessions_opened,
    /// Sessions closed, for any reason.
    sessions_closed,
    /// Sessions whose peer came to another address.
    sessions_roamed,
    /// Key phases begun by us.
    key_phases,
    /// Exchanges inside a session that renewed its secrets.
    rehandshakes,
    /// Datagrams that landed on a shard which did not own them.
    misrouted,
    /// Sessions that we initiated and handed to the shard that takes their datagrams, as nothing steers them to us.
    sessions_handed,
    /// Larger datagrams found to fit the path.
    mtu_raised,
    /// Paths that were found to carry less than before.
    mtu_lowered,
    /// Bytes sent by stateless replies.
    stateless_bytes_out,
}

impl Stats {
    /// Counts a drop.
    pub fn count_drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// How often something was dropped for this reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Every drop, whatever the reason.
    #[must_use]
    pub fn drops_total(&self) -> u64 {
        self.drops.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_hold_counters_and_drops() {
        let mut one = Stats { trains_in: 2, ..Stats::default() };
        one.count_drop(DropReason::Forged);
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!((sum.trains_in, sum.drops(DropReason::Forged), sum.drops_total()), (4, 2, 2));
    }

    #[test]
    fn a_reasons_place_is_its_index() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{}", reason.name());
        }
    }
}
