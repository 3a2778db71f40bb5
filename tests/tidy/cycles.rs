//! No cycle among the top-level modules of a crate: each can be read knowing only those below it.
//!
//! Tests are left out, they may use anything.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::source::Source;
use super::use_paths::{UsePath, re_exports, starting_with};

const ROOTS: [&str; 4] = ["codec/src/", "shards/src/", "engine/src/", "loadgen/src/"];

/// Who uses whom, and where it says so first.
type Graph = BTreeMap<String, BTreeMap<String, (String, usize)>>;

/// One finding per cycle.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    ROOTS.iter().flat_map(|root| check_crate(root, sources)).collect()
}

fn check_crate(root: &str, sources: &[Source]) -> Vec<Finding> {
    let files: Vec<&Source> = sources.iter().filter(|source| source.path.starts_with(root)).collect();
    let modules: BTreeSet<String> = files.iter().filter_map(|source| module_of(root, &source.path)).collect();
    let names = root_names(root, &files, &modules);
    let mut graph = Graph::new();
    for source in files {
        let Some(module) = module_of(root, &source.path) else { continue };
        for path in paths_from_root(root, source) {
            let first = path.parts.first().map_or("", String::as_str);
            let used = modules.get(first).or_else(|| names.get(first));
            if let Some(used) = used.filter(|used| **used != module) {
                let place = (source.path.clone(), path.line);
                graph.entry(module.clone()).or_default().entry(used.clone()).or_insert(place);
            }
        }
    }
    find_cycles(&graph)
}

/// The top-level module a file belongs to; none for the crate's root and its binaries.
fn module_of(root: &str, path: &str) -> Option<String> {
    let inside = path.strip_prefix(root)?;
    let first = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(first, "lib" | "main" | "bin")).then(|| first.to_owned())
}

/// What the root re-exports, and from which module.
fn root_names(root: &str, files: &[&Source], modules: &BTreeSet<String>) -> BTreeMap<String, String> {
    let lib = format!("{root}lib.rs");
    let Some(source) = files.iter().find(|source| source.path == lib) else { return BTreeMap::new() };
    re_exports(&source.code)
        .into_iter()
        .filter_map(|path| {
            let parts: Vec<String> =
                path.parts.into_iter().skip_while(|part| part == "crate" || part == "self").collect();
            let module = modules.get(parts.first()?)?;
            Some((parts.last()?.clone(), module.clone()))
        })
        .collect()
}

/// The paths that a file names, counted from the crate's root: `crate::…`, and `super::…` where it reaches the root.
fn paths_from_root(root: &str, source: &Source) -> Vec<UsePath> {
    let code: String = source.lines(false).map(|(_, line)| format!("{line}\n")).collect();
    let inside = source.path.strip_prefix(root).unwrap_or(&source.path);
    let depth = inside.matches('/').count() + usize::from(!inside.ends_with("/mod.rs"));
    let mut paths = Vec::new();
    for mut path in starting_with(&code, "crate") {
        path.parts.remove(0);
        paths.push(path);
    }
    for mut path in starting_with(&code, "super") {
        let ups = path.parts.iter().take_while(|part| *part == "super").count();
        if ups == depth {
            path.parts.drain(..ups);
            paths.push(path);
        }
    }
    paths
}

fn find_cycles(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut done = BTreeSet::new();
    for start in graph.keys() {
        visit(graph, start, &mut Vec::new(), &mut done, &mut findings);
    }
    findings
}

fn visit(
    graph: &Graph,
    module: &str,
    above: &mut Vec<String>,
    done: &mut BTreeSet<String>,
    findings: &mut Vec<Finding>,
) {
    if let Some(at) = above.iter().position(|name| name == module) {
        let cycle = [&above[at..], &[module.to_owned()]].concat();
        findings.push(describe(graph, &cycle));
        return;
    }
    if done.contains(module) {
        return;
    }
    above.push(module.to_owned());
    for used in graph.get(module).into_iter().flat_map(BTreeMap::keys) {
        visit(graph, used, above, done, findings);
    }
    above.pop();
    done.insert(module.to_owned());
}

fn describe(graph: &Graph, cycle: &[String]) -> Finding {
    let places: Vec<String> = cycle
        .windows(2)
        .map(|pair| {
            let (path, line) = &graph[&pair[0]][&pair[1]];
            format!("{} uses {} at {path}:{line}", pair[0], pair[1])
        })
        .collect();
    let (path, line) = &graph[&cycle[0]][&cycle[1]];
    let remedy = format!("move what both need below both ({})", places.join(", "));
    Finding::new(path, *line, format!("a cycle of modules: {}", cycle.join(" -> ")), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_found_and_described() {
        let findings = check(&[
            Source::new(
                "shards/src/lib.rs",
                "pub mod a;\npub mod b;\npub mod c;\npub use c::{Thing, other::More};\n",
            ),
            Source::new("shards/src/a.rs", "use crate::b::X;\n"),
            Source::new("shards/src/b/mod.rs", "use super::c;\n"),
            Source::new("shards/src/b/deep.rs", "use super::super::c::Y;\nuse super::a;\n"),
            Source::new("shards/src/c.rs", "fn f() {\n    crate::a::g();\n}\n"),
        ]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].what, "a cycle of modules: a -> b -> c -> a");
        assert!(findings[0].remedy.contains("c uses a at shards/src/c.rs:2"));
    }

    #[test]
    fn a_cycle_through_a_re_export_is_found() {
        let findings = check(&[
            Source::new("engine/src/lib.rs", "pub use api::Engine;\n"),
            Source::new("engine/src/api.rs", "use crate::driver::Driver;\n"),
            Source::new("engine/src/driver.rs", "use crate::Engine;\n"),
        ]);
        assert_eq!(findings.len(), 1, "{findings:?}");
    }

    #[test]
    fn layers_and_tests_are_no_cycle() {
        let findings = check(&[
            Source::new("codec/src/a.rs", "use crate::b::X;\n"),
            Source::new("codec/src/b.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::Y;\n}\n"),
        ]);
        assert!(findings.is_empty(), "{findings:?}");
    }
}
