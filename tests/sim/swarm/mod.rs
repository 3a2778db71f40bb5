//! Chaos from one seed: a network that nobody would build, everything that can befall it, and then peace.
//!
//! In:    a seed and a size, or a plan.
//! Out:   a verdict: what happened by kind, and either peace or what broke.
//! Holds: the same plan gives the same trace. 20 simulated seconds of chaos (longer only when somebody sleeps longer), then all
//!        faults go, and within 30 seconds everything has converged (`calm.rs`).
//!
//! | invariant (limits.md section 4) | where it is checked |
//! |---|---|
//! | I1 acknowledged is delivered | `ledger.rs`, at the end; what crashed ends had excepted |
//! | I2 at most once | `ledger.rs`, at every delivery |
//! | I3 byte-equal | `ledger.rs`, at every delivery: goodput is what an application holds in its hands |
//! | I4 no nonce twice | `Counting`, at every packet of the seeds without real cryptography |
//! | I5 3.0x and 1.0x | `tap.rs`, at every datagram |
//! | I6 memory | `world/checks.rs`, after every step: blocks, sessions. `tests/memory.rs` counts allocated bytes |
//! | I7 no panic, no endless answers | the world itself; overflow checks are on wherever debug assertions are |
//! | I8 nothing goes back | key epochs: a packet of an older phase would not open. Sequences and tokens: `values.rs`, in worlds of their own |
//! | I9 compare-and-set, locks | `history.rs`, in the worlds of `values.rs` |
//! | I10 rumours | `rumours.rs`, in worlds of their own; once each: `world/rumours.rs`, whenever notices are read |
//! | I11 retransmissions | `calm.rs`, in seeds whose links only lose |
//! | I12 one probe burst after a pause | `world/checks.rs`, at every timeout |
//! | I13 no plaintext for another | `world/checks.rs`, at every packet: poison, and every word's author |
//! | I14 a quiet network is quiet | `calm.rs`, after everything has converged |

mod attack;
mod calm;
mod coverage;
mod draw;
mod plan;
mod play;
mod rumours;
mod shrink;
mod values;
mod verdict;

pub use coverage::{EXEMPT, Table};
pub use draw::draw;
pub use plan::{Attack, Cut, Fault, NodePlan, Plan, Reading, Size, Talk, What};
pub use shrink::shrink;
pub use verdict::{Failure, Kind, Verdict, replay_command, run, run_with};
