//! Rising rates until one does not hold, then the knee between the last that did and the first that did not.
//!
//! In:    rates, what it means to hold.
//! Out:   a table, the knee.
//! Holds: a rate holds when its messages left on time, nearly all came back in time, and slow ones are not too slow.

use dunlin::Peer;

use crate::Fault;
use crate::interrupt;
use crate::near::Near;
use crate::paced::{self, Load, Outcome};
use crate::report::Report;

/// Answers that must come back, of those offered, for a rate to hold.
const ACHIEVED_MIN: f64 = 0.99;
/// More rates than this are not tried.
const RATES_MAX: u32 = 64;

/// Which rates, and when one holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Climb {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) factor: f64,
    pub(crate) halvings: u32,
    /// In microseconds, from the intended time.
    pub(crate) p99_max: f64,
}

/// Where a climb is: the highest rate that held, the lowest that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bracket {
    held: Option<f64>,
    broke: Option<f64>,
}

impl Bracket {
    /// That rate was tried.
    fn learn(&mut self, rate: f64, holds: bool) {
        match holds {
            true => self.held = Some(self.held.map_or(rate, |known| known.max(rate))),
            false => self.broke = Some(self.broke.map_or(rate, |known| known.min(rate))),
        }
    }
}

impl Climb {
    fn check(&self) -> Result<(), Fault> {
        let is_fine = self.from > 0.0 && self.to >= self.from && self.factor > 1.0 && self.to.is_finite();
        is_fine
            .then_some(())
            .ok_or_else(|| "a ladder goes up: --from > 0, --to ≥ --from, --factor > 1".into())
    }

    /// The next rate to try; nothing when the knee is known well enough.
    fn next(&self, bracket: Bracket, halvings: u32) -> Option<f64> {
        match (bracket.held, bracket.broke) {
            (None, None) => Some(self.from),
            (Some(held), None) => Some((held * self.factor).min(self.to)).filter(|next| *next > held),
            // Even the lowest rate is too much: look below it.
            (None, Some(broke)) if halvings < self.halvings => Some(broke / self.factor),
            (Some(held), Some(broke)) if halvings < self.halvings => Some(f64::midpoint(held, broke).round()),
            _ => None,
        }
    }

    fn verdict(&self, outcome: &Outcome) -> &'static str {
        let p99 = outcome.latency_us(0.99);
        if outcome.void.is_some() {
            "late: not all could leave in time"
        } else if outcome.answered < outcome.expected || outcome.achieved < outcome.offered * ACHIEVED_MIN {
            "short: not all came back in time"
        } else if p99 > self.p99_max {
            "slow: p99 is over the limit"
        } else {
            HOLDS
        }
    }
}

/// What a rate is called that holds.
const HOLDS: &str = "holds";
/// What a rate is called whose run ended early.
const CUT_OFF: &str = "cut off: nothing is known of it";

pub(crate) fn run(near: &mut Near, climb: &Climb, load: &Load<'_>, report: &mut Report) -> Result<(), Fault> {
    climb.check()?;
    let peers = near.connect_each_engine()?;
    let mut bracket = Bracket::default();
    let mut halvings = 0;
    let mut table = header();
    let mut result = Ok(());
    for _ in 0..RATES_MAX {
        let Some(rate) = climb.next(bracket, halvings).filter(|_| !interrupt::is_asked()) else { break };
        halvings += u32::from(bracket.broke.is_some());
        match step(near, &peers, load, rate) {
            Ok((mut outcome, ended)) => {
                let verdict = if ended.is_ok() { climb.verdict(&outcome) } else { CUT_OFF };
                table += &row(&outcome, verdict);
                outcome.add_to(report);
                if ended.is_err() {
                    result = ended;
                    break;
                }
                bracket.learn(rate, verdict == HOLDS);
            }
            Err(fault) => {
                result = Err(fault);
                break;
            }
        }
    }
    peers.iter().for_each(|peer| peer.close(0));
    report.section("ladder");
    if let Some(knee) = bracket.held {
        report.add("knee", knee, "/s");
        table += &match bracket.broke {
            Some(broke) => format!("the knee: {knee:.0}/s holds, {broke:.0}/s does not\n"),
            None => format!("no knee: {knee:.0}/s holds, and no higher rate was tried (--to)\n"),
        };
    } else if result.is_ok() {
        result = Err(format!("no rate holds, not even {:.0}/s", bracket.broke.unwrap_or(climb.from)).into());
    }
    report.tables.push(table);
    result
}

/// One rate, and what ended it early.
fn step(
    near: &mut Near,
    peers: &[Peer],
    load: &Load<'_>,
    rate: f64,
) -> Result<(Outcome, Result<(), Fault>), Fault> {
    let load = Load { section: format!("{} at {rate}/s", load.over.name()), rate, ..load.clone() };
    paced::run(near, peers, &load)
}

fn header() -> String {
    format!(
        "{:>12} {:>12} {:>10} {:>10} {:>10} {:>7}  {}\n",
        "offered/s", "achieved/s", "p50 us", "p99 us", "p99.9 us", "late %", "verdict"
    )
}

fn row(outcome: &Outcome, verdict: &str) -> String {
    format!(
        "{:>12.0} {:>12.0} {:>10.1} {:>10.1} {:>10.1} {:>7.2}  {verdict}\n",
        outcome.offered,
        outcome.achieved,
        outcome.latency_us(0.5),
        outcome.latency_us(0.99),
        outcome.latency_us(0.999),
        outcome.sent.late_percent(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates tried against a node that takes so many a second.
    fn climbed(limit: f64, climb: Climb) -> (Vec<f64>, Bracket) {
        let (mut bracket, mut halvings, mut tried) = (Bracket::default(), 0, Vec::new());
        while let Some(rate) = climb.next(bracket, halvings) {
            halvings += u32::from(bracket.broke.is_some());
            tried.push(rate);
            bracket.learn(rate, rate <= limit);
        }
        (tried, bracket)
    }

    const CLIMB: Climb = Climb { from: 1_000.0, to: 64_000.0, factor: 2.0, halvings: 3, p99_max: 1.0 };

    #[test]
    fn a_knee_is_bracketed() {
        let (tried, bracket) = climbed(11_000.0, CLIMB);
        assert_eq!(tried, [1e3, 2e3, 4e3, 8e3, 16e3, 12e3, 10e3, 11e3]);
        assert_eq!(bracket, Bracket { held: Some(11e3), broke: Some(12e3) });
    }

    #[test]
    fn a_ladder_has_an_end_on_both_sides() {
        let (tried, bracket) = climbed(1e9, CLIMB);
        assert_eq!((tried.last(), bracket.broke), (Some(&64e3), None));
        let (tried, bracket) = climbed(1.0, CLIMB);
        assert_eq!((tried, bracket.held), (vec![1e3, 500.0, 250.0, 125.0], None));
        assert!(Climb { factor: 1.0, ..CLIMB }.check().is_err());
    }
}
