//! Every bound in one place, with its default. The threats behind them: T1-T34.

use core::time::Duration;

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
/// A path's round trip before it was measured.
pub const INITIAL_RTT: Duration = Duration::from_millis(100);
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
