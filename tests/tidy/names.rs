//! Names that say nothing: `util`, `common`, `manager`, `helper`, `data`, `info` in files, modules, types, functions, constants.

use super::Finding;
use super::source::Source;

const EMPTY: [&str; 10] =
    ["util", "utils", "common", "manager", "managers", "helper", "helpers", "data", "info", "infos"];

/// The field's own terms that hold such a word; the last is the system's, which other people's traits ask for.
const STANDARD_TERMS: [&str; 4] = ["EarlyData", "early_data", "EARLY_DATA", "sync_data"];

const REMEDY: &str = "name it after what it holds or does (style.md, rule 12)";

/// Empty names of this file and of what it declares.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for part in source.path.trim_end_matches(".rs").split('/').filter(|part| is_empty_name(part)) {
        findings.push(Finding::new(&source.path, 0, format!("`{part}` says nothing"), REMEDY));
    }
    for (number, line) in source.lines(true) {
        if let Some(name) = declared(line).filter(|name| is_empty_name(name)) {
            findings.push(Finding::new(&source.path, number, format!("`{name}` says nothing"), REMEDY));
        }
    }
    findings
}

/// The module, type, function or constant that a line declares.
fn declared(line: &str) -> Option<&str> {
    let is_before = |word: &&str| word.starts_with("pub") || matches!(*word, "unsafe" | "async");
    let mut words = line.split_whitespace().skip_while(is_before);
    let mut kind = words.next()?;
    if kind == "const" {
        let next = words.clone().next()?;
        kind = if next == "fn" { words.next()? } else { kind };
    }
    if !matches!(kind, "mod" | "struct" | "enum" | "trait" | "type" | "union" | "fn" | "const" | "static") {
        return None;
    }
    words.next()?.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

fn is_empty_name(name: &str) -> bool {
    let mut rest = name.to_owned();
    for term in STANDARD_TERMS {
        rest = rest.replace(term, "");
    }
    words(&rest).iter().any(|word| EMPTY.contains(&word.as_str()))
}

/// The words of a snake_case or CamelCase name, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for letter in name.chars() {
        if letter == '_' || letter == '-' || (letter.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        after_lower = letter.is_lowercase() || letter.is_ascii_digit();
        if letter.is_alphanumeric() {
            words.last_mut().expect("there is always a word").extend(letter.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_found() {
        let bad = "pub(crate) struct PeerInfo;\nmod helpers;\nenum Data { A }\nstruct Metadata;\nstruct EarlyData;\n";
        let findings = check(&Source::new("engine/src/session_manager.rs", bad));
        let lines: Vec<usize> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [0, 1, 2, 3]);
        let bad = "pub const fn peer_info() {}\nasync fn a_helper() {}\nstatic COMMON_KEY: u8 = 1;\nconst INFO: u8 = 1;\nfn informed() {}\nconst fn early_data() {}\n";
        let found = check(&Source::new("engine/src/x.rs", bad));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(check(&Source::new("engine/src/utils/mod.rs", ""))[0].what.contains("utils"));
        assert!(check(&Source::new("engine/src/informer.rs", "struct Utility;\nlet data = 1;\n")).is_empty());
    }
}
