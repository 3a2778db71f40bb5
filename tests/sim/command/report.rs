//! What a crowd of seeds came to, for people and for machines.

use dunlin_tests::swarm::{Cut, Kind, Plan, replay_command};
use serde_json::json;

use crate::Options;
use crate::crowd::Outcome;

/// Failures of a run that are shown in full.
const SHOWN: usize = 3;

/// A seed, what is left of its plan, and how that is said on the command line.
type Shrunk = (u64, Plan, Cut);

/// Tables.
pub(crate) fn text(options: &Options, outcome: &Outcome, shrunk: Option<&Shrunk>) {
    if options.kind == Kind::Chaos && (options.seeds > 1 || options.coverage) {
        print!("{}", outcome.table);
    }
    for (seed, failure) in outcome.failures.iter().take(SHOWN) {
        println!("\nseed {seed} broke at {}:\n  {}", failure.place, failure.message);
        println!("{}", failure.lines);
        println!(
            "to see it again:\n  {}",
            replay_command(options.kind, *seed, options.size, &options.only.clone().unwrap_or_default())
        );
    }
    if let Some((seed, plan, cut)) = shrunk {
        println!(
            "\nthis much of it is enough:\n  {}\n{plan}",
            replay_command(options.kind, *seed, options.size, cut)
        );
    }
    let missing = outcome.table.missing();
    if options.coverage && !missing.is_empty() {
        println!("\nnever happened: {missing:?}");
    }
    let seconds = outcome.took.as_secs_f64();
    println!(
        "\n{} of {} {} seeds of {} from {} broke; {:.1} s with {} jobs: {:.0} seeds an hour and job, {:.0} simulated seconds a second",
        outcome.failures.len(),
        outcome.runs,
        options.size,
        options.kind,
        options.first,
        seconds,
        outcome.jobs,
        outcome.runs as f64 * 3_600.0 / seconds / outcome.jobs as f64,
        outcome.simulated.as_secs_f64() / seconds,
    );
    println!(
        "{} messages, {} bytes in the hands of applications; converged within {:.1} s; {} lines of trace, hash {:016x}",
        outcome.delivered.0,
        outcome.delivered.1,
        outcome.healed_max.as_secs_f64(),
        outcome.lines,
        outcome.hash,
    );
}

/// One object.
pub(crate) fn json(options: &Options, outcome: &Outcome, shrunk: Option<&Shrunk>) {
    let coverage: Vec<_> = outcome
        .table
        .iter()
        .map(|(group, name, seeds)| json!({ "group": group, "name": name, "seeds": seeds }))
        .collect();
    let failures: Vec<_> = outcome
        .failures
        .iter()
        .map(|(seed, failure)| {
            json!({
                "seed": seed,
                "place": failure.place,
                "message": failure.message,
                "replay": replay_command(options.kind, *seed, options.size, &options.only.clone().unwrap_or_default()),
            })
        })
        .collect();
    let object = json!({
        "of": options.kind.to_string(),
        "size": options.size.to_string(),
        "first": options.first,
        "seeds": outcome.runs,
        "failures": failures,
        "shrunk": shrunk.map(|(seed, _, cut)| replay_command(options.kind, *seed, options.size, cut)),
        "coverage": coverage,
        "missing": outcome.table.missing(),
        "seconds": outcome.took.as_secs_f64(),
        "simulated_seconds": outcome.simulated.as_secs_f64(),
        "healed_seconds_max": outcome.healed_max.as_secs_f64(),
        "messages": outcome.delivered.0,
        "bytes": outcome.delivered.1,
        "trace_hash": format!("{:016x}", outcome.hash),
    });
    println!("{object:#}");
}
