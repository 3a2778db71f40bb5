//! Module headers: every file says first what it is; what goes in, what comes out and what holds stand in that order.

use super::Finding;
use super::source::Source;

const LABELS: [&str; 3] = ["In:", "Out:", "Holds:"];

/// One file's header: the lines before the first that is no `//!`.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    // The two slashes are blanked as code's.
    let header: Vec<&str> = source.comments.lines().map_while(|line| line.strip_prefix("  !")).collect();
    if header.first().is_none_or(|line| line.trim().is_empty()) {
        let remedy = "begin with `//!` and say what the module is (style.md, rule 11)";
        return vec![Finding::new(&source.path, 1, "has no module header", remedy)];
    }
    let label = |line: &&str| LABELS.iter().position(|label| line.trim_start().starts_with(label));
    let found: Vec<(usize, usize)> =
        header.iter().enumerate().filter_map(|(index, line)| Some((index + 1, label(line)?))).collect();
    found
        .windows(2)
        .filter(|pair| pair[0].1 >= pair[1].1)
        .map(|pair| {
            let what = format!("`{}` stands behind `{}`", LABELS[pair[1].1], LABELS[pair[0].1]);
            Finding::new(&source.path, pair[1].0, what, "In, Out, Holds, in that order and each once")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_disordered_header_is_found() {
        let lines = |text: &str| -> Vec<usize> {
            check(&Source::new("codec/src/x.rs", text)).iter().map(|finding| finding.line).collect()
        };
        assert_eq!(lines("use core::fmt;\n"), [1]);
        assert_eq!(lines("//!\n//! Late.\n"), [1]);
        assert_eq!(lines("// Plain.\nfn a() {}\n"), [1]);
        assert_eq!(lines("//! A thing.\n//!\n//! Out:   b.\n//! In:    a.\n"), [4]);
        assert_eq!(lines("//! A thing.\n//! In:    a.\n//! In:    b.\n"), [3]);
        assert_eq!(
            lines("//! A thing.\n//!\n//! In:    a.\n//! Out:   b.\n//! Holds: c.\nfn d() {}\n"),
            [0; 0]
        );
        assert_eq!(lines("//! A thing.\n//! Holds: c.\n"), [0; 0]);
    }
}
