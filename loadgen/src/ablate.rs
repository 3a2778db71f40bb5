//! The same work with one thing at a time switched: what each is worth on this machine.
//!
//! In:    the work, how often.
//! Out:   each variant's median and spread beside the plain one's.
//! Holds: a variant differs from the one that it is held against in one thing.
//!
//! Sealing cannot be left off in an engine: it is compiled for the real cryptography, and neither a setting nor a hidden
//! constructor of the library changes that, as whatever can be switched off for a measurement can be switched off in the field. So
//! `bare` runs the shards themselves over the engine's sockets, in this program alone, once with the real cipher and once with none;
//! the difference between these two is what sealing is worth, and the bare sealed one beside the plain one what an engine's threads are.

use crate::Fault;
use crate::machine;
use crate::options::{AblateOptions, Cipher, Io, NodeOptions, Work};
use crate::report::Report;
use crate::trials::{Sealing, Trials, Variant};
use crate::writing;

const PLAIN: &str = "plain";
const BARE: &str = "bare shards";

pub(crate) fn run(node: &NodeOptions, options: &AblateOptions) -> Result<(), Fault> {
    let trials = Trials {
        tasks: options.work.iter().copied().map(Work::task).collect(),
        variants: variants(node, &options.shard_counts),
        rounds: options.rounds,
        seconds: options.seconds,
    };
    let setup = format!(
        "plain is: {}; bare shards are two shards over two sockets in one process without an engine's threads, the only ones that \
         can be run unsealed",
        node.to_arguments().join(" ")
    );
    let mut report = Report::new("ablate", setup, machine::environment_of(node));
    if let Err(fault) = trials.run(&mut report) {
        report.mark_partial(fault.to_string());
    }
    report.tables = trials.tasks.iter().map(|task| trials.table(task, &report)).collect();
    writing::conclude(report, options.json.as_deref())
}

/// The plain run first.
fn variants(node: &NodeOptions, shard_counts: &[usize]) -> Vec<Variant> {
    let with = |name: &str, change: &dyn Fn(&mut NodeOptions)| {
        let mut node = node.clone();
        change(&mut node);
        Variant { name: name.to_owned(), node, bare: None, base: PLAIN }
    };
    let mut variants = vec![
        with(PLAIN, &|_| {}),
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
    variants.push(Variant { bare: Some(Sealing::On), ..with(BARE, &|_| {}) });
    let unsealed = with("bare shards, not sealed", &|_| {});
    variants.push(Variant { bare: Some(Sealing::Off), base: BARE, ..unsealed });
    variants
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    /// Each variant differs from the one it is held against in one thing, and says so on its command line.
    #[test]
    fn one_thing_is_switched_at_a_time() {
        let node = Options::try_parse_from(["x", "ablate"]).unwrap().node;
        let variants = variants(&node, &[1, 2]);
        let plain = variants[0].node.to_arguments();
        let mut seen = vec![plain.clone()];
        for variant in variants[1..].iter().filter(|variant| variant.bare.is_none()) {
            let own = variant.node.to_arguments();
            assert!(!seen.contains(&own), "{}", variant.name);
            let others: Vec<&String> = own.iter().filter(|word| !plain.contains(word)).collect();
            assert!(others.len() <= 2, "{}: {others:?}", variant.name);
            seen.push(own);
        }
        let bare: Vec<(Option<Sealing>, &str)> =
            variants.iter().filter(|v| v.bare.is_some()).map(|v| (v.bare, v.base)).collect();
        assert_eq!(bare, [(Some(Sealing::On), PLAIN), (Some(Sealing::Off), BARE)]);
        assert!(variants.iter().all(|variant| variants.iter().any(|other| other.name == variant.base)));
    }
}
