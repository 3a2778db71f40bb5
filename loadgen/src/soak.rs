//! Hours of the same: whether memory stays bounded and latency where it was.
//!
//! In:    a steady load; how much growth and drift is allowed.
//! Out:   the first and the last quarter of the run beside each other.
//! Holds: the first quarter is the measure: tables and pools have grown to the load by then.

use crate::Fault;
use crate::live::Sample;
use crate::near::Near;
use crate::paced::{self, Load};
use crate::report::{Report, median};

/// Samples that each quarter must have for a judgement.
const SAMPLES_MIN: usize = 3;
const MIB: f64 = 1_048_576.0;

/// What may change from the first quarter to the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Memory in RAM of either side, in MiB.
    pub(crate) growth_max: f64,
    /// The median of latency, in percent.
    pub(crate) drift_max: f64,
}

pub(crate) fn run(
    near: &mut Near,
    bounds: &Bounds,
    load: &Load<'_>,
    report: &mut Report,
) -> Result<(), Fault> {
    let peers = near.connect_each_engine()?;
    let (mut outcome, result) = paced::run(near, &peers, load)?;
    let samples = outcome.samples.clone();
    outcome.add_to(report);
    if let Some(why) = outcome.void.take() {
        report.mark_void(why);
    }
    peers.iter().for_each(|peer| peer.close(0));
    for broken in judge(&samples, bounds, report) {
        report.mark_unmet(broken);
    }
    result.and_then(|()| outcome.unanswered())
}

/// The run's quarters: a median of what a sample says in the first and the last of them.
fn quarters(samples: &[Sample], of: impl Fn(&Sample) -> Option<f64>) -> Option<[f64; 2]> {
    let values: Vec<f64> = samples.iter().filter_map(of).collect();
    let quarter = values.len() / 4;
    (quarter >= SAMPLES_MIN).then(|| [median(&values[..quarter]), median(&values[values.len() - quarter..])])
}

/// The bounds that were broken, in words.
fn judge(samples: &[Sample], bounds: &Bounds, report: &mut Report) -> Vec<String> {
    let mut broken = Vec::new();
    let mib = |bytes: u64| bytes as f64 / MIB;
    report.section("drift");
    let near = quarters(samples, |sample| Some(mib(sample.near_resident_bytes)));
    let far = quarters(samples, |sample| sample.far_resident_bytes.map(mib));
    for (side, memory) in [("near", near), ("far", far)] {
        let Some([first, last]) = memory else { continue };
        report.add(format!("{side}_memory_first"), first, "MiB");
        report.add(format!("{side}_memory_last"), last, "MiB");
        if last - first > bounds.growth_max {
            broken.push(format!("the {side} side grew from {first:.1} to {last:.1} MiB"));
        }
    }
    let median_us = quarters(samples, |sample| sample.p50_us);
    if let Some([first, last]) = quarters(samples, |sample| sample.p99_us) {
        report.add("p99_first", first, "us");
        report.add("p99_last", last, "us");
    }
    let Some([first, last]) = median_us else {
        broken.push("the run was too short to judge its drift: give it more --seconds".to_owned());
        return broken;
    };
    report.add("p50_first", first, "us");
    report.add("p50_last", last, "us");
    if last > first * (1.0 + bounds.drift_max / 100.0) {
        broken.push(format!("the median of latency rose from {first:.1} to {last:.1} us"));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples whose memory and latency go in a straight line between two values.
    fn samples(memory: [u64; 2], p50: [f64; 2]) -> Vec<Sample> {
        (0..=40)
            .map(|at| {
                let part = f64::from(at) / 40.0;
                let far = memory[0] as f64 + (memory[1] as f64 - memory[0] as f64) * part;
                Sample {
                    p50_us: Some(p50[0] + (p50[1] - p50[0]) * part),
                    near_resident_bytes: 10 << 20,
                    far_resident_bytes: Some(far as u64),
                    ..Sample::default()
                }
            })
            .collect()
    }

    fn judged(samples: &[Sample]) -> String {
        let bounds = Bounds { growth_max: 16.0, drift_max: 50.0 };
        judge(samples, &bounds, &mut Report::default()).join("; ")
    }

    #[test]
    fn growth_and_drift_are_found() {
        assert_eq!(judged(&samples([10 << 20, 20 << 20], [50.0, 60.0])), "");
        let grown = judged(&samples([10 << 20, 50 << 20], [50.0, 60.0]));
        assert!(grown.starts_with("the far side grew from 1"), "{grown}");
        let slowed = judged(&samples([10 << 20, 10 << 20], [50.0, 150.0]));
        assert!(slowed.starts_with("the median of latency rose"), "{slowed}");
        assert!(judged(&samples([1, 1], [1.0, 1.0])[..8]).contains("too short"));
    }
}
