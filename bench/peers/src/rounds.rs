//! Alternating rounds: in each, every work is done once by everybody, one after the other.
//!
//! In:    [`Plan`].
//! Out:   [`Table`]s.
//! Holds: one that fails in a round keeps nobody else from being measured.

use std::time::Duration;

use crate::job::{Job, Peer};
use crate::pair::{self, Cores};
use crate::works::{Line, Work};

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) works: Vec<Work>,
    /// These alone; empty for all.
    pub(crate) only: Vec<Peer>,
    pub(crate) rounds: usize,
    pub(crate) span: Duration,
    pub(crate) cores: Cores,
}

/// One number per column, or why there is none.
pub(crate) type Figures = Result<Vec<f64>, String>;

/// A work as done by everybody.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) work: Work,
    pub(crate) rows: Vec<Row>,
}

/// A work as done by one, round for round.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) line: Line,
    pub(crate) rounds: Vec<Figures>,
}

/// A column over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// Does it all, telling on standard error how far it is.
pub(crate) fn run(plan: &Plan) -> Vec<Table> {
    let mut tables: Vec<Table> = plan.works.iter().map(|work| Table::new(*work, &plan.only)).collect();
    for round in 0..plan.rounds {
        for table in &mut tables {
            let work = table.work;
            // What a connection holds does not change from one round to the next, and takes long to find out.
            if round > 0 && matches!(work, Work::Memory { .. }) {
                continue;
            }
            for row in &mut table.rows {
                let figures = measure(plan, work, row.line);
                eprintln!(
                    "{}/{} {}: {}: {}",
                    round + 1,
                    plan.rounds,
                    work.key(),
                    row.line.name,
                    tell(work, &figures)
                );
                row.rounds.push(figures);
            }
        }
    }
    tables
}

fn measure(plan: &Plan, work: Work, line: Line) -> Figures {
    let job = Job { peer: line.peer, way: line.way, work, address: String::new() };
    let outcome = pair::run(&job, plan.cores, plan.span)?;
    work.figures(&outcome)
}

fn tell(work: Work, figures: &Figures) -> String {
    match figures {
        Ok(figures) => {
            let pairs = work.columns().iter().zip(figures);
            let told = pairs.map(|(column, figure)| format!("{} {figure:.*}", column.title, column.digits));
            told.collect::<Vec<_>>().join(", ")
        }
        Err(why) => format!("failed: {why}"),
    }
}

impl Table {
    fn new(work: Work, only: &[Peer]) -> Self {
        let wanted = |line: &&Line| only.is_empty() || only.contains(&line.peer);
        let lines = work.lines().iter().filter(wanted);
        Self { work, rows: lines.map(|line| Row { line: *line, rounds: Vec::new() }).collect() }
    }

    /// Whether nothing failed.
    pub(crate) fn is_whole(&self) -> bool {
        self.rows.iter().all(|row| row.rounds.iter().all(Result::is_ok))
    }

    /// Dunlin's first line.
    pub(crate) fn reference(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.line.peer == Peer::Dunlin)
    }

    /// How many times better Dunlin's first line is in the first column: the median of the rounds in which both worked.
    pub(crate) fn ratio(&self, row: &Row) -> Option<f64> {
        let is_more_better = self.work.columns().first()?.is_more_better;
        let pairs = self.reference()?.rounds.iter().zip(&row.rounds);
        let ratios = pairs.filter_map(|(own, other)| {
            let (own, other) = (own.as_ref().ok()?.first()?, other.as_ref().ok()?.first()?);
            Some(if is_more_better { own / other } else { other / own })
        });
        spread(ratios.collect()).map(|spread| spread.median)
    }
}

impl Row {
    /// A column over the rounds in which this worked; None when it never did.
    pub(crate) fn column(&self, at: usize) -> Option<Spread> {
        spread(self.rounds.iter().flatten().filter_map(|figures| figures.get(at).copied()).collect())
    }

    /// Why it failed last, and how often it did.
    pub(crate) fn failure(&self) -> Option<(usize, &str)> {
        let failures: Vec<&String> = self.rounds.iter().filter_map(|round| round.as_ref().err()).collect();
        failures.last().map(|last| (failures.len(), last.as_str()))
    }
}

fn spread(mut figures: Vec<f64>) -> Option<Spread> {
    figures.sort_by(f64::total_cmp);
    let (min, max) = (*figures.first()?, *figures.last()?);
    let (low, high) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
    Some(Spread { median: f64::midpoint(low, high), min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at: usize, rounds: &[Option<f64>]) -> Row {
        let rounds = rounds.iter().map(|figure| figure.map(|figure| vec![figure]).ok_or("gone".to_owned()));
        Row { line: Work::Latency.lines()[at], rounds: rounds.collect() }
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        let odd = spread(vec![3.0, 1.0, 9.0]).unwrap();
        assert_eq!(odd, Spread { median: 3.0, min: 1.0, max: 9.0 });
        assert_eq!(spread(vec![4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(spread(Vec::new()), None);
    }

    /// Rounds in which one of the two failed are left out, and less time is better.
    #[test]
    fn ratios_are_taken_round_by_round() {
        let own = row(2, &[Some(10.0), None, Some(20.0)]);
        let other = row(6, &[Some(30.0), Some(1.0), Some(100.0)]);
        let table = Table { work: Work::Latency, rows: vec![own, other] };
        assert_eq!(table.ratio(&table.rows[1]), Some(4.0));
        assert_eq!(table.rows[0].failure(), Some((1, "gone")));
        assert!(!table.is_whole());
    }
}
