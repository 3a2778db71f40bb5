//! The lints that style.md lists, in the workspace's table and in those that replace it; cargo's short commands.

use std::path::Path;

use toml::Table;

use super::Finding;

const ROOT: &str = "Cargo.toml";
const CARGO_CONFIG: &str = ".cargo/config.toml";
const RUST_LINTS: [&str; 2] = ["missing_docs", "unreachable_pub"];
const CLIPPY_LINTS: [&str; 7] = [
    "undocumented_unsafe_blocks",
    "too_many_lines",
    "unwrap_used",
    "too_many_arguments",
    "disallowed_methods",
    "allow_attributes",
    "allow_attributes_without_reason",
];
/// What the packages that only test and measure may leave out.
const LENIENT: [&str; 2] = ["unwrap_used", "disallowed_methods"];
const STRICT_PACKAGES: [&str; 4] = ["codec", "shards", "engine", "loadgen"];
const LENIENT_PACKAGES: [&str; 2] = ["tests", "bench"];
/// What the root's clippy file says.
const CLIPPY_LINES: [&str; 3] =
    ["too-many-lines-threshold = 70", "too-many-arguments-threshold = 5", "allow-unwrap-in-tests = true"];
/// Cargo's short commands that style.md names and that exist so far.
const ALIASES: [&str; 6] = ["live", "tidy", "node", "load", "sim", "planted"];
/// The feature that plants bugs, and the one package, command and manifest that may turn it on.
const PLANTED: &str = "mutants";
const PLANTED_BY: &str = "tests/Cargo.toml";
const PLANTED_ALIAS: &str = "planted";
/// Where `#![…(unsafe_code)]` stands, and how strongly.
const UNSAFE_LEVELS: [(&str, &str); 3] = [
    ("codec/src/lib.rs", "#![forbid(unsafe_code)]"),
    ("shards/src/lib.rs", "#![forbid(unsafe_code)]"),
    ("engine/src/lib.rs", "#![deny(unsafe_code)]"),
];

/// The repository's own files.
pub(crate) fn check_files(root: &Path) -> Vec<Finding> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut findings = check_lines(".clippy.toml", &read(".clippy.toml"), &CLIPPY_LINES);
    for (path, line) in UNSAFE_LEVELS {
        findings.extend(check_lines(path, &read(path), &[line]));
    }
    findings.extend(check_table(ROOT, &read(ROOT), "workspace.lints", &[]));
    for package in STRICT_PACKAGES {
        let path = format!("{package}/Cargo.toml");
        findings.extend(check_lines(&path, &read(&path), &["[lints]", "workspace = true"]));
    }
    for package in LENIENT_PACKAGES {
        let path = format!("{package}/Cargo.toml");
        findings.extend(check_table(&path, &read(&path), "lints", &LENIENT));
    }
    findings.extend(check_aliases(&read(CARGO_CONFIG)));
    for package in STRICT_PACKAGES.iter().chain(&LENIENT_PACKAGES) {
        let path = format!("{package}/Cargo.toml");
        findings.extend(check_planted(&path, &read(&path)));
    }
    findings.extend(check_commands(CARGO_CONFIG, &read(CARGO_CONFIG)));
    findings.extend(check_commands(".ci/run", &read(".ci/run")));
    findings
}

/// No package has the planted bugs by default or asks another for them, but for the one whose command they are.
fn check_planted(path: &str, text: &str) -> Vec<Finding> {
    let parsed: Table = text.parse().unwrap_or_default();
    let remedy = "planted bugs belong to `cargo planted` alone (shards/src/mutants.rs)";
    let mut findings = Vec::new();
    let features = parsed.get("features").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    for (name, turned_on) in &features {
        let is_on = turned_on.to_string().contains(PLANTED);
        if is_on && !(path == PLANTED_BY && name == PLANTED) {
            findings.push(Finding::new(path, 0, format!("feature `{name}` turns on `{PLANTED}`"), remedy));
        }
    }
    let dependencies = parsed.iter().filter(|(name, _)| name.ends_with("dependencies"));
    if dependencies.into_iter().any(|(_, value)| value.to_string().contains(&format!("\"{PLANTED}\""))) {
        findings.push(Finding::new(path, 0, format!("a dependency is asked for `{PLANTED}`"), remedy));
    }
    findings
}

/// No command turns all features on, or the planted bugs, but for the one.
fn check_commands(path: &str, text: &str) -> Vec<Finding> {
    let is_planting = |line: &str| {
        line.contains("--all-features")
            || line.contains(&format!("--features {PLANTED}")) && !line.starts_with(PLANTED_ALIAS)
    };
    let lines = text.lines().enumerate().filter(|(_, line)| is_planting(line));
    let remedy = "name the features that are wanted: planted bugs are one";
    lines.map(|(at, _)| Finding::new(path, at + 1, "turns the planted bugs on", remedy)).collect()
}

fn check_lines(path: &str, text: &str, wanted: &[&str]) -> Vec<Finding> {
    let missing = wanted.iter().filter(|line| !text.lines().any(|own| own.trim() == **line));
    missing
        .map(|line| {
            Finding::new(path, 0, format!("lacks the line `{line}`"), "put it there (style.md, Habits)")
        })
        .collect()
}

/// A table of lints has all that style.md lists, but for those that it may leave out, and none set to `allow`.
fn check_table(path: &str, text: &str, table: &str, left_out: &[&str]) -> Vec<Finding> {
    let parsed: Table = text.parse().unwrap_or_default();
    let step =
        |table: Table, key: &str| table.get(key).and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let lints = table.split('.').fold(parsed, step);
    let groups = [("rust", &RUST_LINTS[..]), ("clippy", &CLIPPY_LINTS[..])];
    let mut findings = Vec::new();
    for (group, names) in groups {
        let own = step(lints.clone(), group);
        for name in names.iter().filter(|name| !left_out.contains(name)) {
            let level = own.get(*name).and_then(toml::Value::as_str).unwrap_or("allow");
            if !matches!(level, "warn" | "deny" | "forbid") {
                let what = format!("[{table}.{group}] does not warn of `{name}`");
                findings.push(Finding::new(path, 0, what, "add `NAME = \"warn\"` (style.md, Habits)"));
            }
        }
    }
    findings
}

fn check_aliases(text: &str) -> Vec<Finding> {
    let parsed: Table = text.parse().unwrap_or_default();
    let aliases = parsed.get("alias").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let missing = ALIASES.iter().filter(|alias| !aliases.contains_key(**alias));
    missing
        .map(|alias| Finding::new(CARGO_CONFIG, 0, format!("`cargo {alias}` is missing"), "add its alias"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lint_that_is_missing_or_silenced_is_found() {
        let text = "[lints.rust]\nmissing_docs = \"warn\"\nunreachable_pub = \"allow\"\n[lints.clippy]\n\
            undocumented_unsafe_blocks = \"warn\"\ntoo_many_lines = \"warn\"\ntoo_many_arguments = \"deny\"\n\
            allow_attributes = \"warn\"\n";
        let what =
            |findings: Vec<Finding>| findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>();
        assert_eq!(
            what(check_table("tests/Cargo.toml", text, "lints", &LENIENT)),
            [
                "[lints.rust] does not warn of `unreachable_pub`",
                "[lints.clippy] does not warn of `allow_attributes_without_reason`"
            ]
        );
        assert_eq!(check_table(ROOT, text, "lints", &[]).len(), 4);
        assert_eq!(
            check_table(ROOT, "", "workspace.lints", &[]).len(),
            RUST_LINTS.len() + CLIPPY_LINTS.len()
        );
    }

    #[test]
    fn a_missing_line_or_command_is_found() {
        assert_eq!(check_lines(".clippy.toml", "too-many-lines-threshold = 71\n", &CLIPPY_LINES).len(), 3);
        assert!(check_lines("x", "  a = 1 \n", &["a = 1"]).is_empty());
        let text =
            "[alias]\nlive = \"test\"\ntidy = \"test\"\nload = \"run\"\nsim = \"run\"\nplanted = \"run\"\n";
        assert_eq!(check_aliases(text)[0].what, "`cargo node` is missing");
        assert_eq!(check_aliases("").len(), ALIASES.len());
    }

    #[test]
    fn planted_bugs_that_could_leak_are_found() {
        let own = "[features]\nmutants = [\"dunlin-shards/mutants\"]\n";
        assert!(check_planted(PLANTED_BY, own).is_empty());
        assert!(check_planted("shards/Cargo.toml", "[features]\nmutants = []\n").is_empty());
        assert_eq!(check_planted("engine/Cargo.toml", own).len(), 1);
        assert_eq!(check_planted("shards/Cargo.toml", "[features]\ndefault = [\"mutants\"]\n").len(), 1);
        let asked = "[dependencies]\ndunlin-shards = { workspace = true, features = [\"mutants\"] }\n";
        assert_eq!(check_planted("bench/Cargo.toml", asked).len(), 1);
        assert_eq!(check_commands("x", "a\nb --all-features\nsim = \"run --features mutants\"\n").len(), 2);
        assert!(check_commands("x", "planted = \"run --features mutants --bin mutants --\"\n").is_empty());
    }
}
