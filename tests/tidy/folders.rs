//! How long files are, what lies in the root folder, and that the three clippy files agree.

use std::path::Path;

use super::Finding;
use super::source::Source;

const LINES_MAX: usize = 600;

/// A file's length before its tests; a test file's whole length.
pub(crate) fn check_length(source: &Source) -> Vec<Finding> {
    let len = match source.tests_from {
        0 => source.code.lines().count(),
        before_tests => before_tests,
    };
    if len <= LINES_MAX {
        return Vec::new();
    }
    let what = format!("{len} lines before the tests, {LINES_MAX} is the limit");
    vec![Finding::new(&source.path, LINES_MAX + 1, what, "split it where one thing ends (aim for 300)")]
}

const IN_ROOT: [&str; 12] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "bench",
    "codec",
    "engine",
    "loadgen",
    "packaging",
    "shards",
    "tests",
];

/// What lies in the root folder and should not.
pub(crate) fn check_root(root: &Path) -> Vec<Finding> {
    let ignored = std::fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let names = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    check_names(&names, &ignored)
}

fn check_names(names: &[String], ignored: &str) -> Vec<Finding> {
    names
        .iter()
        .filter(|name| {
            !IN_ROOT.contains(&name.as_str()) && !name.starts_with('.') && !is_ignored(name, ignored)
        })
        .map(|name| {
            Finding::new(name, 0, "does not belong in the root folder", "put it into the folder it is about")
        })
        .collect()
}

/// Whether one of .gitignore's simple patterns (`/name`, `name*`, `*.ending`) means this name.
fn is_ignored(name: &str, ignored: &str) -> bool {
    ignored.lines().map(|line| line.trim().trim_start_matches('/')).filter(|line| !line.is_empty()).any(
        |pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(ending), _) => name.ends_with(ending),
            (_, Some(start)) => name.starts_with(start),
            _ => name == pattern,
        },
    )
}

/// The clippy files of codec and shards hold the root's lines and forbid clocks and randomness.
pub(crate) fn check_clippy(root: &Path) -> Vec<Finding> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let model = read(".clippy.toml");
    ["codec/.clippy.toml", "shards/.clippy.toml"]
        .iter()
        .flat_map(|path| check_clippy_text(path, &read(path), &model))
        .collect()
}

fn check_clippy_text(path: &str, text: &str, model: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = model
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .filter(|line| !text.lines().any(|own| own == *line))
        .map(|line| {
            let remedy = "repeat it: a nearer clippy file replaces the root's, it does not add to it";
            Finding::new(path, 0, format!("lacks the root's line `{line}`"), remedy)
        })
        .collect();
    for method in ["std::time::Instant::now", "std::time::SystemTime::now", "getrandom::fill"] {
        if !text.contains(&format!("\"{method}\"")) {
            let what = format!("does not forbid `{method}`");
            findings.push(Finding::new(path, 0, what, "add it to disallowed-methods"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found() {
        let long = "let a = 1;\n".repeat(LINES_MAX + 1);
        assert_eq!(check_length(&Source::new("engine/src/a.rs", &long)).len(), 1);
        assert_eq!(check_length(&Source::new("tests/live/a.rs", &long)).len(), 1);
        let with_tests = format!("let a = 1;\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(check_length(&Source::new("engine/src/a.rs", &with_tests)).is_empty());
    }

    #[test]
    fn strangers_in_the_root_folder_are_found() {
        let names = ["codec", "docs", ".ci", "target", "perf.data.old", "a.profraw"].map(str::to_owned);
        let findings = check_names(&names, "/target\nperf.data*\n*.profraw\n");
        assert_eq!(findings.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["docs"]);
    }

    #[test]
    fn a_clippy_file_that_forgets_is_found() {
        let findings = check_clippy_text("codec/.clippy.toml", "too-many = 8\n", "too-many = 7\n");
        assert_eq!(findings.len(), 4);
        assert!(findings[0].what.contains("too-many = 7"));
    }
}
