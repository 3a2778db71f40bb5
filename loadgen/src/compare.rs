//! Two runs beside each other: what became better or worse, and whether that can be said at all.
//!
//! In:    two files of JSON, a threshold.
//! Out:   a table; whether anything is worse.
//! Holds: a figure is worse only when its median moved by more than the threshold and the two runs' ranges do not
//!        meet; figures that have no better side are not judged.

use std::path::Path;

use serde_json::{Map, Value};

use crate::Fault;
use crate::report::{SCHEMA, median};

/// Figures whose medians are both below this, in their unit, are not judged: a millionth of anything is noise.
const NEGLIGIBLE: f64 = 1e-6;

/// What a comparison found.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    section: String,
    name: String,
    unit: String,
    /// Before, after.
    medians: [f64; 2],
    /// The distance of the extremes, in percent of the median: before, after.
    spreads: [f64; 2],
    change_percent: f64,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Better,
    Worse,
    /// Beyond the threshold, but the runs' ranges meet.
    Unclear,
    Same,
}

/// Reads both runs and compares them.
pub(crate) fn run(before: &Path, after: &Path, threshold: f64) -> Result<Comparison, Fault> {
    if !threshold.is_finite() || threshold < 0.0 {
        return Err(format!("--threshold {threshold} is no percentage").into());
    }
    compare(&read(before)?, &read(after)?, threshold)
}

fn read(path: &Path) -> Result<Value, Fault> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let json: Value = serde_json::from_str(&text).map_err(|error| format!("{name} is no JSON: {error}"))?;
    if json["schema"] != SCHEMA {
        return Err(format!("{name} is no {SCHEMA}").into());
    }
    match json["state"].as_str() {
        Some("complete") => Ok(json),
        state => Err(format!("{name} is {}: it proves nothing", state.unwrap_or("broken")).into()),
    }
}

fn compare(before: &Value, after: &Value, threshold: f64) -> Result<Comparison, Fault> {
    if before["mode"] != after["mode"] {
        return Err(format!("{} and {} are different work", before["mode"], after["mode"]).into());
    }
    let mut comparison = Comparison::default();
    let nothing = Map::new();
    let sections = |run: &'_ Value| run["figures"].as_object().cloned().unwrap_or_default();
    let others = sections(after);
    for (section, figures) in sections(before) {
        let other = others.get(&section).and_then(Value::as_object).unwrap_or(&nothing);
        for (name, figure) in figures.as_object().unwrap_or(&nothing) {
            let row = other.get(name).and_then(|other| judge((&section, name), [figure, other], threshold));
            comparison.rows.extend(row);
        }
    }
    match comparison.rows.is_empty() {
        true => Err("the two runs have no figure in common that can be judged".into()),
        false => Ok(comparison),
    }
}

fn judge((section, name): (&str, &str), figures: [&Value; 2], threshold: f64) -> Option<Row> {
    let better = figures[0]["better"].as_str()?;
    let values = figures.map(|figure| {
        let values = figure["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(Value::as_f64).collect::<Vec<f64>>()
    });
    if values.iter().any(Vec::is_empty) {
        return None;
    }
    let medians = [median(&values[0]), median(&values[1])];
    let ranges = [range(&values[0]), range(&values[1])];
    let spread = |at: usize| (ranges[at].1 - ranges[at].0) * 100.0 / medians[at].abs().max(NEGLIGIBLE);
    let change_percent = (medians[1] - medians[0]) * 100.0 / medians[0].abs().max(NEGLIGIBLE);
    let do_meet = ranges[0].0 <= ranges[1].1 && ranges[1].0 <= ranges[0].1;
    let is_small = medians.iter().all(|median| median.abs() < NEGLIGIBLE);
    let verdict = match (is_small || change_percent.abs() <= threshold, do_meet) {
        (true, _) => Verdict::Same,
        (false, true) => Verdict::Unclear,
        (false, false) if (change_percent > 0.0) == (better == "higher") => Verdict::Better,
        (false, false) => Verdict::Worse,
    };
    Some(Row {
        section: section.to_owned(),
        name: name.to_owned(),
        unit: figures[0]["unit"].as_str().unwrap_or_default().to_owned(),
        medians,
        spreads: [spread(0), spread(1)],
        change_percent,
        verdict,
    })
}

fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

impl Comparison {
    /// Something is worse.
    pub(crate) fn is_worse(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Verdict::Worse)
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "{:<24}{:<22}{:>14} {:>7} {:>14} {:>7} {:>9}\n",
            "section", "figure", "before", "spread", "after", "spread", "change"
        );
        for row in &self.rows {
            let verdict = match row.verdict {
                Verdict::Better => "better",
                Verdict::Worse => "WORSE",
                Verdict::Unclear => "unclear: the runs' ranges meet",
                Verdict::Same => "",
            };
            let line = format!(
                "{:<24}{:<22}{:>14.3} {:>5.1} % {:>14.3} {:>5.1} % {:>+7.1} % {:<12} {verdict}",
                row.section,
                row.name,
                row.medians[0],
                row.spreads[0],
                row.medians[1],
                row.spreads[1],
                row.change_percent,
                row.unit,
            );
            text += &format!("{}\n", line.trim_end());
        }
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        let (better, worse) = (count(Verdict::Better), count(Verdict::Worse));
        text + &format!("{} figures: {better} better, {worse} worse\n", self.rows.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(goodput: &[f64], p50: &[f64]) -> Value {
        json!({ "schema": SCHEMA, "mode": "throughput", "state": "complete", "figures": { "throughput": {
            "goodput": { "value": 0, "unit": "Gbit/s", "values": goodput, "better": "higher" },
            "p50": { "value": 0, "unit": "us", "values": p50, "better": "lower" },
            "near_lost": { "value": 0, "unit": "", "values": [1, 2], "better": null },
        } } })
    }

    fn verdicts(after: &Value) -> Vec<Verdict> {
        let before = run(&[10.0, 11.0, 9.0], &[50.0]);
        compare(&before, after, 5.0).unwrap().rows.iter().map(|row| row.verdict).collect()
    }

    #[test]
    fn a_figure_is_worse_beyond_the_threshold_and_the_spread() {
        assert_eq!(verdicts(&run(&[10.2], &[51.0])), [Verdict::Same, Verdict::Same]);
        assert_eq!(verdicts(&run(&[8.0, 7.0, 8.5], &[60.0])), [Verdict::Worse, Verdict::Worse]);
        assert_eq!(verdicts(&run(&[13.0], &[40.0])), [Verdict::Better, Verdict::Better]);
        assert_eq!(verdicts(&run(&[8.0, 8.2, 9.5], &[50.0])), [Verdict::Unclear, Verdict::Same]);
    }

    #[test]
    fn different_work_is_not_compared() {
        let mut other = run(&[1.0], &[1.0]);
        other["mode"] = json!("latency");
        assert!(compare(&run(&[1.0], &[1.0]), &other, 5.0).is_err());
        let mut bare = run(&[1.0], &[1.0]);
        bare["figures"] = json!({});
        assert!(compare(&run(&[1.0], &[1.0]), &bare, 5.0).is_err());
    }
}
