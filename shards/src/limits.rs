//! Every bound in one place, with its default. The threats behind them: T1-T34.

use core::time::Duration;

use crate::budget::Rate;

/// The smallest datagram every path carries, and what a session starts with, in bytes of UDP payload.
pub const DATAGRAM_MIN: usize = 1_200;
/// A message's largest size, by default, in bytes.
pub const MESSAGE_LEN_MAX: usize = 1 << 20;
/// Acknowledged ranges in one acknowledgement at most.
pub const ACK_RANGES_MAX: usize = 64;
/// How long an acknowledgement may wait.
pub const ACK_DELAY_MAX: Duration = Duration::from_millis(25);
/// What an acknowledgement's delay field may claim at most (T4).
pub const ACK_DELAY_CLAIM_MAX: Duration = Duration::from_millis(250);
/// An acknowledgement of unreliable messages alone waits at most this long: nothing of them is sent again, so that only congestion control
/// is told late, of at most an eighth of its window.
pub const ACK_DELAY_PATIENT: Duration = Duration::from_millis(250);
/// A path's round trip before it was measured.
pub const INITIAL_RTT: Duration = Duration::from_millis(100);
/// A handshake that took longer says nothing of the path.
pub const HANDSHAKE_ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
/// The finest grain of loss timers.
pub const TIMER_GRANULARITY: Duration = Duration::from_millis(1);
/// Receive and send buffer of a session at first, in bytes (T17).
pub const BUFFER_LEN_MIN: usize = 256 << 10;
/// Receive and send buffer of a session when its path has earned it, in bytes (T17).
pub const BUFFER_LEN_MAX: usize = 16 << 20;
/// Partly received messages of a session at most.
pub const OPEN_MESSAGES_MAX: usize = 64;
/// Gaps in what was received of a session at most.
pub const GAPS_MAX: usize = 1_024;
/// How long an unreliable message may stay incomplete.
pub const REASSEMBLY_LIFE: Duration = Duration::from_secs(30);
/// The replay window at first, in packets.
pub const REPLAY_WINDOW_MIN: usize = 2_048;
/// The replay window at most, in packets.
pub const REPLAY_WINDOW_MAX: usize = 16_384;
/// A key's life in time before the next phase.
pub const REKEY_AFTER: Duration = Duration::from_secs(120);
/// A key's life in packets before the next phase.
pub const REKEY_AFTER_PACKETS: u64 = 1 << 26;
/// A key's life in time after which nothing more is sealed with it.
pub const REJECT_AFTER: Duration = Duration::from_secs(180);
/// A key's life in packets after which nothing more is sealed with it.
pub const REJECT_AFTER_PACKETS: u64 = 1 << 28;
/// How long a cookie's secret lives; the one before it is accepted too.
pub const COOKIE_SECRET_LIFE: Duration = Duration::from_secs(120);
/// How far a Hello's clock may be from ours for early data.
pub const EARLY_DATA_SKEW: Duration = Duration::from_secs(60);
/// How long one generation of the strike register lives; two are kept.
pub const STRIKE_GENERATION_LIFE: Duration = Duration::from_secs(120);

const _: () = assert!(REKEY_AFTER_PACKETS < REJECT_AFTER_PACKETS);
const _: () = assert!(REPLAY_WINDOW_MIN < REPLAY_WINDOW_MAX && REPLAY_WINDOW_MIN.is_power_of_two());
const _: () = assert!(BUFFER_LEN_MIN < BUFFER_LEN_MAX && MESSAGE_LEN_MAX <= BUFFER_LEN_MAX);
const _: () = assert!(STRIKE_GENERATION_LIFE.as_secs() >= 2 * EARLY_DATA_SKEW.as_secs());

/// Bytes that may be sent to an unvalidated path for each byte received from it (T3).
pub const AMPLIFICATION_PATH: u64 = 3;
/// Hellos waiting in a shard above which it is under load (T1).
pub const HANDSHAKE_QUEUE_LOAD: usize = 64;
/// Hellos waiting in a shard at most.
pub const HANDSHAKE_QUEUE_MAX: usize = 512;
/// How long load lasts after its cause has gone.
pub const HANDSHAKE_LOAD_HOLD: Duration = Duration::from_secs(1);
/// What the responder's side of an IK handshake costs on the machine this was measured on.
pub const HANDSHAKE_COST: Duration = Duration::from_micros(100);
/// The share of a core for handshakes above which the shard is under load.
pub const HANDSHAKE_CPU_LOAD_PERCENT: u32 = 20;
/// The share of a core for handshakes of untrusted addresses while under load.
pub const HANDSHAKE_CPU_PERCENT: u32 = 25;
/// Handshakes of one /32 or /64 a second, under load.
pub const HANDSHAKES_PER_SECOND_PREFIX: u64 = 20;
/// Handshakes of one static key a second, under load.
pub const HANDSHAKES_PER_SECOND_KEY: u64 = 2;
/// Handshakes at once, per prefix or key, under load.
pub const HANDSHAKE_BURST: u64 = 5;
/// Cookies a second and shard at most.
pub const COOKIES_PER_SECOND: u64 = 5_000;
/// Stateless replies to one /24 or /48 a second at most.
pub const REPLIES_PER_SECOND_PREFIX: u64 = 100;
/// Resets a second and shard at most, to whomever: sending one takes longer than dropping ten packets.
pub const RESETS_PER_SECOND: u64 = 1_000;
/// Datagrams that a shard passes on to others, a second at most. Each is a letter; trains of ten would be 50,000 a second.
pub const MISROUTED_PER_SECOND: u64 = 500_000;
/// The first wait before a Hello is sent again; doubles.
pub const HELLO_RETRY_MIN: Duration = Duration::from_millis(250);
/// The longest wait before a Hello is sent again.
pub const HELLO_RETRY_MAX: Duration = Duration::from_secs(2);
/// When a handshake is given up.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a responder keeps its Welcome for a Hello that comes again.
pub const WELCOME_LIFE: Duration = Duration::from_secs(10);
/// Hellos whose early data waits for the strike register, per shard.
pub const STRIKES_WAITING_MAX: usize = 64;
/// How long early data waits for the strike register.
pub const STRIKE_WAIT: Duration = Duration::from_millis(5);
/// A session without any packet from its peer ends after this.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Path probes in flight at most.
pub const PATH_PROBES_MAX: u8 = 4;
/// Packets from other addresses that may fail to open before a session ignores them until one opens.
pub const UNMATCHED_SOURCES_MAX: u32 = 64;
/// Probe timeouts in a row after which a peer that owes an answer is given up.
pub const PROBES_UNANSWERED_MAX: u32 = 8;
/// When the secrets of a session are renewed by an exchange inside it.
pub const REHANDSHAKE_AFTER: Duration = Duration::from_secs(3600);
/// How long a session that is closing answers its peer's packets with CLOSE.
pub const CLOSE_LINGER: Duration = Duration::from_secs(3);
/// How long a session for which another carries on still takes in what its peer sends.
pub const YIELD_LINGER: Duration = Duration::from_secs(10);
/// How long a session that its peer has left waits before it asks again which one carries on.
pub const YIELD_ASK_AGAIN: Duration = Duration::from_secs(1);
/// Letters of a shard that wait for room in a ring at most.
pub const POSTPONED_MAX: usize = 4_096;
/// How long they wait before they are tried again.
pub const POSTPONED_FOR: Duration = Duration::from_millis(1);
/// Half-open handshakes kept by a shard as a responder at most.
pub const HALF_OPEN_MAX: usize = 4_096;
/// Sessions of one identity in the directory at most: instances of one key on several devices.
pub const INSTANCES_MAX: usize = 8;
/// Bytes that a shard may hold in all (T17).
pub const SHARD_MEMORY: usize = 256 << 20;

const _: () = assert!(HANDSHAKE_QUEUE_LOAD < HANDSHAKE_QUEUE_MAX);
const _: () = assert!(HELLO_RETRY_MAX.as_millis() < HANDSHAKE_DEADLINE.as_millis());

/// How large a shard's tables may grow. They start small and grow only when peers are admitted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions at most, half-open ones included.
    pub sessions: usize,
    /// Half-open handshakes as a responder at most.
    pub half_open: usize,
    /// Bytes of messages and buffers at most.
    pub memory: usize,
    /// A message's largest size in bytes.
    pub message_len_max: usize,
    /// A session's send queue when its path has earned it, in bytes.
    pub send_buffer_max: usize,
    /// The share of a core for handshakes of untrusted addresses while under load, in percent (T2).
    pub handshake_cpu_percent: u32,
    /// A session's receive buffer when its path has earned it, in bytes.
    pub receive_buffer_max: usize,
    /// Slots of the strike register's part in this shard, per generation.
    pub strikes: usize,
    /// Identities whose check is remembered.
    pub identities: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1 << 17,
            half_open: HALF_OPEN_MAX,
            memory: SHARD_MEMORY,
            message_len_max: MESSAGE_LEN_MAX,
            send_buffer_max: BUFFER_LEN_MAX,
            handshake_cpu_percent: HANDSHAKE_CPU_PERCENT,
            receive_buffer_max: BUFFER_LEN_MAX,
            strikes: 1 << 20,
            identities: 1 << 16,
        }
    }
}

impl Limits {
    /// For worlds of many nodes in one process.
    #[must_use]
    pub fn small() -> Self {
        Self {
            sessions: 256,
            half_open: 128,
            memory: 32 << 20,
            strikes: 1 << 12,
            identities: 1 << 10,
            ..Self::default()
        }
    }
}
/// A peer that owes an acknowledgement and says nothing for this long is given up.
pub const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(30);
/// Quiet time after which a session frees the buffers that a burst left behind, and a shard its free blocks.
pub const SHRINK_AFTER: Duration = Duration::from_secs(5);
/// Blocks that a quiet shard takes in that time at most: one that takes more keeps its free blocks, and so asks for no memory.
pub const QUIET_TAKES_MAX: u64 = 64;
/// How long a shard may be short of memory before it closes a session.
pub const SHORT_OF_MEMORY_MAX: Duration = Duration::from_secs(1);
/// Sessions that ended in others and are remembered, so that what is still written to them follows.
pub const HEIRS_MAX: usize = 256;
/// Sessions that a message or a fence passes on its way to the one that carries on, at most.
pub const HEIR_HOPS_MAX: u8 = 8;
/// What a compressed transmission may become by default, in bytes (T15).
pub const TRANSMISSION_LEN_MAX: usize = 1 << 20;
/// What a session may agree on instead at most, in bytes (T15).
pub const TRANSMISSION_LEN_CEILING: usize = 16 << 20;
/// How many times its length a compressed body may become (T15).
pub const COMPRESSED_RATIO_MAX: usize = 256;
/// What may come out before that is looked at, in bytes (T15).
pub const RATIO_FREE_LEN: usize = 64 << 10;
/// The largest dictionary that an lzma body may name, in bytes (T15).
pub const LZMA_MEMORY_MAX: u32 = 8 << 20;
/// A body shorter than this is not compressed, in bytes: a method's own header would eat what is won.
pub const COMPRESSION_LEN_MIN: usize = 128;
/// A body is compressed when that takes away at least this part of it.
pub const COMPRESSION_GAIN_DIVISOR: usize = 16;
/// A value's largest size, in bytes of msgpack (T11).
pub const VALUE_LEN_MAX: usize = 64 << 10;

const _: () = assert!(TRANSMISSION_LEN_MAX <= TRANSMISSION_LEN_CEILING);
const _: () = assert!(VALUE_LEN_MAX < dunlin_codec::message::PAYLOAD_LEN_MAX);
/// Questions of ours that one peer has not answered at most.
pub const REQUESTS_OPEN_MAX: usize = 256;
/// Answers to questions that are not known yet, of all peers of a shard, and their bytes.
pub const STRAYS_COUNT_MAX: usize = 64;
/// See [`STRAYS_COUNT_MAX`].
pub const STRAYS_LEN_MAX: usize = 512 << 10;
/// Questions of one peer that we have not answered at most.
pub const REQUESTS_OWED_MAX: usize = 256;
/// How long a question of a peer's keeps its place among those while nobody answers it: what should have may be lost.
pub const OWED_LIFE: Duration = Duration::from_secs(60);
/// Requests of one peer a second, by default; a tenth of them may come at once.
pub const REQUESTS_PER_SECOND_PEER: u64 = 20_000;
/// How long a question waits for its answer, by default.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Facts of one conversation that wait for their reader at most.
pub const FACTS_WAITING_MAX: usize = 1_024;
/// What they hold of the peer's at most, in bytes; the last may go beyond.
pub const FACTS_LEN_MAX: usize = 2 << 20;
/// What waits to be said to one peer at most, in bytes of messages.
pub const OUTBOX_LEN_MAX: usize = 2 << 20;
/// The share of a core for the compressed bodies of one peer, in percent: 50 ms a second (T15).
pub const DECOMPRESSION_PERCENT: u32 = 5;
/// What a peer's compressed bodies may be ahead of that share, as time in which it is made good: 10 ms of work.
pub const DECOMPRESSION_BURST: Duration = Duration::from_millis(200);
/// Inbound links for each that a node opens.
pub const LINKS_INBOUND_FACTOR: u32 = 4;

const _: () = assert!(MESSAGE_LEN_MAX <= OUTBOX_LEN_MAX);
/// How long a node's record holds at most (T10).
pub const NODE_RECORD_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How far a record's maker's clock may be ahead of ours.
pub const NODE_RECORD_SKEW: Duration = Duration::from_secs(120);
/// Nodes of one /24 or /48 in a bucket at most (T9 allows two): ten such networks then leave six of sixteen places to others.
pub const PREFIX_BUCKET_MAX: usize = 1;
/// Nodes of one /24 or /48 in the table at most (T9).
pub const PREFIX_TABLE_MAX: usize = 10;
/// Sources that must have told us nodes before none may have told more than a third of the table (T9).
pub const SOURCES_COUNT_MIN: usize = 3;
/// Nodes that wait beside a bucket at most: the node-info cache.
pub const BUCKET_CACHE_MAX: usize = 16;
/// Nodes of one teller that wait beside a bucket at most.
pub const CACHE_SOURCE_MAX: usize = 8;
/// Silence after which a node of the table is asked whether it is there.
pub const NODE_QUIET_AFTER: Duration = Duration::from_secs(15 * 60);
/// How long a node that did not answer is left alone before it is asked again.
pub const NODE_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Times in a row that a node may be silent before another takes its place.
pub const NODE_SILENCES_MAX: u8 = 2;
/// Nodes that fell silent and are asked again now and then, at most: as many as a table of thousands of nodes has members.
pub const LOST_MAX: usize = 128;
/// When a node that fell silent is asked again the first time; doubles each time.
pub const LOST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// And how long it is left alone at most.
pub const LOST_RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// A bucket into which nobody was looked up for so long is refreshed.
pub const BUCKET_REFRESH_AFTER: Duration = Duration::from_secs(3600);
/// How often a waiting node is tried though the table lacks none: it learns whom it could fall back on (T9).
pub const FEELER_INTERVAL: Duration = Duration::from_secs(120);
/// Paths of a lookup that share no node: d (T9).
pub const LOOKUP_PATHS: usize = 4;
/// The same where what is found is to be believed: a value that is read, the roll (T9).
pub const SECURE_LOOKUP_PATHS: usize = 8;
/// Nodes that a lookup asks at most.
pub const LOOKUP_QUESTIONS_MAX: usize = 128;
/// Nodes that a hub remembers to have answered, whether or not they still do.
pub const LATELY_COUNT_MAX: usize = 256;
/// How long after its last answer a node is remembered.
pub const LATELY_LIFE: Duration = Duration::from_secs(3600);
/// Members of its own table that a lookup begins with: so many times k. The closest are of one bucket, and may all have gone.
pub const LOOKUP_BEGIN_FACTOR: usize = 3;
/// Nodes of one public /24 or /48 that a lookup asks before all others (T9).
pub const LOOKUP_PREFIX_QUESTIONS: usize = 4;
/// Nodes that a path of a lookup remembers at most.
pub const PATH_HEARD_MAX: usize = 48;
/// Searches of a node at once at most.
pub const SEARCHES_MAX: usize = 64;
/// A session that was opened for a question is closed when it was unused for so long.
pub const TALK_UNUSED_MAX: Duration = Duration::from_secs(30);
/// How often a link is made sure to be alive: sessions end as idle after more than twice that.
pub const LINK_PING_INTERVAL: Duration = Duration::from_secs(40);
/// How long a node that restarted waits for those to whom it had links before it asks others for them (T9).
pub const ANCHOR_WAIT: Duration = Duration::from_secs(10);
/// How long whoever refused a link, or was not reached for one, is left alone.
pub const LINK_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Nodes that are left alone at most.
pub const LINKS_REFUSED_MAX: usize = 4_096;

const _: () = assert!(2 * LINK_PING_INTERVAL.as_secs() < IDLE_TIMEOUT.as_secs());
/// Questions of a node to others at once at most, and calls for them.
pub const ERRANDS_MAX: usize = 16_384;
/// How long a node that is to be joined may take to answer a call.
pub const CALL_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often what others are told of the table changes at most.
pub const KNOWN_INTERVAL: Duration = Duration::from_millis(250);
/// When a node tries again to make its own record anew, where its disk had no sequence for it.
pub const SEQUENCE_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Sequences of a node's own record that are reserved on its disk at once: it uses one at a start, at each renewal and at each
/// change of its key.
pub const SEQUENCES_RESERVED: u64 = 64;
/// When a node that has come enters itself in its network's roll: others are to be known.
pub const ROLL_ENTER_AFTER: Duration = Duration::from_secs(3);
/// When it says again that it is there; drawn, up to a minute later.
pub const ROLL_RENEW_AFTER: Duration = Duration::from_secs(15 * 60);
/// How long a holder of the roll keeps an entry: two may be lost.
pub const ROLL_LIFE: Duration = Duration::from_secs(40 * 60);
/// Nodes in a holder's roll at most: 150 KB.
pub const ROLL_COUNT_MAX: usize = 512;
/// Nodes of one /24 or /48 in a holder's roll at most: a hundred such networks leave 312 places to others (T9).
pub const ROLL_PREFIX_MAX: usize = 2;
/// Nodes that somebody who called the roll keeps for its links, at most.
pub const ROLL_CHOSEN_MAX: usize = 32;
/// How long links wait for the roll of a network that a node has just come to.
pub const ROLL_WAIT: Duration = Duration::from_secs(5);
/// How long what the roll told is good for links.
pub const ROLL_FRESH: Duration = Duration::from_secs(120);
/// When a node that lacks links and knows nobody else calls the roll again; doubles each time.
pub const ROLL_CALL_INTERVAL: Duration = Duration::from_secs(60);
/// And how long it waits at most, until it loses a link.
pub const ROLL_CALL_INTERVAL_MAX: Duration = Duration::from_secs(3600);

const _: () = assert!(2 * (ROLL_RENEW_AFTER.as_secs() + 60) < ROLL_LIFE.as_secs());
const _: () = assert!(100 * ROLL_PREFIX_MAX < ROLL_COUNT_MAX);
/// When a node makes its own record anew.
pub const NODE_RECORD_RENEW_AFTER: Duration = Duration::from_secs(12 * 3600);

const _: () = assert!(NODE_RECORD_RENEW_AFTER.as_secs() < NODE_RECORD_LIFE_MAX.as_secs());
/// Notices that wait for the application before words of peers are dropped.
pub const NOTICES_WAITING_MAX: usize = 4_096;
/// How long a holder keeps a value that nobody stores again (T11).
pub const VALUE_LIFE: Duration = Duration::from_secs(2 * 3600);
/// How often a holder stores its values again at whoever is closest by then (T11).
pub const REPUBLISH_INTERVAL: Duration = Duration::from_secs(3600);
/// How long a value's record may last: republishing keeps it alive, nothing else does.
pub const VALUE_RECORD_LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How far a record's writer's clock may be ahead of ours.
pub const VALUE_RECORD_SKEW: Duration = Duration::from_secs(120);
/// How long a copy beside the path lasts at most.
pub const CACHE_LIFE_MAX: Duration = Duration::from_secs(600);
/// Bytes of copies beside the path at most.
pub const CACHE_LEN_MAX: usize = 8 << 20;
/// Bytes of values of one identity at most (T11).
pub const VALUES_LEN_IDENTITY_MAX: u64 = 1 << 20;
/// Values of one identity at most (T11).
pub const VALUES_COUNT_IDENTITY_MAX: u32 = 1_000;
/// Bytes of values that came from one /24 or /48 at most (T11).
pub const VALUES_LEN_PREFIX_MAX: u64 = 4 << 20;
/// Bytes of values in a shard at most (T11).
pub const VALUES_LEN_MAX: u64 = 64 << 20;
/// By how much holders differ in when they store again: whoever is first has done it for the others.
pub const REPUBLISH_SPREAD: Duration = Duration::from_secs(600);
/// Whoever is known so long after a node's start was there before it; who comes later is given what it is to keep.
pub const HAND_OVER_AFTER: Duration = Duration::from_secs(120);
/// Newcomers who wait to be given values at most: others are when these are stored again.
pub const NEWCOMERS_MAX: usize = 64;
/// Nodes of whom a holder remembers that they are no newcomers, at most.
pub const MET_MAX: usize = 4_096;
/// Holders of a key who give its value to a newcomer: some may not know it.
pub const GIVERS: usize = 3;
/// Stores that wait for the write of another to the same key or group at most (T12).
pub const STORES_WAITING_KEY_MAX: usize = 32;
/// Bytes of stores that wait for such a write at most, in all.
pub const STORES_WAITING_LEN_MAX: usize = 8 << 20;
/// Writes that the disk has not confirmed at most.
pub const WRITES_OPEN_MAX: usize = 4_096;
/// Keys that a holder looks at at once for what is over or is to be stored again.
pub const SWEEP_COUNT_MAX: usize = 1_024;
/// How often it does.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

const _: () = assert!(REPUBLISH_INTERVAL.as_secs() + REPUBLISH_SPREAD.as_secs() < VALUE_LIFE.as_secs());
const _: () = assert!(CACHE_LIFE_MAX.as_secs() < VALUE_LIFE.as_secs());
const _: () =
    assert!(VALUES_LEN_IDENTITY_MAX < VALUES_LEN_PREFIX_MAX && VALUES_LEN_PREFIX_MAX < VALUES_LEN_MAX);
/// Bytes of a register, all decided names of a group, at most.
pub const REGISTER_LEN_MAX: usize = 256 << 10;
/// How far a ballot may be ahead of the one that was promised, unless the clock explains it.
pub const BALLOT_LEAP_MAX: u64 = 1 << 16;
/// How long a promise keeps plain stores away from a key that was never decided.
pub const PROMISE_KEEPS_AWAY: Duration = Duration::from_secs(10);
/// How long nobody has decided about a register when a member that may not write it may bring it to others.
pub const REFRESH_QUIET: Duration = Duration::from_secs(600);
/// How long a register of which nothing is left is remembered.
pub const REGISTER_LINGER: Duration = Duration::from_secs(2 * 3600);
/// How long a holder waits for a decision to settle it before it reads the others itself, and before it does so again.
pub const SETTLE_AFTER: Duration = Duration::from_secs(5);
/// A lease's length by default (T12).
pub const LEASE_DEFAULT: Duration = Duration::from_secs(10);
/// A lease's length at most; after a start every lease lasts so long (T12).
pub const LEASE_MAX: Duration = Duration::from_secs(60);
/// Leases of one identity at most (T12).
pub const LEASES_IDENTITY_MAX: usize = 16;
/// Leases in a shard at most (T12).
pub const LEASES_MAX: usize = 4_096;

const _: () = assert!(LEASE_DEFAULT.as_secs() < LEASE_MAX.as_secs());
const _: () = assert!(VALUE_LEN_MAX < REGISTER_LEN_MAX);
const _: () = assert!(REGISTER_LEN_MAX + 64 * 4_096 < dunlin_codec::message::PAYLOAD_LEN_MAX);
/// Decisions that a peer may begin at a holder a second. Each costs a write (T12).
pub const PREPARES_PER_SECOND: u64 = 100;
/// How many of them may come at once.
pub const PREPARES_AT_ONCE: u32 = 200;
/// Peers that begin decisions at a holder at the same time at most.
pub const PREPARING_PEERS_MAX: usize = 4_096;
/// Times that a decision is tried at most.
pub const DECISION_ATTEMPTS_MAX: u32 = 12;
/// What a proposer waits at most before it tries again, the first time; doubles five times.
pub const DECISION_PAUSE: Duration = Duration::from_millis(50);
/// What an application wishes of values and holders have still to do, at once at most.
pub const VALUE_JOBS_MAX: usize = 128;
/// How many of them holders may have begun: values stored again, registers settled.
pub const CHORES_MAX: usize = 32;
/// What holders have still to do and that has not begun, at most.
pub const CHORES_WAITING_MAX: usize = 4_096;
/// Bytes of that at most. What finds no room is stored again an hour later.
pub const CHORES_LEN_MAX: usize = 16 << 20;
/// When a wish is given up.
pub const VALUE_JOB_WAIT: Duration = Duration::from_secs(60);
/// Times that a value of ours is stored with a higher sequence because another was there.
pub const PUT_TRIES_MAX: u32 = 3;

const _: () = assert!(CHORES_MAX < VALUE_JOBS_MAX && CHORES_MAX < SEARCHES_MAX);
/// Paths over which those who agree on a value must have been found (T9).
pub const AGREEMENT_PATHS: usize = 3;

const _: () = assert!(AGREEMENT_PATHS <= LOOKUP_PATHS);
/// Bytes of a rumour's payload at most (T7).
pub const RUMOUR_LEN_MAX: usize = 8 << 10;
/// How far a rumour's time may be from ours (T7).
pub const RUMOUR_AGE_MAX: Duration = Duration::from_secs(120);
/// How far clocks may be apart besides (T7).
pub const RUMOUR_SKEW: Duration = Duration::from_secs(30);
/// How long the id of a rumour is known at least (T7).
pub const SEEN_LIFE: Duration = Duration::from_secs(300);
/// Ids of one generation at most; there are two (T7).
pub const SEEN_COUNT_MAX: usize = 1 << 20;
/// Origins of rumours of which a shard knows what they said at most (T7).
pub const ORIGINS_MAX: usize = 65_536;
/// Starts of one origin that are told apart (T7).
pub const INSTANCES_ORIGIN_MAX: usize = 4;
/// Rumours of one origin a second (T7).
pub const RUMOURS_PER_SECOND_ORIGIN: u64 = 1;
/// Rumours of one origin at once (T7).
pub const RUMOURS_BURST_ORIGIN: u64 = 10;
/// What a node says itself is so far below its burst: on the way, words come closer together.
pub const RUMOURS_BURST_MARGIN: u64 = 2;
/// Rumours of one link a second that are verified: eight links fill half of the core's share.
pub const RUMOURS_PER_SECOND_LINK: u64 = 500;
/// Rumours of one link at once that are verified.
pub const RUMOURS_BURST_LINK: u64 = 500;
/// Rumours that a forged one counts for: whoever keeps to the protocol never carries one.
pub const RUMOUR_FORGED_COST: u64 = 16;
/// The share of each core for verifying rumours, in percent (T7).
pub const RUMOUR_CPU_PERCENT: u32 = 25;
/// What verifying one is reckoned to cost.
pub const RUMOUR_COST: Duration = Duration::from_micros(30);
/// What verifying may be ahead of its share, as time in which it is made good: a quarter of that is work.
pub const RUMOUR_BURST: Duration = Duration::from_millis(400);
/// How long an origin is not heard that said two things under one number.
pub const EQUIVOCATION_PENALTY: Duration = Duration::from_secs(600);
/// Broadcasts of our own of which it is not known yet how many links they left on, at most.
pub const BROADCASTS_OPEN_MAX: usize = 256;
/// Letters of one peer a second, and at once: relayed WHISPERs, to be passed on or for us.
pub const LETTERS_PER_SECOND: Rate = Rate { per_second: 20, burst: 64 };
/// The share of the hub's core for verifying letters, in percent.
pub const LETTER_CPU_PERCENT: u32 = 5;
/// Letters of our own that wait for their answer at most.
pub const LETTERS_OPEN_MAX: usize = 256;
/// Letters of others of which it is known where they came from, at most.
pub const LETTERS_PASSED_MAX: usize = 4_096;
/// How long that is known.
pub const LETTER_LIFE: Duration = Duration::from_secs(30);
/// Letters that wait on a session for the peer's greeting at most.
pub const LETTERS_WAITING_MAX: usize = 16;
/// Keys for letters that are drawn ahead at most.
pub const EPHEMERALS_MAX: usize = 16;
/// Bytes that a conversation gives to its session before it waits for some of them to be acknowledged.
pub const UNRELEASED_LEN_MAX: usize = 1 << 20;

const _: () = assert!(2 * (RUMOUR_AGE_MAX.as_secs() + RUMOUR_SKEW.as_secs()) <= SEEN_LIFE.as_secs());
const _: () = assert!(RUMOURS_BURST_MARGIN < RUMOURS_BURST_ORIGIN);
const _: () = assert!(RUMOUR_LEN_MAX < OUTBOX_LEN_MAX);
/// Keys in a chain at most (T21).
pub const KEY_CHAIN_LEN_MAX: usize = 64;
/// Chains of keys that a node remembers at most.
pub const KEY_CHAINS_MAX: usize = 4_096;
/// Changes of keys whose past is not known yet that wait for it at most.
pub const KEY_CHANGES_WAITING_MAX: usize = 64;
/// Keys that nobody has any more of which a node looks for the next at once, at most.
pub const KEY_TRACES_MAX: usize = 64;
/// How long a node whose key changed waits before it stores that, the first time: others are to be known.
pub const KEY_CHANGE_STORE_AFTER: Duration = Duration::from_secs(5);
/// How long a change of key may be on its way (T21), and Hellos to the old key are answered.
pub const KEY_CHANGE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Keys that a node had before whose Hellos it answers at most, the newest: each costs every Hello that is for nobody a hash.
pub const PREVIOUS_KEYS_ANSWERED_MAX: usize = 4;
/// How often it is looked whether sessions are left that need a key which is not answered for any more.
pub const PREVIOUS_KEY_LOOK_INTERVAL: Duration = Duration::from_secs(3600);
/// Sessions a second on which a shard tells of the change of its node's key, beside those that the hub knows.
pub const KEY_CHANGE_TOLD_PER_SECOND: usize = 256;
/// How far the clock of whoever changes its key may be ahead of ours.
pub const KEY_CHANGE_SKEW: Duration = Duration::from_secs(120);
/// How long a key lasts at least before the next may follow (T21).
pub const KEY_CHANGE_INTERVAL_MIN: Duration = Duration::from_secs(3600);

const _: () = assert!(KEY_CHANGE_SKEW.as_secs() < KEY_CHANGE_INTERVAL_MIN.as_secs());
const _: () = assert!(KEY_CHANGE_INTERVAL_MIN.as_secs() < KEY_CHANGE_LIFE.as_secs());
