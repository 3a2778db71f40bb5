//! The fuzz targets without libFuzzer: every committed input is replayed.
//!
//! In:    `tests/fuzz/corpus/TARGET/*`.
//! Out:   the inputs that a target panics on.
//! Holds: every target has a binary and inputs, and every golden vector is an input of its target.
//!
//! `cargo test -p dunlin-tests --test fuzz_seeds -- --ignored` writes the vectors and the generated inputs anew; what
//! libFuzzer found and somebody named lies beside them and stays.

#[path = "fuzz/bodies.rs"]
mod bodies;
#[path = "fuzz/src/lib.rs"]
pub mod fuzz;
#[path = "fuzz/stories.rs"]
mod stories;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;

/// The files of golden vectors and the targets that read them.
const VECTORS: [(&str, &[&str]); 16] = [
    ("packets", &["packet"]),
    ("hello-payloads", &["payloads"]),
    ("welcome-payloads", &["payloads"]),
    ("finish-payloads", &["payloads"]),
    ("frames", &["frames"]),
    ("files", &["file_message"]),
    ("ids", &["address"]),
    ("msgpack", &["msgpack"]),
    ("transmissions", &["transmission"]),
    ("direct-messages", &["message"]),
    ("signed-messages", &["message"]),
    ("node-records", &["record"]),
    ("value-records", &["record"]),
    ("key-changes", &["record"]),
    ("arguments", &["arguments"]),
    ("rolls", &["roll"]),
];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The committed inputs of a target; what libFuzzer named after its SHA-1 is nobody's seed yet.
fn inputs_of(target: &str) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(here("fuzz/corpus").join(target)).expect("every target has inputs");
    let name_len = |path: &Path| path.file_name().map_or(0, |name| name.len());
    let paths = folder.map(|entry| entry.expect("the folder can be read").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| name_len(path) != 40).collect();
    paths.sort();
    paths
}

/// Every vector: its target, the name of its input, its bytes.
fn vectors() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut found = Vec::new();
    for (file, targets) in VECTORS {
        let text = std::fs::read_to_string(here(&format!("vectors/{file}.txt"))).expect("it is committed");
        let entries = text.split("\n\n").filter(|entry| entry.contains("\nhex "));
        for entry in entries {
            let lines = || entry.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            let hex: String = lines().filter_map(|line| line.strip_prefix("hex ")).collect();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let name = format!("{file}-{}", lines().next().expect("an entry has a name"));
            found.extend(targets.iter().map(|target| (*target, file_name(&name), bytes.clone())));
        }
    }
    for (target, name, bytes) in found.clone() {
        match (target, bytes.first()) {
            ("packet", Some(0x01)) => found.push(("hello", name, bytes)),
            // The packet number that is expected comes first.
            ("packet", Some(0x80..)) => found.push(("sealed", name, [&[0; 8][..], &bytes].concat())),
            // The operation comes first, and a holder is asked to store.
            ("arguments", Some(0x0b)) => found.push(("holder_store", name, bytes[1..].to_vec())),
            ("frames", Some(0x02 | 0x03)) => found.push(("ack", name, bytes[1..].to_vec())),
            _ => {}
        }
    }
    found
}

/// A vector's name as a file's; never 40 characters, which is libFuzzer's length.
fn file_name(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(letter).collect();
    let words: Vec<&str> = name.split('-').filter(|word| !word.is_empty()).collect();
    let name = words.join("-");
    if name.len() == 40 { name + "-" } else { name }
}

#[test]
fn every_committed_input_is_replayed() {
    let mut count = 0;
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        for path in inputs_of(name) {
            let input = std::fs::read(&path).expect("the input can be read");
            count += 1;
            if catch_unwind(|| target(&input)).is_err() {
                failed.push(path);
            }
        }
    }
    println!("{count} inputs of {} targets replayed", TARGETS.len());
    assert!(failed.is_empty(), "targets panicked on {failed:#?}");
}

#[test]
fn every_target_has_a_binary_and_inputs() {
    let manifest = std::fs::read_to_string(here("fuzz/Cargo.toml")).expect("it is committed");
    for (name, _) in TARGETS {
        assert!(inputs_of(name).len() > 1, "{name} has too few inputs");
        let binary = std::fs::read_to_string(here(&format!("fuzz/targets/{name}.rs"))).expect("it is there");
        assert!(binary.contains(&format!("dunlin_fuzz::{name}(input)")), "targets/{name}.rs calls another");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len(), "no binary is without its target here");
}

#[test]
fn every_golden_vector_is_a_seed() {
    for (target, name, bytes) in vectors() {
        let path = here("fuzz/corpus").join(target).join(&name);
        let committed = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(committed, bytes, "{}", path.display());
    }
}

/// A broken claim does not pass unseen: changed bytes, a message twice, one that was lost.
#[test]
fn the_records_notice_what_must_not_be() {
    stories::assert_records_notice();
}

#[test]
#[ignore = "writes tests/fuzz/corpus"]
fn the_seeds_are_written_anew() {
    for (target, name, bytes) in vectors().into_iter().chain(stories::generated()).chain(bodies::generated())
    {
        assert_ne!(name.len(), 40, "{name} has the length of libFuzzer's names");
        let folder = here("fuzz/corpus").join(target);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(folder.join(name), bytes).expect("the input can be written");
    }
}
