//! What is left unfinished: `todo!`, `unimplemented!`, `dbg!`, and the comments that promise to mend it later.

use super::Finding;
use super::source::{Source, has_name};

const MACROS: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];
const NOTES: [&str; 2] = ["FIXME", "XXX"];

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
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_code_is_found() {
        let bad = "fn a() { todo!() }\nlet b = dbg!(c);\n// FIXME later\nlet d = \"todo!\"; // todo\n";
        let lines: Vec<usize> =
            check(&Source::new("codec/src/x.rs", bad)).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1, 2, 3]);
    }
}
