//! Works, each done in several ways in alternating rounds, and what the ways come to beside each other.
//!
//! In:    tasks, variants, how often.
//! Out:   a section of the report for each task with a figure for each variant; tables.
//! Holds: rounds alternate between going up and down the list of variants, so that a machine that warms up or is disturbed for a
//!        while favours none; each run is a process of its own, and takes the one figure that counts.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Fault;
use crate::interrupt;
use crate::options::{NodeOptions, Work};
use crate::report::{Figure, Report, median};

/// What both sides are started with, changed in some way.
pub(crate) type Change = fn(&mut NodeOptions);

/// A work, and the figure that it is looked at for.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    /// The mode and what it is told, but for the node's options.
    pub(crate) mode: Vec<String>,
    pub(crate) change: Change,
    /// Where the run's JSON has the figure.
    pub(crate) section: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) unit: &'static str,
}

/// One way to do it.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) node: NodeOptions,
    /// Without an engine's threads; and whether without sealing.
    pub(crate) bare: Option<Sealing>,
    /// The variant that it is held against.
    pub(crate) base: &'static str,
}

/// Whether packets are sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sealing {
    On,
    Off,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Trials {
    pub(crate) tasks: Vec<Task>,
    pub(crate) variants: Vec<Variant>,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
}

impl Work {
    /// As its mode measures it.
    pub(crate) fn task(self) -> Task {
        let (section, figure, unit) = self.figure();
        let mut mode = vec![self.name().to_owned(), "--self".to_owned()];
        if self == Self::Latency {
            mode.extend(["--over", "core"].map(str::to_owned));
        }
        Task { name: self.name().to_owned(), mode, change: |_| {}, section, figure, unit }
    }
}

impl Trials {
    /// Does it all, telling on standard error how far it is.
    pub(crate) fn run(&self, report: &mut Report) -> Result<(), Fault> {
        for round in 0..self.rounds.max(1) {
            for task in &self.tasks {
                let mut order: Vec<&Variant> = self.variants.iter().collect();
                if round % 2 == 1 {
                    order.reverse();
                }
                for variant in order {
                    if interrupt::is_asked() {
                        return Ok(());
                    }
                    eprintln!("round {}, {}: {}", round + 1, task.name, variant.name);
                    let value = run_once(task, variant, self.seconds)
                        .map_err(|fault| format!("{} with {}: {fault}", task.name, variant.name))?;
                    report.section(&task.name);
                    report.add(&variant.name, value, task.unit);
                }
            }
        }
        Ok(())
    }

    /// Each variant's median and spread beside the one that it is held against.
    pub(crate) fn table(&self, task: &Task, report: &Report) -> String {
        let title = format!("{}, {}", task.name, task.figure);
        let mut text = format!("{title:<32}{:>12} {:>24}\n", task.unit, "range");
        for variant in &self.variants {
            let Some(figure) = figure_of(task, &variant.name, report) else { continue };
            let value = median(&figure.values);
            let (low, high) = range(&figure.values);
            let range = format!("{low:.3} to {high:.3}");
            text += &format!("{:<32}{value:>12.3} {range:>24}", variant.name);
            let base = figure_of(task, variant.base, report).map_or(0.0, |base| median(&base.values));
            if variant.base != variant.name && base > 0.0 {
                text += &format!(" {:>+8.1} % to {}", (value - base) * 100.0 / base, variant.base);
            }
            text += "\n";
        }
        text
    }
}

/// What a variant came to.
pub(crate) fn figure_of<'a>(task: &Task, variant: &str, report: &'a Report) -> Option<&'a Figure> {
    let section = report.sections.iter().find(|section| section.name == task.name)?;
    section.figures.iter().find(|figure| figure.name == variant)
}

/// The least and the most.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    (low, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

/// What this program is told.
fn arguments(task: &Task, variant: &Variant, seconds: f64) -> Vec<String> {
    let mut node = variant.node.clone();
    (task.change)(&mut node);
    let mut arguments = match variant.bare {
        None => task.mode.clone(),
        Some(_) => ["bare", "--work", &task.name].map(str::to_owned).to_vec(),
    };
    arguments.extend((variant.bare == Some(Sealing::Off)).then(|| "--unsealed".to_owned()));
    arguments.extend(variant.bare.is_none().then(|| "--quiet".to_owned()));
    arguments.extend(["--json".to_owned(), "--seconds".to_owned(), seconds.to_string()]);
    arguments.extend(node.to_arguments());
    arguments
}

/// Runs ourselves, and takes the one figure that counts.
fn run_once(task: &Task, variant: &Variant, seconds: f64) -> Result<f64, Fault> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(arguments(task, variant, seconds)).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let value = json["figures"][task.section][task.figure]["value"].as_f64();
    Ok(value.ok_or_else(|| format!("the run has no figure {}/{}", task.section, task.figure))?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    fn variant(name: &str, bare: Option<Sealing>, base: &'static str) -> Variant {
        let node = Options::try_parse_from(["x", "ablate"]).unwrap().node;
        Variant { name: name.to_owned(), node, bare, base }
    }

    #[test]
    fn what_a_variant_is_worth_stands_beside_its_base() {
        let task = Work::Throughput.task();
        let variants = vec![variant("plain", None, "plain"), variant("without GSO", None, "plain")];
        let mut report = Report::default();
        report.section("throughput");
        for (name, value) in [("plain", 10.0), ("without GSO", 5.0), ("plain", 12.0), ("without GSO", 5.5)] {
            report.add(name, value, "Gbit/s");
        }
        let trials = Trials { tasks: vec![task.clone()], variants, rounds: 1, seconds: 1.0 };
        let table = trials.table(&task, &report);
        let row = table.lines().find(|line| line.starts_with("without GSO")).unwrap();
        assert!(row.contains("5.250") && row.contains("5.000 to 5.500"), "{row}");
        assert!(row.contains("-52.3 % to plain"), "{row}");
        assert!(!table.lines().nth(1).unwrap().contains('%'), "nothing is held against itself: {table}");
    }

    /// What a run is told is a command line of this program, whatever the task and the variant.
    #[test]
    fn every_run_is_a_command_that_there_is() {
        for work in [Work::Throughput, Work::Messages, Work::Latency] {
            for bare in [None, Some(Sealing::On), Some(Sealing::Off)] {
                let task = Task { change: |node| node.datagram = 8_900, ..work.task() };
                let own = arguments(&task, &variant("v", bare, "v"), 0.5);
                let line = std::iter::once("x".to_owned()).chain(own.clone());
                let options =
                    Options::try_parse_from(line).unwrap_or_else(|error| panic!("{own:?}: {error}"));
                assert_eq!(options.node.datagram, 8_900);
                assert_eq!(own.contains(&"--unsealed".to_owned()), bare == Some(Sealing::Off));
            }
        }
    }
}
