//! The verbs of the protocol: facts come in by `handle_*` and `on_*`, actions go out by `poll_*`, bounds end in `_max`.

use super::Finding;
use super::source::Source;

/// One file of the protocol, before its tests; names of bounds are looked at everywhere.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let code: String = source.lines(false).map(|(_, line)| format!("{line}\n")).collect();
    if source.path.starts_with("shards/src/") {
        findings.extend(check_functions(&source.path, &code));
    }
    for (number, line) in source.lines(true) {
        if let Some(name) = declared_bound(line) {
            let remedy = "put it last: `latency_ms_max`, `LATENCY_MAX` (style.md, rule 5)";
            let what = format!("`{name}` does not end in its `max` or `min`");
            findings.push(Finding::new(&source.path, number, what, remedy));
        }
    }
    findings
}

fn check_functions(path: &str, code: &str) -> Vec<Finding> {
    let remedy =
        "facts in by handle_* or on_*, actions out by poll_*, questions by a noun or is_* (style.md, rule 3)";
    let functions = code.match_indices("pub fn ").filter_map(|(start, word)| {
        let rest = &code[start + word.len()..];
        let signature = &rest[..rest.find('{')?];
        let name = signature.split(['(', '<']).next()?;
        let result = signature.rsplit_once("->").map_or("", |(_, result)| result.trim());
        let what = if name.starts_with("handle_") && !result.is_empty() {
            format!("`{name}` gives out `{result}`")
        } else if name.starts_with("poll_") && !result.starts_with("Option<") {
            format!("`{name}` cannot say that there is nothing")
        } else if name.starts_with("is_") && !matches!(result, "bool" | "Choice" | "subtle::Choice") {
            format!("`{name}` does not answer yes or no")
        } else {
            return None;
        };
        Some(Finding::new(path, code[..start].matches('\n').count() + 1, what, remedy))
    });
    functions.collect()
}

/// The name of a constant or field that has `max` or `min` before a unit or at its front.
fn declared_bound(line: &str) -> Option<&str> {
    let trimmed = line.trim_start();
    let name = match trimmed.split_once("const ") {
        Some((_, rest)) if line.contains(':') => rest,
        _ => trimmed.strip_prefix("pub ").or_else(|| trimmed.split_once(") ").map(|(_, rest)| rest))?,
    };
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    let (name, rest) = name.split_at(end);
    if !rest.trim_start().starts_with(':') {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> = lower.split('_').collect();
    let at_front = words.len() > 1 && matches!(words[0], "max" | "min");
    let before_unit = words.windows(2).any(|pair| {
        matches!(pair[0], "max" | "min")
            && matches!(pair[1], "len" | "count" | "ns" | "us" | "ms" | "secs" | "bytes")
    });
    (at_front || before_unit).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_found(path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_function_that_does_not_do_what_its_verb_says_is_found() {
        let bad = "pub fn handle_datagram(&mut self) -> Result<(), E> {\n}\npub fn poll_event(&mut self) -> Event {}\n\
            pub fn is_open(&self) -> u8 {}\n";
        assert_eq!(lines_found("shards/src/x.rs", bad), [1, 3, 4]);
        assert_eq!(lines_found("engine/src/x.rs", bad), [0; 0]);
        let good = "pub fn handle_mail(&mut self) {}\npub fn poll_mail<T>(\n    a: T,\n) -> Option<Mail> {}\n\
            pub fn is_quiet(&self) -> bool {}\npub fn on_ack(&mut self) -> u8 {}\n";
        assert_eq!(lines_found("shards/src/x.rs", good), [0; 0]);
    }

    #[test]
    fn a_bound_that_does_not_end_in_max_is_found() {
        let bad = "const MAX_LEN: usize = 1;\npub const LATENCY_MAX_MS: u64 = 1;\n    pub max_peers: u8,\n\
            pub(crate) min_len: u8,\n";
        assert_eq!(lines_found("loadgen/src/x.rs", bad), [1, 2, 3, 4]);
        let good = "const LEN_MAX: usize = u64::MAX;\npub const LATENCY_MS_MAX: u64 = 1;\nlet max = 1;\npub max: u8,\n";
        assert_eq!(lines_found("loadgen/src/x.rs", good), [0; 0]);
    }
}
