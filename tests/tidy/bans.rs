//! Names that a folder must not use, and the places of `unsafe`.
//!
//! Clippy forbids calls; this also sees imports and types, and says what to use instead.

use super::Finding;
use super::source::{Source, has_name};

/// A group of names that some folders must not use.
struct Ban {
    /// Folders or files, as starts of paths.
    under: &'static [&'static str],
    /// The files that may all the same.
    except: &'static [&'static str],
    names: &'static [&'static str],
    remedy: &'static str,
}

const CORE: &[&str] = &["codec/src/", "shards/src/"];

const BANS: &[Ban] = &[
    Ban {
        under: CORE,
        except: &[],
        names: &["std::time::Instant", "SystemTime", "UNIX_EPOCH", "Instant::now", "clock_gettime"],
        remedy: "take `now: Now` as an argument (style.md, rule 2)",
    },
    Ban {
        under: CORE,
        except: &[],
        names: &["getrandom", "OsRng", "thread_rng", "SystemRandom", "rand::random", "RandomState"],
        remedy: "take an `Entropy` or a seed as an argument (style.md, rule 2)",
    },
    Ban {
        under: CORE,
        except: &[],
        names: &["HashMap::new", "HashSet::new", "HashMap::with_capacity", "HashSet::with_capacity"],
        remedy: "give the map a seeded hasher (`with_hasher`) or use a BTreeMap: its order must not depend on the machine",
    },
    Ban {
        under: CORE,
        except: &[],
        names: &[
            "UdpSocket",
            "TcpStream",
            "TcpListener",
            "ToSocketAddrs",
            "std::thread",
            "thread::spawn",
            "std::fs",
        ],
        remedy: "move it to the engine: codec knows bytes and shards knows protocol, neither touches the machine",
    },
    Ban {
        under: CORE,
        except: &[],
        names: &["std::env", "std::process", "println!", "eprintln!", "std::os"],
        remedy: "move it to the engine: codec knows bytes and shards knows protocol, neither touches the machine",
    },
    Ban {
        under: &["shards/src/"],
        except: &[],
        names: &["f32", "f64"],
        remedy: "compute in integers: floating point may differ between machines",
    },
    Ban {
        under: &["engine/src/"],
        except: &["engine/src/clock.rs"],
        names: &["Instant::now", "SystemTime::now", "clock_gettime", "UNIX_EPOCH"],
        remedy: "ask engine/src/clock.rs, the one place that reads a clock",
    },
    Ban {
        under: &["engine/src/"],
        except: &["engine/src/entropy.rs"],
        names: &["getrandom", "OsRng", "thread_rng", "SystemRandom", "rand::random"],
        remedy: "ask engine/src/entropy.rs, the one place that reads the system's randomness",
    },
];

/// Forbidden names before the tests of one file, and floating-point literals under shards.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let path = source.path.as_str();
    for ban in BANS {
        if !ban.under.iter().any(|start| path.starts_with(start)) || ban.except.contains(&path) {
            continue;
        }
        for (number, line) in source.lines(false) {
            if let Some(name) = ban.names.iter().find(|name| has_name(line, name)) {
                findings.push(Finding::new(path, number, format!("`{name}` is forbidden here"), ban.remedy));
            }
        }
    }
    if path.starts_with("shards/src/") {
        let floats = source.lines(false).filter(|(_, line)| has_float_literal(line));
        findings.extend(floats.map(|(number, _)| {
            Finding::new(
                path,
                number,
                "a floating-point literal",
                "compute in integers: floating point may differ",
            )
        }));
    }
    findings
}

/// Digits, a point, digits; but not the places of a tuple (`pair.0.1`).
fn has_float_literal(line: &str) -> bool {
    let bytes = line.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    line.match_indices('.').any(|(point, _)| {
        if point == 0 || !digit(point - 1) || !digit(point + 1) {
            return false;
        }
        let is_number = |byte: &&u8| byte.is_ascii_digit() || **byte == b'_';
        let len = bytes[..point].iter().rev().take_while(is_number).count();
        let before = (point - len).checked_sub(1).map(|at| bytes[at]);
        !before.is_some_and(|byte| byte == b'.' || byte.is_ascii_alphabetic())
    })
}

const UNSAFE_FOLDERS: &[&str] = &["engine/src/socket/", "engine/bindings/"];

/// `unsafe` outside its folders. One file in tests may have it: the counting allocator.
pub(crate) fn check_unsafe(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut allocator: Option<&str> = None;
    for source in sources {
        let path = source.path.as_str();
        if UNSAFE_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let Some((number, _)) = source.lines(true).find(|(_, line)| has_name(line, "unsafe")) else {
            continue;
        };
        let counts = path.starts_with("tests/") && has_name(&source.code, "GlobalAlloc");
        if counts && allocator.is_none() {
            allocator = Some(path);
            continue;
        }
        let what =
            "`unsafe` outside engine/src/socket/, engine/bindings/ and the one counting allocator of tests/";
        findings.push(Finding::new(
            path,
            number,
            what,
            "look in rustix, socket2, io-uring or rtrb for a safe call",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_found(path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_clock_in_the_core_is_found() {
        let bad = "use std::time::Duration;\nuse std::time::Instant;\n// Instant::now is fine here\n";
        assert_eq!(lines_found("codec/src/x.rs", bad), [2]);
        assert_eq!(lines_found("shards/src/x.rs", "let t = SystemTime::now();\n"), [1]);
        assert_eq!(lines_found("engine/src/x.rs", "let t = Instant::now();\n"), [1]);
        assert_eq!(lines_found("engine/src/clock.rs", "let t = Instant::now();\n"), [0; 0]);
    }

    #[test]
    fn randomness_sockets_threads_and_unseeded_maps_are_found() {
        assert_eq!(
            lines_found("shards/src/x.rs", "getrandom::fill(&mut b);\nlet m = HashMap::new();\n"),
            [1, 2]
        );
        assert_eq!(
            lines_found("codec/src/x.rs", "use std::net::UdpSocket;\nuse std::net::SocketAddr;\n"),
            [1]
        );
        assert_eq!(lines_found("codec/src/x.rs", "std::thread::spawn(f);\n"), [1]);
        assert_eq!(lines_found("engine/src/x.rs", "getrandom::fill(&mut b);\n"), [1]);
        assert_eq!(lines_found("engine/src/entropy.rs", "getrandom::fill(&mut b);\n"), [0; 0]);
    }

    #[test]
    fn floating_point_is_found_in_shards_alone() {
        let bad = "let a: f64 = b;\nlet c = 0.7;\nlet d = pair.0.1;\nfor e in 0..10 {}\nlet f = \"0.5\";\n";
        assert_eq!(lines_found("shards/src/x.rs", bad), [1, 2]);
        assert_eq!(lines_found("engine/src/x.rs", bad), [0; 0]);
        assert_eq!(
            lines_found("shards/src/x.rs", "#[cfg(test)]\nmod tests {\nlet a: f64 = 0.5;\n}\n"),
            [0; 0]
        );
    }

    #[test]
    fn unsafe_outside_its_places_is_found() {
        let source = |path: &str, text: &str| Source::new(path, text);
        let findings = check_unsafe(&[
            source("codec/src/lib.rs", "#![forbid(unsafe_code)]\n// unsafe is forbidden\n"),
            source("engine/src/driver.rs", "fn a() {}\nunsafe { b() }\n"),
            source("engine/src/socket/uring.rs", "unsafe { b() }\n"),
            source("tests/sim/allocator.rs", "unsafe impl GlobalAlloc for Counting {}\n"),
            source("tests/live/second.rs", "unsafe impl GlobalAlloc for Another {}\n"),
        ]);
        let places: Vec<String> = findings.iter().map(|f| format!("{}:{}", f.path, f.line)).collect();
        assert_eq!(places, ["engine/src/driver.rs:2", "tests/live/second.rs:1"]);
    }
}
