//! Other people's crates: where they come from, how old they may be, their licences, how many they are (T29).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Finding;
use super::licences::is_accepted;

const LOCK: &str = "Cargo.lock";
const CRATES_MAX: usize = 220;
const REGISTRY: &str = "registry+";

/// The oldest version of a crate that has no known fault, from the advisory database; one per line of versions.
const FLOORS: [(&str, &[&str]); 19] = [
    ("aes-gcm", &["0.10.3"]),
    ("bytes", &["1.11.1"]),
    ("bzip2", &["0.4.4"]),
    ("crossbeam-channel", &["0.5.15"]),
    ("crossbeam-deque", &["0.8.1"]),
    ("crossbeam-epoch", &["0.9.20"]),
    ("crossbeam-utils", &["0.8.7"]),
    ("curve25519-dalek", &["4.1.3"]),
    ("ed25519-dalek", &["2.0.0"]),
    ("lru", &["0.18.2"]),
    ("memmap2", &["0.9.11"]),
    ("mimalloc", &["0.1.39"]),
    ("rand", &["0.8.6", "0.9.3", "0.10.1"]),
    ("rmp-serde", &["1.1.1"]),
    ("rmpv", &["0.4.2"]),
    ("sha2", &["0.9.8"]),
    ("snow", &["0.9.5"]),
    ("socket2", &["0.3.16"]),
    ("zlib-rs", &["0.4.0"]),
];

/// Two versions of one of these would be two implementations to trust.
const CRYPTO: [&str; 28] = [
    "aead",
    "aes",
    "aes-gcm",
    "aws-lc-rs",
    "aws-lc-sys",
    "blake2",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "crypto-common",
    "curve25519-dalek",
    "digest",
    "ed25519",
    "ed25519-dalek",
    "ghash",
    "hkdf",
    "hmac",
    "poly1305",
    "polyval",
    "ring",
    "sha1",
    "sha2",
    "signature",
    "snow",
    "subtle",
    "universal-hash",
    "x25519-dalek",
    "zeroize",
];

/// A crate in the lock file.
struct Locked {
    line: usize,
    name: String,
    version: String,
    source: Option<String>,
}

/// Sources, floors and doubles in Cargo.lock.
pub(crate) fn check_lock(root: &Path) -> Vec<Finding> {
    let text = std::fs::read_to_string(root.join(LOCK)).unwrap_or_default();
    assert!(!text.is_empty(), "Cargo.lock is committed");
    check_lock_text(&text)
}

fn check_lock_text(text: &str) -> Vec<Finding> {
    let crates = locked(text);
    let mut findings = Vec::new();
    for one in &crates {
        if one.source.as_deref().is_some_and(|source| !source.starts_with(REGISTRY)) {
            let what = format!("{} comes from {}", one.name, one.source.as_deref().unwrap_or_default());
            findings.push(Finding::new(LOCK, one.line, what, "take it from the registry"));
        }
        if let Some(floor) = missed_floor(one) {
            let what =
                format!("{} {} is older than {floor}, which mends a known fault", one.name, one.version);
            findings.push(Finding::new(LOCK, one.line, what, format!("cargo update -p {}", one.name)));
        }
    }
    let mut seen: BTreeMap<&str, &Locked> = BTreeMap::new();
    for one in crates.iter().filter(|one| CRYPTO.contains(&one.name.as_str())) {
        if let Some(first) = seen.insert(&one.name, one) {
            let what = format!("two versions of {}: {} and {}", one.name, first.version, one.version);
            let remedy = format!("bring their users to one version (`cargo tree -i {}`)", one.name);
            findings.push(Finding::new(LOCK, one.line, what, remedy));
        }
    }
    findings
}

fn locked(text: &str) -> Vec<Locked> {
    let field =
        |line: &str, key: &str| Some(line.strip_prefix(key)?.trim_matches([' ', '=', '"']).to_owned());
    let mut crates: Vec<Locked> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(name) = field(line, "name = ") {
            crates.push(Locked { line: index + 1, name, version: String::new(), source: None });
        } else if let Some(last) = crates.last_mut() {
            if let Some(version) = field(line, "version = ") {
                last.version = version;
            } else if let Some(source) = field(line, "source = ") {
                last.source = Some(source);
            }
        }
    }
    crates
}

/// The floor that a crate misses: that of its own line of versions, or the lowest when it is older than all lines.
fn missed_floor(one: &Locked) -> Option<&'static str> {
    let (_, floors) = FLOORS.iter().find(|(name, _)| *name == one.name)?;
    let version = numbers(&one.version);
    let own_line = floors.iter().find(|floor| line_of(&numbers(floor)) == line_of(&version));
    let floor = own_line.or_else(|| floors.first().filter(|floor| version < numbers(floor)))?;
    (version < numbers(floor)).then_some(*floor)
}

fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split(['+', '-']).next().unwrap_or(version);
    plain.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// What has to be equal for two versions to be compatible: the first number that is not zero, and those before.
fn line_of(version: &[u64]) -> &[u64] {
    let zeros = version.iter().take_while(|number| **number == 0).count();
    &version[..(zeros + 1).min(version.len())]
}

/// Licences of all crates, and the number of crates in the default build.
pub(crate) fn check_metadata(root: &Path) -> Vec<Finding> {
    let metadata = metadata(root);
    let mut findings: Vec<Finding> = list(&metadata["packages"])
        .iter()
        .filter(|package| !is_accepted(package["license"].as_str().unwrap_or_default()))
        .map(|package| {
            let what = format!("{} has the licence {}", package["name"], package["license"]);
            Finding::new(LOCK, 0, what, "use another crate, or discuss the list in tests/tidy/licences.rs")
        })
        .collect();
    let count = default_build(&metadata).len();
    println!("crates in the default build: {count} (at most {CRATES_MAX})");
    if count > CRATES_MAX {
        let what = format!("{count} crates in the default build, {CRATES_MAX} is the limit");
        findings.push(Finding::new(
            LOCK,
            0,
            what,
            "do without one (`cargo tree -e no-dev` shows who brings what)",
        ));
    }
    findings
}

fn metadata(root: &Path) -> Value {
    let run = |network: &[&str]| {
        Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
                "x86_64-unknown-linux-gnu",
            ])
            .args(network)
            .current_dir(root)
            .output()
            .expect("cargo runs: it is running this test")
    };
    let mut output = run(&["--offline"]);
    if !output.status.success() {
        output = run(&[]);
    }
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The ids of all packages that `cargo build` compiles, ours and those that build scripts need included.
fn default_build(metadata: &Value) -> BTreeSet<&str> {
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> =
        list(&metadata["workspace_default_members"]).iter().filter_map(Value::as_str).collect();
    while let Some(id) = open.pop() {
        if !found.insert(id) {
            continue;
        }
        for dependency in list(&nodes[id]["deps"]) {
            let kinds = list(&dependency["dep_kinds"]);
            if kinds.iter().any(|kind| kind["kind"] != "dev") {
                open.extend(dependency["pkg"].as_str());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(crates: &[(&str, &str, &str)]) -> String {
        let entry = |(name, version, source): &(&str, &str, &str)| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n\n")
        };
        crates.iter().map(entry).collect()
    }

    #[test]
    fn foreign_sources_old_versions_and_doubles_are_found() {
        let text = lock(&[
            ("alpha", "1.0.0", "git+https://example.org/alpha"),
            ("crossbeam-channel", "0.5.14", REGISTRY),
            ("sha2", "0.10.8", REGISTRY),
            ("sha2", "0.11.0", REGISTRY),
            ("syn", "1.0.0", REGISTRY),
            ("syn", "2.0.0", REGISTRY),
        ]);
        let what: Vec<String> = check_lock_text(&text).into_iter().map(|finding| finding.what).collect();
        assert_eq!(
            what,
            [
                "alpha comes from git+https://example.org/alpha",
                "crossbeam-channel 0.5.14 is older than 0.5.15, which mends a known fault",
                "two versions of sha2: 0.10.8 and 0.11.0"
            ]
        );
    }

    #[test]
    fn each_line_of_versions_has_its_floor() {
        let old = |version: &str| {
            missed_floor(&Locked { line: 1, name: "rand".into(), version: version.into(), source: None })
        };
        assert_eq!(old("0.7.3"), Some("0.8.6"));
        assert_eq!(old("0.8.5"), Some("0.8.6"));
        assert_eq!(old("0.9.2"), Some("0.9.3"));
        assert_eq!(old("0.9.10"), None);
        assert_eq!(old("0.10.1"), None);
        assert_eq!(old("1.0.0"), None);
    }

    #[test]
    fn test_crates_are_not_counted() {
        let metadata = serde_json::json!({
            "workspace_default_members": ["a"],
            "resolve": { "nodes": [
                { "id": "a", "deps": [
                    { "pkg": "b", "dep_kinds": [{ "kind": null }, { "kind": "dev" }] },
                    { "pkg": "c", "dep_kinds": [{ "kind": "dev" }] },
                    { "pkg": "d", "dep_kinds": [{ "kind": "build" }] } ] },
                { "id": "b", "deps": [] }, { "id": "c", "deps": [] }, { "id": "d", "deps": [] } ] }
        });
        assert_eq!(default_build(&metadata).into_iter().collect::<Vec<_>>(), ["a", "b", "d"]);
    }
}
