//! The README: short, and every path that it names exists.

use std::path::Path;

use super::Finding;

const LINES_MAX: usize = 150;
const README: &str = "README.md";

/// The repository's README.
pub(crate) fn check_file(root: &Path) -> Vec<Finding> {
    let text = std::fs::read_to_string(root.join(README)).unwrap_or_default();
    check(&text, |path| root.join(path).exists())
}

fn check(text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if text.is_empty() {
        findings.push(Finding::new(README, 0, "is missing or empty", "write it"));
    }
    if text.lines().count() > LINES_MAX {
        let what = format!("{} lines, {LINES_MAX} is the limit", text.lines().count());
        findings.push(Finding::new(README, LINES_MAX + 1, what, "say it beside the code and point there"));
    }
    for (index, line) in text.lines().enumerate() {
        for path in paths_of(line).into_iter().filter(|path| !exists(path)) {
            let what = format!("names `{path}`, which does not exist");
            findings.push(Finding::new(
                README,
                index + 1,
                what,
                "name what exists, from the repository's root",
            ));
        }
    }
    findings
}

/// The targets of links that are no addresses, and the spans between backticks that look like a path of ours.
fn paths_of(line: &str) -> Vec<&str> {
    let links = line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split(')').next());
    let links = links.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let spans = line.split('`').skip(1).step_by(2).filter(|span| is_path(span));
    links
        .chain(spans)
        .map(|path| path.split('#').next().unwrap_or(path))
        .filter(|path| !path.is_empty())
        .collect()
}

fn is_path(span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    let ending = [".rs", ".md", ".toml", ".lock", ".sh"].iter().any(|ending| span.ends_with(ending));
    let own = span.contains('/') && !span.starts_with('/') && !span.contains("//");
    plain && (ending || own) && span.chars().any(|c| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_is_found() {
        let text = "See `codec/src` and [that](engine/gone.rs#l1), `/etc/x`, `cargo run`,\n`tests/lost.rs`, https://a.b/c [x](https://a/b).\n";
        let findings = check(text, |path| path == "codec/src");
        let places: Vec<(usize, &str)> = findings.iter().map(|f| (f.line, f.what.as_str())).collect();
        assert_eq!(
            places,
            [
                (1, "names `engine/gone.rs`, which does not exist"),
                (2, "names `tests/lost.rs`, which does not exist")
            ]
        );
    }

    #[test]
    fn a_long_readme_is_found() {
        assert_eq!(check(&"line\n".repeat(LINES_MAX + 1), |_| true).len(), 1);
        assert_eq!(check("", |_| true).len(), 1);
    }
}
