//! What a run found: figures, latencies, samples, the environment, and how far it can be believed.
//!
//! In:    figures by section; the same section and figure again when a run is repeated.
//! Out:   text for people, JSON.
//! Holds: a run that ended early says so itself, and so does one whose generator was late.
//!
//! The JSON is described in [`SCHEMA_HELP`], which `--help` prints. Names are never given another meaning; new ones may come.

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::ledger::{Counts, Used};
use crate::live::Sample;

/// The name of the JSON's layout.
pub(crate) const SCHEMA: &str = "dunlin-loadgen/1";

/// What the JSON holds, for people.
pub(crate) const SCHEMA_HELP: &str = r#"Exit code: 0 when all went well; 1 when a run is void or partial, or failed; 2 for a wrong call.

JSON (--json): one object
  schema       "dunlin-loadgen/1"
  mode         the command
  state        "complete"; "void": messages left late, as the node took them too slowly or the generator had too little
                 of its core, so do not use it;
                 "partial": it ended early; "failed": no figures; "unmet": whole, but a bound of soak was broken
  notes        why it is not complete: a list of lines
  setup        one line for people
  environment  object: version, revision, compiler, profile, command, time_unix, kernel, cpu, cpu_flags, mtu, settings, ...
  figures      object by section; each an object by name of
                 {"value": median, "unit": text, "values": [one for each --repeat], "better": "higher", "lower" or null}
  spectra      list of {"section", "name", "count", "points": [[percentile, microseconds], ...]}; names are
                 "corrected" (from the intended time), "uncorrected" (from the time of sending), "closed" (no schedule)
  timeline     list of {"section", "at_s", "span_s", "sent_per_s", "arrived_per_s", "p50_us", "p99_us", "p99.9_us",
                 "cores": [percent of each core], "near_resident_bytes", "far_resident_bytes"}
Latencies are in microseconds. near_ and far_ figures are what each side's process and engine counted meanwhile."#;

/// Points of a spectrum for each halving of the distance to 100 %.
const TICKS_PER_HALVING: u32 = 5;

/// What was measured, in the order it was.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) mode: &'static str,
    pub(crate) setup: String,
    pub(crate) environment: Map<String, Value>,
    pub(crate) sections: Vec<Section>,
    pub(crate) spectra: Vec<Spectrum>,
    pub(crate) timeline: Vec<Sample>,
    /// Text for people that stands below the figures.
    pub(crate) tables: Vec<String>,
    current: usize,
    unmet: Vec<String>,
    void: Vec<String>,
    faults: Vec<String>,
}

/// Figures that belong together.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) figures: Vec<Figure>,
}

/// A number, as often as it was measured.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
}

/// Latencies of one kind.
#[derive(Debug)]
pub(crate) struct Spectrum {
    pub(crate) section: String,
    pub(crate) name: &'static str,
    /// In nanoseconds.
    pub(crate) times: Histogram<u64>,
}

/// How far a run can be believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Complete,
    Unmet,
    Void,
    Partial,
    Failed,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Unmet => "unmet",
            Self::Void => "void",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

/// The middle value; the mean of the two in the middle where there are two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (len, middle) if len % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Which way a figure is better, where that is plain.
pub(crate) fn better(name: &str, unit: &str) -> Option<&'static str> {
    const HIGHER: [&str; 7] =
        ["goodput", "messages", "rate", "achieved", "knee", "deliveries", "responder_rate"];
    const COSTS: [&str; 3] = ["us", "us/datagram", "%"];
    const SPEEDS: [&str; 2] = ["Gbit/s", "M/s"];
    match (name, unit) {
        // One slow answer makes it; it tells nothing of a change.
        ("max" | "uncorrected_max" | "lateness_max" | "early_accepted" | "late_share" | "measured", _) => {
            None
        }
        (name, unit) if HIGHER.contains(&name) || SPEEDS.contains(&unit) => Some("higher"),
        (_, unit) if COSTS.contains(&unit) => Some("lower"),
        _ => None,
    }
}

impl Report {
    pub(crate) fn new(mode: &'static str, setup: String, environment: Map<String, Value>) -> Self {
        Self { mode, setup, environment, ..Self::default() }
    }

    /// What follows belongs to this; figures that it has already get another value.
    pub(crate) fn section(&mut self, name: &str) {
        let known = self.sections.iter().position(|section| section.name == name);
        self.current = known.unwrap_or_else(|| {
            self.sections.push(Section { name: name.to_owned(), figures: Vec::new() });
            self.sections.len() - 1
        });
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let Some(section) = self.sections.get_mut(self.current) else { return };
        let name = name.into();
        match section.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => section.figures.push(Figure { name, unit, values: vec![value] }),
        }
    }

    /// The median of a figure that was measured; none where it was not, or is nothing.
    pub(crate) fn median_of(&self, section: &str, name: &str) -> Option<f64> {
        let section = self.sections.iter().find(|known| known.name == section)?;
        let figure = section.figures.iter().find(|figure| figure.name == name)?;
        Some(median(&figure.values)).filter(|value| *value > 0.0)
    }

    /// Latencies in nanoseconds: percentiles under their names, and the whole spectrum.
    pub(crate) fn add_times(&mut self, kind: &'static str, times: &Histogram<u64>) {
        let prefix = if kind == "uncorrected" { "uncorrected_" } else { "" };
        if prefix.is_empty() {
            self.add("count", times.len() as f64, "");
        }
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            self.add(format!("{prefix}{name}"), times.value_at_quantile(quantile) as f64 * 1e-3, "us");
        }
        self.add(format!("{prefix}max"), times.max() as f64 * 1e-3, "us");
        let section = self.sections.get(self.current).map(|section| section.name.clone()).unwrap_or_default();
        let known = self.spectra.iter_mut().find(|known| known.section == section && known.name == kind);
        match known {
            // All histograms have the same bounds.
            Some(spectrum) => drop(spectrum.times.add(times)),
            None => self.spectra.push(Spectrum { section, name: kind, times: times.clone() }),
        }
    }

    /// What the machine did beside.
    pub(crate) fn add_used(&mut self, used: &Used, seconds: f64) {
        self.add_counts("near", &used.near, seconds);
        self.add_counts("far", &used.far, seconds);
        for (name, count) in &used.udp_errors {
            self.add(format!("udp_{name}"), *count as f64, "");
        }
    }

    fn add_counts(&mut self, side: &str, counts: &Counts, seconds: f64) {
        let part = |number: u64, of: u64| number as f64 / of.max(1) as f64;
        self.add(format!("{side}_cpu"), counts.cpu_ns as f64 * 1e-9, "s");
        let datagrams = counts.datagrams_in + counts.datagrams_out;
        self.add(format!("{side}_cpu_datagram"), part(counts.cpu_ns, datagrams) * 1e-3, "us/datagram");
        self.add(format!("{side}_switches"), counts.switches_voluntary as f64 / seconds, "/s");
        self.add(format!("{side}_switches_forced"), counts.switches_involuntary as f64 / seconds, "/s");
        self.add(format!("{side}_datagram_out"), part(counts.bytes_out, counts.datagrams_out), "bytes");
        self.add(format!("{side}_train_out"), part(counts.datagrams_out, counts.trains_out), "datagrams");
        self.add(format!("{side}_train_in"), part(counts.datagrams_in, counts.trains_in), "datagrams");
        let rare = [
            ("lost", counts.lost),
            ("resent", counts.resent),
            ("misrouted", counts.misrouted),
            ("dropped", counts.dropped),
            ("queue_drops", counts.queue_drops),
            ("buffers_exhausted", counts.buffers_exhausted),
            ("rearmed", counts.rearmed),
            ("completions_overflowed", counts.completions_overflowed),
            ("send_blocked", counts.send_blocked),
            ("unsegmented", counts.unsegmented),
            ("sleeps", counts.sleeps),
        ];
        for (name, count) in rare {
            self.add(format!("{side}_{name}"), count as f64, "");
        }
    }

    /// The generator could not do what was asked of it: its figures are not the node's.
    pub(crate) fn mark_void(&mut self, why: String) {
        self.void.push(why);
    }

    /// The run is whole, but something that it was to show is not so.
    pub(crate) fn mark_unmet(&mut self, why: String) {
        self.unmet.push(why);
    }

    /// The run ended early.
    pub(crate) fn mark_partial(&mut self, why: String) {
        self.faults.push(why);
    }

    pub(crate) fn state(&self) -> State {
        match (self.faults.is_empty(), self.void.is_empty()) {
            (false, _) if self.sections.iter().all(|section| section.figures.is_empty()) => State::Failed,
            (false, _) => State::Partial,
            (true, false) => State::Void,
            (true, true) if !self.unmet.is_empty() => State::Unmet,
            (true, true) => State::Complete,
        }
    }

    /// Why it is not complete.
    pub(crate) fn notes(&self) -> Vec<&str> {
        self.faults.iter().chain(&self.void).chain(&self.unmet).map(String::as_str).collect()
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.setup);
        for section in &self.sections {
            text += &format!("{}\n", section.name);
            for Figure { name, values, unit } in &section.figures {
                let value = median(values);
                let places = if value.fract() == 0.0 { 0 } else { 3 };
                text += &format!("  {name:<28}{value:>16.places$} {unit}");
                if values.len() > 1 {
                    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
                    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    text += &format!("  ({low:.places$} to {high:.places$} in {} rounds)", values.len());
                }
                text = text.trim_end().to_owned() + "\n";
            }
        }
        for table in &self.tables {
            text += &format!("\n{table}");
        }
        if self.state() != State::Complete {
            text += &format!("this run is {}: {}\n", self.state().name(), self.notes().join("; "));
        }
        text
    }

    pub(crate) fn to_json(&self) -> Value {
        let figures = |section: &Section| -> Map<String, Value> {
            let rows = section.figures.iter().map(|figure| {
                let Figure { name, unit, values } = figure;
                let better = better(name, unit);
                let row =
                    json!({ "value": median(values), "unit": unit, "values": values, "better": better });
                (name.clone(), row)
            });
            rows.collect()
        };
        let sections: Map<String, Value> =
            self.sections.iter().map(|section| (section.name.clone(), figures(section).into())).collect();
        json!({
            "schema": SCHEMA,
            "mode": self.mode,
            "state": self.state(),
            "notes": self.notes(),
            "setup": self.setup,
            "environment": self.environment,
            "figures": sections,
            "spectra": self.spectra.iter().map(Spectrum::to_json).collect::<Vec<_>>(),
            "timeline": self.timeline,
        })
    }
}

impl Spectrum {
    fn to_json(&self) -> Value {
        let points: Vec<[f64; 2]> = self
            .times
            .iter_quantiles(TICKS_PER_HALVING)
            .map(|point| {
                let percentile = point.quantile_iterated_to() * 100.0;
                [percentile, point.value_iterated_to() as f64 * 1e-3]
            })
            .collect();
        json!({ "section": self.section, "name": self.name, "count": self.times.len(), "points": points })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::histogram;

    fn report() -> Report {
        let mut report = Report::new("latency", "here".to_owned(), Map::new());
        report.section("core");
        report.add("rate", 4.0, "/s");
        report.section("other");
        report.add("p50", 1.0, "us");
        report.section("core");
        report.add("rate", 8.0, "/s");
        report.add("rate", 5.0, "/s");
        report
    }

    /// Whoever reads the JSON relies on these names.
    #[test]
    fn the_schema_is_stable() {
        let mut report = report();
        let mut times = histogram();
        times.record(1_500).unwrap();
        report.add_times("corrected", &times);
        report.timeline.push(Sample::default());
        let json = report.to_json();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let top =
            ["environment", "figures", "mode", "notes", "schema", "setup", "spectra", "state", "timeline"];
        assert_eq!(keys(&json), top);
        assert_eq!((&json["schema"], &json["state"]), (&json!("dunlin-loadgen/1"), &json!("complete")));
        let rate = json!({ "value": 5.0, "unit": "/s", "values": [4.0, 8.0, 5.0], "better": "higher" });
        assert_eq!(json["figures"]["core"]["rate"], rate);
        let figures = ["count", "max", "p50", "p90", "p99", "p99.9", "rate"].map(str::to_owned);
        assert_eq!(keys(&json["figures"]["core"]), figures);
        assert_eq!(keys(&json["spectra"][0]), ["count", "name", "points", "section"]);
        assert_eq!(json["spectra"][0]["points"][0], json!([0.0, 1.5]));
        let sample = [
            "arrived_per_s",
            "at_s",
            "cores",
            "far_resident_bytes",
            "near_resident_bytes",
            "p50_us",
            "p99.9_us",
            "p99_us",
            "section",
            "sent_per_s",
            "span_s",
        ];
        assert_eq!(keys(&json["timeline"][0]), sample);
        for name in top.iter().chain(&sample) {
            assert!(SCHEMA_HELP.contains(name), "{name} is documented");
        }
    }

    #[test]
    fn a_run_that_is_not_whole_says_so() {
        let mut report = report();
        report.mark_unmet("grown".to_owned());
        assert_eq!(report.state(), State::Unmet);
        report.mark_void("late".to_owned());
        assert_eq!(report.state(), State::Void);
        report.mark_partial("gone".to_owned());
        assert_eq!(
            (report.state(), &report.to_json()["notes"]),
            (State::Partial, &json!(["gone", "late", "grown"]))
        );
        assert!(
            report.to_text().ends_with("this run is partial: gone; late; grown\n"),
            "{}",
            report.to_text()
        );
        let mut nothing = Report::default();
        nothing.mark_partial("nobody".to_owned());
        assert_eq!(nothing.state(), State::Failed);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!((median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (0.0, 2.0, 2.5));
    }
}
