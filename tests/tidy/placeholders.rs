//! What is left behind: `todo!`, `unimplemented!`, `dbg!`, comments that promise to mend it later, files of editors and merges.

use std::path::Path;

use super::Finding;
use super::source::{Source, has_name};

const MACROS: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];
const NOTES: [&str; 4] = ["FIXME", "HACK", "TODO", "XXX"];
/// What editors, patches and merges leave lying about.
const LEFT_FILES: [&str; 7] = [".bak", ".orig", ".rej", ".rs.bk", ".swp", "~", ".tmp"];
/// Folders that are built, not written.
const BUILT: [&str; 4] = ["target", ".git", "artifacts", "coverage"];
/// How a merge marks what it could not join, at the start of a line.
const MERGE_MARKS: [&str; 2] = ["<<<<<<< ", ">>>>>>> "];

/// Unfinished code in one file, its tests included.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, (code, comment)) in source.code.lines().zip(source.comments.lines()).enumerate() {
        if let Some(name) = MACROS.iter().find(|name| has_name(code, name)) {
            findings.push(Finding::new(
                &source.path,
                number + 1,
                format!("`{name}` is left"),
                "finish it or take it out",
            ));
        }
        if let Some(name) = NOTES.iter().find(|name| has_name(comment, name)) {
            let remedy = "do it, or file it where work is planned";
            findings.push(Finding::new(&source.path, number + 1, format!("a note `{name}` is left"), remedy));
        }
        if code.contains("#[ignore]") {
            let remedy = "say in it when to run it: `#[ignore = \"…\"]`";
            findings.push(Finding::new(
                &source.path,
                number + 1,
                "a test is ignored without a reason",
                remedy,
            ));
        }
    }
    findings
}

/// Files that nobody meant to keep, and texts that a merge left half done.
pub(crate) fn check_files(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    visit(root, root, &mut findings);
    findings
}

fn visit(root: &Path, folder: &Path, findings: &mut Vec<Finding>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if !BUILT.contains(&name.as_str()) {
                visit(root, &path, findings);
            }
            continue;
        }
        let shown = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        // What is not text, as an input of a fuzz target may be, has no lines.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        findings.extend(check_file(&shown, &text));
    }
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if LEFT_FILES.iter().any(|ending| path.ends_with(ending)) {
        findings.push(Finding::new(path, 0, "was left lying about", "remove it"));
    }
    let marks =
        text.lines().enumerate().filter(|(_, line)| MERGE_MARKS.iter().any(|mark| line.starts_with(mark)));
    findings.extend(marks.map(|(index, _)| {
        Finding::new(path, index + 1, "a merge was left half done", "decide which lines stay")
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_code_is_found() {
        let bad = "fn a() { todo!() }\nlet b = dbg!(c);\n// FIXME later\nlet d = \"todo!\"; // todo\n// TODO: e\n#[ignore]\n#[ignore = \"slow\"]\n";
        let lines: Vec<usize> =
            check(&Source::new("codec/src/x.rs", bad)).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1, 2, 3, 5, 6]);
    }

    #[test]
    fn what_editors_and_merges_leave_is_found() {
        assert_eq!(check_file("engine/src/a.rs.orig", "").len(), 1);
        assert_eq!(check_file("README.md~", "").len(), 1);
        assert!(check_file("engine/src/origin.rs", "a << b\n").is_empty());
        let merged = format!("a\n{}HEAD\nb\n=======\nc\n{}other\n", MERGE_MARKS[0], MERGE_MARKS[1]);
        let lines: Vec<usize> =
            check_file("Cargo.toml", &merged).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 6]);
    }
}
