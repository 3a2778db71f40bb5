//! From a mode of the command line to a report: starts both sides, measures, writes.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Fault;
use crate::dht;
use crate::fanout;
use crate::handshakes;
use crate::interrupt;
use crate::ladder::{self, Climb};
use crate::latency;
use crate::machine;
use crate::near::{Crew, Near};
use crate::options::{Command, NearOptions, NodeOptions, Options, Over, PacedOptions};
use crate::paced::{self, Load};
use crate::questions::Op;
use crate::report::{Report, State};
use crate::sessions;
use crate::shout;
use crate::soak::{self, Bounds};
use crate::throughput::{self, Flood};
use crate::writing;

/// Measures as the command says and writes what was found, whole or not.
pub(crate) fn run(options: &Options) -> Result<(), Fault> {
    let Some((mode, near_options, crew)) = mode_of(&options.command) else {
        return Err("this command measures nothing".into());
    };
    let mut report = Report::new(mode, String::new(), machine::environment());
    match Near::start(&options.node, near_options, &crew) {
        Ok(mut near) => {
            report.setup = setup(&options.node, &near);
            report.environment.insert("settings".to_owned(), settings(&options.node, &near).into());
            for _ in 0..near_options.repeat.max(1) {
                let result = measure(options, &mut near, &mut report);
                if let Err(fault) = &result {
                    report.mark_partial(near.explain(fault));
                } else if interrupt::is_asked() {
                    report.mark_partial("interrupted".to_owned());
                }
                if result.is_err() || interrupt::is_asked() {
                    break;
                }
            }
        }
        Err(fault) => report.mark_partial(fault.to_string()),
    }
    finish(&report, near_options)
}

/// Writes everything; the fault to end with, if there is one.
fn finish(report: &Report, options: &NearOptions) -> Result<(), Fault> {
    let is_asked = options.json.is_some() || options.html.is_some();
    let mut faults: Vec<String> = report.notes().into_iter().map(str::to_owned).collect();
    // Nothing but the fault is worth printing when there are no figures.
    if report.state() != State::Failed || is_asked {
        faults.extend(writing::write_all(report, options).err().map(|fault| fault.to_string()));
    }
    match faults.is_empty() {
        true => Ok(()),
        false if report.state() == State::Complete => Err(faults.join("; ").into()),
        false => Err(format!("{}: {}", report.state().name(), faults.join("; ")).into()),
    }
}

/// Nodes of a far side's network: one answers, and tells of sixteen others.
const TOLD: usize = 17;

/// A mode's name, its target, and whom it needs.
fn mode_of(command: &Command) -> Option<(&'static str, &NearOptions, Crew)> {
    let crew = Crew::default();
    let hub = Crew { is_lean: true, is_hub: true, ..crew.clone() };
    Some(match command {
        Command::Throughput { near, .. } => ("throughput", near, crew),
        Command::Messages { near, .. } => ("messages", near, crew),
        Command::Latency { near, paced, .. } => ("latency", near, Crew { engines: paced.sessions, ..crew }),
        Command::Ladder { near, paced, .. } => ("ladder", near, Crew { engines: paced.sessions, ..crew }),
        Command::Soak { near, paced, .. } => ("soak", near, Crew { engines: paced.sessions, ..crew }),
        Command::Fanout { near, peers, .. } => ("fanout", near, Crew { nodes: *peers, ..crew }),
        Command::Handshakes { near, .. } => ("handshakes", near, Crew { is_lean: true, ..crew }),
        Command::Dht { near, asking } => {
            let state = (asking.op == Op::Store).then(|| asking.state.clone());
            ("dht", near, Crew { nodes: TOLD, is_networked: true, state, ..hub })
        }
        Command::Shout { near, shouting } => {
            ("shout", near, Crew { is_networked: true, is_limited: shouting.limited, ..hub })
        }
        Command::Sessions { near, .. } => ("sessions", near, hub),
        Command::Idle { near, quiet } if quiet.sessions == 1 => ("idle", near, crew),
        Command::Idle { near, .. } => ("idle", near, hub),
        _ => return None,
    })
}

fn measure(options: &Options, near: &mut Near, report: &mut Report) -> Result<(), Fault> {
    let node = &options.node;
    match &options.command {
        Command::Throughput { near: options, size } => flood(near, ("throughput", size), options, report),
        Command::Messages { near: options, size } => flood(near, ("messages", size), options, report),
        Command::Latency { near: options, paced, rate, over } if rate.is_empty() => {
            let everybody = [Over::Core, Over::Api, Over::Ping];
            let over = if over.is_empty() { &everybody } else { over.as_slice() };
            latency::run(near, over, paced.size, span(options), report)
        }
        Command::Latency { near: options, paced, rate, over } => {
            let over = if over.is_empty() { &[Over::Core] } else { over.as_slice() };
            paced::measure(near, &loads(over, rate, (options, paced)), report)
        }
        Command::Handshakes { near: options, shaking } => {
            handshakes::run(near, node, (shaking, options.quiet), report)
        }
        Command::Ladder { near: options, paced, from, to, factor, halvings, p99_max, over } => {
            let climb =
                Climb { from: *from, to: *to, factor: *factor, halvings: *halvings, p99_max: *p99_max };
            ladder::run(near, &climb, &load("ladder", (*over, *from), (options, paced)), report)
        }
        Command::Fanout { near: options, paced, rate, .. } => {
            let load = load("fanout", (Over::Core, *rate), (options, paced));
            fanout::run(near, &Load { is_fanned: true, ..load }, report)
        }
        Command::Soak { near: options, paced, rate, growth_max, drift_max } => {
            let bounds = Bounds { growth_max: *growth_max, drift_max: *drift_max };
            soak::run(near, &bounds, &load("soak", (Over::Core, *rate), (options, paced)), report)
        }
        Command::Dht { near: options, asking } => {
            dht::run(near, node, (asking, span(options), options.quiet), report)
        }
        Command::Shout { near: options, shouting } => {
            shout::run(near, node, (shouting, span(options), options.quiet), report)
        }
        Command::Sessions { near: options, many } => {
            sessions::run(near, node, (many, span(options), options.quiet), report)
        }
        Command::Idle { near: options, quiet } if quiet.sessions == 1 => {
            throughput::idle(near, span(options), report)
        }
        Command::Idle { near: options, quiet } => {
            sessions::idle(near, node, (quiet, span(options), options.quiet), report)
        }
        _ => Err("this command measures nothing".into()),
    }
}

fn span(options: &NearOptions) -> Duration {
    Duration::from_secs_f64(options.seconds)
}

fn flood(
    near: &mut Near,
    (name, sizes): (&str, &[usize]),
    options: &NearOptions,
    report: &mut Report,
) -> Result<(), Fault> {
    for size in sizes {
        let section = if sizes.len() == 1 { name.to_owned() } else { format!("{name} of {size}") };
        let flood = Flood { section, size: *size, span: span(options), is_quiet: options.quiet };
        throughput::run(near, &flood, report)?;
    }
    Ok(())
}

fn loads<'a>(over: &[Over], rates: &[f64], options: (&NearOptions, &'a PacedOptions)) -> Vec<Load<'a>> {
    let each = over.iter().flat_map(|over| rates.iter().map(move |rate| (*over, *rate)));
    each.map(|(over, rate)| load(&format!("{} at {rate}/s", over.name()), (over, rate), options)).collect()
}

fn load<'a>(
    section: &str,
    (over, rate): (Over, f64),
    (options, paced): (&NearOptions, &'a PacedOptions),
) -> Load<'a> {
    Load {
        section: section.to_owned(),
        over,
        rate,
        span: span(options),
        is_fanned: false,
        is_quiet: options.quiet,
        options: paced,
    }
}

/// One line for people.
fn setup(node: &NodeOptions, near: &Near) -> String {
    let arguments = node.to_arguments().join(" ");
    format!(
        "near core {}, far cores {:?}, {} near engines, {} far nodes, {arguments}; {}",
        near.cores.near,
        near.cores.far,
        near.engines.len(),
        near.uris.len(),
        io_of(near).join("; ")
    )
}

fn io_of(near: &Near) -> Vec<String> {
    let reports = near.engines.iter().flat_map(dunlin::Engine::io_reports);
    let mut lines: Vec<String> = reports.map(|report| report.to_string()).collect();
    lines.dedup();
    lines
}

/// What both sides were started with.
fn settings(node: &NodeOptions, near: &Near) -> Map<String, Value> {
    let settings = json!({
        "arguments": node.to_arguments().join(" "),
        "gso": !node.no_gso,
        "gro": !node.no_gro,
        "datagram_max": node.datagram,
        "far_shards": node.shards,
        "near_core": near.cores.near,
        "far_cores": near.cores.far,
        "near_engines": near.engines.len(),
        "far_nodes": near.uris.len(),
        "near_io": io_of(near),
        "steering": near.engines.first().map(|engine| format!("{:?}", engine.steering())),
    });
    match settings {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
