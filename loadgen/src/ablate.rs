//! The same work with one thing at a time switched: what each is worth on this machine.
//!
//! In:    the work, how often.
//! Out:   each variant's median and spread beside the plain one's.
//! Holds: rounds alternate between going up and down the list of variants, so that a machine that warms up or is
//!        disturbed for a while favours none; each run is a process pair of its own.
//!
//! The engine cannot leave sealing off, and so neither can this: what sealing costs shows between its two ciphers.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::Fault;
use crate::interrupt;
use crate::machine;
use crate::options::{AblateOptions, Cipher, Io, NodeOptions, Work};
use crate::report::{Report, State, median};
use crate::writing;

/// One way to run the work.
struct Variant {
    name: String,
    node: NodeOptions,
}

pub(crate) fn run(node: &NodeOptions, options: &AblateOptions) -> Result<(), Fault> {
    let variants = variants(node, &options.shard_counts);
    let plain = node.to_arguments().join(" ");
    let mut environment = machine::environment();
    environment.insert("settings".to_owned(), json!({ "arguments": plain }));
    let setup = format!("plain is: {plain}; sealing is always on: its two ciphers stand beside each other");
    let mut report = Report::new("ablate", setup, environment);
    if let Err(fault) = measure(&variants, options, &mut report) {
        report.mark_partial(fault.to_string());
    }
    if interrupt::is_asked() {
        report.mark_partial("interrupted".to_owned());
    }
    let tables: Vec<String> = options.work.iter().map(|work| table(*work, &report)).collect();
    report.tables.extend(tables);
    writing::print(&report, options.json.as_deref())?;
    match report.state() {
        State::Complete => Ok(()),
        state => Err(format!("{}: {}", state.name(), report.notes().join("; ")).into()),
    }
}

/// The plain run first.
fn variants(node: &NodeOptions, shard_counts: &[usize]) -> Vec<Variant> {
    let with = |name: &str, change: &dyn Fn(&mut NodeOptions)| {
        let mut node = node.clone();
        change(&mut node);
        Variant { name: name.to_owned(), node }
    };
    let mut variants = vec![
        with("plain", &|_| {}),
        with("AES-256-GCM", &|node| node.suite = Cipher::Aes),
        with("ChaCha20-Poly1305", &|node| node.suite = Cipher::Chacha),
        with("without GSO", &|node| node.no_gso = true),
        with("without GRO", &|node| node.no_gro = true),
        with("without GSO and GRO", &|node| (node.no_gso, node.no_gro) = (true, true)),
        with("back end uring", &|node| node.io = Io::Uring),
        with("back end mmsg", &|node| node.io = Io::Mmsg),
    ];
    for count in shard_counts.iter().filter(|count| **count != node.shards) {
        variants.push(with(&format!("{count} shards far"), &|node| node.shards = *count));
    }
    variants
}

fn measure(variants: &[Variant], options: &AblateOptions, report: &mut Report) -> Result<(), Fault> {
    for round in 0..options.rounds.max(1) {
        for work in &options.work {
            let mut order: Vec<&Variant> = variants.iter().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for variant in order {
                if interrupt::is_asked() {
                    return Ok(());
                }
                eprintln!("round {}, {}: {}", round + 1, work.name(), variant.name);
                let (value, unit) = run_once(variant, *work, options.seconds)
                    .map_err(|fault| format!("{} with {}: {fault}", work.name(), variant.name))?;
                report.section(work.name());
                report.add(&variant.name, value, unit);
            }
        }
    }
    Ok(())
}

/// Runs ourselves, and takes the one figure that counts.
fn run_once(variant: &Variant, work: Work, seconds: f64) -> Result<(f64, &'static str), Fault> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([work.name(), "--self", "--json", "--quiet", "--seconds", &seconds.to_string()]);
    if work == Work::Latency {
        command.args(["--over", "core"]);
    }
    let output = command.args(variant.node.to_arguments()).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let (section, figure, unit) = work.figure();
    let value = json["figures"][section][figure]["value"].as_f64();
    Ok((value.ok_or_else(|| format!("the run has no figure {section}/{figure}"))?, unit))
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Messages => "messages",
            Self::Latency => "latency",
        }
    }

    /// The section, the figure and its unit.
    fn figure(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Throughput => ("throughput", "goodput", "Gbit/s"),
            Self::Messages => ("messages", "messages", "M/s"),
            Self::Latency => ("core", "p50", "us"),
        }
    }
}

fn table(work: Work, report: &Report) -> String {
    let (_, figure, unit) = work.figure();
    let mut text = format!(
        "{:<28}{:>12} {:>24} {:>12}\n",
        format!("{}, {figure}", work.name()),
        unit,
        "range",
        "to plain"
    );
    let section = report.sections.iter().find(|section| section.name == work.name());
    let figures = section.map(|section| section.figures.as_slice()).unwrap_or_default();
    let plain =
        figures.iter().find(|figure| figure.name == "plain").map_or(0.0, |plain| median(&plain.values));
    for figure in figures {
        let value = median(&figure.values);
        let low = figure.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = figure.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let change = if plain > 0.0 { (value - plain) * 100.0 / plain } else { 0.0 };
        let range = format!("{low:.3} to {high:.3}");
        text += &format!("{:<28}{value:>12.3} {range:>24} {change:>+10.1} %\n", figure.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    /// Each variant differs from the plain one in one thing, and says so on its command line.
    #[test]
    fn one_thing_is_switched_at_a_time() {
        let node = Options::try_parse_from(["x", "ablate"]).unwrap().node;
        let variants = variants(&node, &[1, 2]);
        let plain = variants[0].node.to_arguments();
        let mut seen = vec![plain.clone()];
        for variant in &variants[1..] {
            let own = variant.node.to_arguments();
            assert!(!seen.contains(&own), "{}", variant.name);
            let others: Vec<&String> = own.iter().filter(|word| !plain.contains(word)).collect();
            assert!(others.len() <= 2, "{}: {others:?}", variant.name);
            seen.push(own);
        }
        assert_eq!(variants.last().unwrap().name, "2 shards far");
    }

    #[test]
    fn what_a_variant_is_worth_stands_beside_the_plain_run() {
        let mut report = Report::default();
        report.section("throughput");
        for (name, value) in [("plain", 10.0), ("without GSO", 5.0), ("plain", 12.0), ("without GSO", 5.5)] {
            report.add(name, value, "Gbit/s");
        }
        let table = table(Work::Throughput, &report);
        let row = table.lines().find(|line| line.starts_with("without GSO")).unwrap();
        assert!(row.contains("5.250") && row.contains("5.000 to 5.500") && row.contains("-52.3 %"), "{row}");
    }
}
