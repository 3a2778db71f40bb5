//! The two back ends against each other, in alternating rounds: which one `auto` should take on this machine.
//!
//! In:    how often, how long, how many sessions.
//! Out:   each work by both, how many times better uring was in each round, and a verdict.
//! Holds: a work counts for a back end only when it was better in every round; else the work counts for neither.

use crate::Fault;
use crate::machine;
use crate::options::{BackendsOptions, Io, NodeOptions, Waiting, Work};
use crate::report::{Report, better, median};
use crate::trials::{Task, Trials, Variant, figure_of, range};
use crate::writing;

const URING: &str = "uring";
const MMSG: &str = "mmsg";

pub(crate) fn run(node: &NodeOptions, options: &BackendsOptions) -> Result<(), Fault> {
    let variant = |name: &'static str, io: Io| {
        let node = NodeOptions { io, ..node.clone() };
        Variant { name: name.to_owned(), node, bare: None, base: MMSG }
    };
    let trials = Trials {
        tasks: tasks(options),
        variants: vec![variant(MMSG, Io::Mmsg), variant(URING, Io::Uring)],
        rounds: options.rounds,
        seconds: options.seconds,
    };
    let setup = format!("both back ends with: {}", node.to_arguments().join(" "));
    let mut report = Report::new("backends", setup, machine::environment_of(node));
    if let Err(fault) = trials.run(&mut report) {
        report.mark_partial(fault.to_string());
    }
    let duels: Vec<Duel> = trials.tasks.iter().filter_map(|task| Duel::of(task, &report)).collect();
    report.section("uring_times_better");
    duels.iter().for_each(|duel| report.add(duel.task.clone(), duel.median, "x"));
    report.tables = trials.tasks.iter().map(|task| trials.table(task, &report)).collect();
    report.tables.push(verdict(&duels));
    writing::conclude(report, options.json.as_deref())
}

fn tasks(options: &BackendsOptions) -> Vec<Task> {
    let bulk = Work::Throughput.task();
    let latency = Work::Latency.task();
    let sessions = ["sessions", "--self", "--rounds", "1", "--sessions", &options.sessions.to_string()];
    vec![
        Task { name: "bulk at 1,200 bytes".to_owned(), change: |node| node.datagram = 1_200, ..bulk.clone() },
        Task { name: "bulk at 8,900 bytes".to_owned(), change: |node| node.datagram = 8_900, ..bulk },
        Task { name: "messages of 64 bytes".to_owned(), ..Work::Messages.task() },
        Task {
            name: "round trip, spin adaptive".to_owned(),
            change: |node| node.spin = Waiting::Adaptive,
            ..latency.clone()
        },
        Task { name: "round trip, spin off".to_owned(), change: |node| node.spin = Waiting::Off, ..latency },
        Task {
            name: format!("{} sessions, 1 KiB", options.sessions),
            mode: sessions.map(str::to_owned).to_vec(),
            change: |_| {},
            section: "unreliable",
            figure: "rate",
            unit: "/s",
        },
    ]
}

/// One work by both.
#[derive(Clone, Debug)]
struct Duel {
    task: String,
    /// How many times better uring was: the median of the rounds, the least and the most.
    median: f64,
    low: f64,
    high: f64,
}

impl Duel {
    fn of(task: &Task, report: &Report) -> Option<Self> {
        let [uring, mmsg] = [URING, MMSG].map(|name| figure_of(task, name, report));
        let is_more_better = better(task.figure, task.unit) == Some("higher");
        let pairs = uring?.values.iter().zip(&mmsg?.values);
        let times: Vec<f64> =
            pairs.map(|(uring, mmsg)| if is_more_better { uring / mmsg } else { mmsg / uring }).collect();
        let (low, high) = range(&times);
        (!times.is_empty()).then(|| Self { task: task.name.clone(), median: median(&times), low, high })
    }
}

/// Who is to be taken, and why.
fn verdict(duels: &[Duel]) -> String {
    let mut text =
        format!("{:<32}{:>12} {:>24}\n", "uring, times better than mmsg", "median", "range of rounds");
    for duel in duels {
        let range = format!("{:.3} to {:.3}", duel.low, duel.high);
        text += &format!("{:<32}{:>12.3} {range:>24}\n", duel.task, duel.median);
    }
    let wins = duels.iter().filter(|duel| duel.low > 1.0).count();
    let losses = duels.iter().filter(|duel| duel.high < 1.0).count();
    let logarithms: f64 = duels.iter().map(|duel| duel.median.ln()).sum();
    let mean = (logarithms / duels.len().max(1) as f64).exp();
    let taken = match (wins.cmp(&losses), mean >= 1.0) {
        (std::cmp::Ordering::Greater, _) | (std::cmp::Ordering::Equal, true) => URING,
        _ => MMSG,
    };
    text + &format!(
        "auto should take {taken}: uring was better in every round of {wins} works, mmsg of {losses}, neither of {}; geometric mean \
         of the medians {mean:.3}\n",
        duels.len() - wins - losses
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duel(low: f64, median: f64, high: f64) -> Duel {
        Duel { task: "t".to_owned(), median, low, high }
    }

    #[test]
    fn a_work_counts_only_where_every_round_says_the_same() {
        let said = verdict(&[duel(1.1, 1.2, 1.3), duel(0.5, 0.6, 1.01), duel(1.2, 1.3, 1.4)]);
        assert!(
            said.contains(
                "auto should take uring: uring was better in every round of 2 works, mmsg of 0, neither of 1"
            ),
            "{said}"
        );
        let said = verdict(&[duel(0.9, 0.95, 0.99), duel(0.9, 1.4, 2.0)]);
        assert!(said.contains("take mmsg"), "{said}");
        // Nobody wins: the mean decides.
        assert!(verdict(&[duel(0.9, 1.1, 2.0)]).contains("take uring"));
        assert!(verdict(&[duel(0.5, 0.9, 2.0)]).contains("take mmsg"));
    }

    /// Rates are better when they are higher, times when they are lower.
    #[test]
    fn better_has_the_figures_direction() {
        let options = BackendsOptions { seconds: 1.0, rounds: 1, sessions: 7, json: None };
        let mut report = Report::default();
        for task in tasks(&options) {
            report.section(&task.name);
            report.add(URING, 2.0, task.unit);
            report.add(MMSG, 1.0, task.unit);
        }
        let times: Vec<f64> =
            tasks(&options).iter().map(|task| Duel::of(task, &report).unwrap().median).collect();
        assert_eq!(times, [2.0, 2.0, 2.0, 0.5, 0.5, 2.0]);
    }
}
