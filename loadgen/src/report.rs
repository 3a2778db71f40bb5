//! Figures, for people and as JSON.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::ledger::Counts;
use crate::near::{Near, Used};
use crate::options::NodeOptions;

/// What was measured, in the order it was.
pub(crate) struct Report {
    setup: String,
    sections: Vec<(&'static str, Vec<Figure>)>,
}

struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Report {
    pub(crate) fn new(node: &NodeOptions, near: &Near) -> Self {
        let io: Vec<String> = near.engine.io_reports().iter().map(ToString::to_string).collect();
        let [near_core, far_core] = near.cores;
        let arguments = node.to_arguments().join(" ");
        let setup = format!("near core {near_core}, far core {far_core}, {arguments}; {}", io.join("; "));
        Self { setup, sections: Vec::new() }
    }

    /// What follows belongs to this.
    pub(crate) fn section(&mut self, name: &'static str) {
        self.sections.push((name, Vec::new()));
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        if let Some((_, figures)) = self.sections.last_mut() {
            figures.push(Figure { name: name.into(), value, unit });
        }
    }

    /// Round trips, in nanoseconds.
    pub(crate) fn add_times(&mut self, times: &Histogram<u64>) {
        self.add("count", times.len() as f64, "");
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            self.add(name, times.value_at_quantile(quantile) as f64 * 1e-3, "us");
        }
        self.add("max", times.max() as f64 * 1e-3, "us");
    }

    /// What the machine did beside.
    pub(crate) fn add_used(&mut self, used: &Used, seconds: f64) {
        self.add_counts("near", &used.near, seconds);
        self.add_counts("far", &used.far, seconds);
        self.add("udp_rcvbuf_errors", used.receive_buffer_errors as f64, "");
    }

    fn add_counts(&mut self, side: &str, counts: &Counts, seconds: f64) {
        let per_train = |datagrams: u64, trains: u64| datagrams as f64 / trains.max(1) as f64;
        self.add(format!("{side}_cpu"), counts.cpu_ns as f64 * 1e-9, "s");
        self.add(format!("{side}_switches"), counts.switches_voluntary as f64 / seconds, "/s");
        self.add(format!("{side}_switches_forced"), counts.switches_involuntary as f64 / seconds, "/s");
        self.add(
            format!("{side}_train_out"),
            per_train(counts.datagrams_out, counts.trains_out),
            "datagrams",
        );
        self.add(format!("{side}_train_in"), per_train(counts.datagrams_in, counts.trains_in), "datagrams");
        let rare = [
            ("lost", counts.lost),
            ("resent", counts.resent),
            ("misrouted", counts.misrouted),
            ("dropped", counts.dropped),
            ("queue_drops", counts.queue_drops),
        ];
        for (name, count) in rare {
            self.add(format!("{side}_{name}"), count as f64, "");
        }
    }

    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", self.to_json());
            return;
        }
        println!("{}", self.setup);
        for (name, figures) in &self.sections {
            println!("{name}");
            for Figure { name, value, unit } in figures {
                let places = if value.fract() == 0.0 { 0 } else { 3 };
                println!("  {name:<24}{value:>16.places$} {unit}");
            }
        }
    }

    fn to_json(&self) -> Value {
        let figures = |figures: &[Figure]| -> Map<String, Value> {
            figures.iter().map(|f| (f.name.clone(), json!({ "value": f.value, "unit": f.unit }))).collect()
        };
        let sections: Map<String, Value> =
            self.sections.iter().map(|(name, list)| ((*name).to_owned(), figures(list).into())).collect();
        json!({ "setup": self.setup, "figures": sections })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_every_figure_with_its_unit() {
        let mut report = Report { setup: "here".to_owned(), sections: Vec::new() };
        report.section("idle");
        report.add("cpu", 0.5, "%");
        let json = report.to_json();
        assert_eq!(json["figures"]["idle"]["cpu"], json!({ "value": 0.5, "unit": "%" }));
        assert_eq!(json["setup"], "here");
    }
}
