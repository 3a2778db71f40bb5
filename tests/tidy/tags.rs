//! Specification tags: each stands on code that exists because of it and on a test that proves it.

use std::collections::BTreeMap;

use super::Finding;
use super::source::Source;

const FOLDERS: [&str; 4] = ["codec/", "shards/", "engine/", "tests/"];

/// Tags that stand on code alone or on tests alone.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut on_code = BTreeMap::new();
    let mut on_tests = BTreeMap::new();
    for source in
        sources.iter().filter(|s| FOLDERS.iter().any(|f| s.path.starts_with(f)) && !is_tidy(&s.path))
    {
        for (index, line) in source.comments.lines().enumerate() {
            let side = if index >= source.tests_from { &mut on_tests } else { &mut on_code };
            for tag in tags_of(line) {
                side.entry(tag.to_owned()).or_insert((source.path.clone(), index + 1));
            }
        }
    }
    let lonely =
        |one: &BTreeMap<String, (String, usize)>, other: &BTreeMap<_, _>, what: &str, remedy: &str| {
            one.iter()
                .filter(|(tag, _)| !other.contains_key(*tag))
                .map(|(tag, (path, line))| Finding::new(path, *line, format!("`spec: {tag}` {what}"), remedy))
                .collect::<Vec<_>>()
        };
    let mut findings =
        lonely(&on_code, &on_tests, "is proved by no test", "put the same tag on the test that proves it");
    findings.extend(lonely(
        &on_tests,
        &on_code,
        "stands on no code",
        "put the same tag on the code it is about",
    ));
    findings
}

fn is_tidy(path: &str) -> bool {
    path.starts_with("tests/tidy")
}

/// The tags of a comment line: `spec: atp/x` or `spec: atp/x, atp/y`.
fn tags_of(comment: &str) -> Vec<&str> {
    let Some((_, rest)) = comment.split_once("spec: ") else { return Vec::new() };
    rest.split([',', ' ', ';'])
        .map(|tag| tag.trim_end_matches(['.', ')', '`']))
        .filter(|tag| !tag.is_empty())
        .take_while(|tag| {
            tag.contains('/')
                && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '.' | '_'))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_without_its_pair_is_found() {
        let findings = check(&[
            Source::new(
                "shards/src/a.rs",
                "// spec: atp/one, atp/two\n//! spec: atp/three\n#[cfg(test)]\nmod tests {\n/// spec: atp/one\n}\n",
            ),
            Source::new(
                "tests/scenarios/b.rs",
                "/// spec: atp/two\n/// spec: atp/four\nlet c = \"spec: atp/five\";\n",
            ),
        ]);
        let places: Vec<String> =
            findings.iter().map(|f| format!("{}:{} {}", f.path, f.line, f.what)).collect();
        assert_eq!(
            places,
            [
                "shards/src/a.rs:2 `spec: atp/three` is proved by no test",
                "tests/scenarios/b.rs:2 `spec: atp/four` stands on no code"
            ]
        );
    }
}
