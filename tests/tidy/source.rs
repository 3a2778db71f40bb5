//! A Rust file, split into what the compiler reads and what people read.
//!
//! In:    a path and its text.
//! Out:   `code` (comments and literals blanked), `comments` (all else blanked), and where the tests start.
//! Holds: `code` and `comments` have the same lines as the text, so a line number means the same in all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The packages' folders.
pub(crate) const PACKAGES: [&str; 6] = ["codec", "shards", "engine", "loadgen", "bench", "tests"];

/// One Rust file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Path from the repository's root, with `/`.
    pub(crate) path: String,
    /// The text with comments and the insides of literals blanked.
    pub(crate) code: String,
    /// The text with everything but comments blanked.
    pub(crate) comments: String,
    /// The first line, from 0, that belongs to the tests; the number of lines when there are none.
    pub(crate) tests_from: usize,
}

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_path_buf()
}

impl Source {
    /// Splits a text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        let tests_from = if path.starts_with("tests/") || path.contains("/tests/") {
            0
        } else {
            tests_from(&code).unwrap_or_else(|| code.lines().count())
        };
        Self { path: path.to_owned(), code, comments, tests_from }
    }

    /// Every Rust file of the packages, sorted by path. Files that a `#[cfg(test)] mod x;` brings in are wholly tests.
    pub(crate) fn load_all(root: &Path) -> Vec<Self> {
        let mut paths = BTreeSet::new();
        for package in PACKAGES {
            collect(&root.join(package), &mut paths);
        }
        let mut sources: Vec<Self> = paths
            .iter()
            .map(|path| {
                let text = std::fs::read_to_string(path).expect("the file was just listed");
                let name =
                    path.strip_prefix(root).expect("it lies under the root").to_string_lossy().into_owned();
                Self::new(&name, &text)
            })
            .collect();
        let of_tests: BTreeSet<String> = sources.iter().flat_map(test_module_files).collect();
        for source in &mut sources {
            if of_tests.contains(&source.path) {
                source.tests_from = 0;
            }
        }
        sources
    }

    /// The lines of code with their numbers from 1; with `tests_too`, those of the tests as well.
    pub(crate) fn lines(&self, tests_too: bool) -> impl Iterator<Item = (usize, &str)> {
        let end = if tests_too { usize::MAX } else { self.tests_from };
        self.code.lines().take(end).enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn collect(folder: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.insert(path);
        }
    }
}

/// The line, from 0, of the `#[cfg(test)]` whose next line opens a module with a body.
fn tests_from(code: &str) -> Option<usize> {
    let lines: Vec<&str> = code.lines().collect();
    (0..lines.len()).find(|&index| {
        lines[index].trim().starts_with("#[cfg(test)]")
            && lines[index..].iter().take(4).any(|line| line.contains("mod ") && line.contains('{'))
    })
}

/// Where the modules declared as `#[cfg(test)] mod name;` may lie.
fn test_module_files(source: &Source) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let base = match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => format!("{folder}/{}", file.trim_end_matches(".rs")),
    };
    let lines: Vec<&str> = source.code.lines().collect();
    lines
        .windows(2)
        .filter(|pair| pair[0].trim() == "#[cfg(test)]")
        .filter_map(|pair| pair[1].trim().strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name.trim()))
        .flat_map(|name| [format!("{base}/{name}.rs"), format!("{base}/{name}/mod.rs")])
        .collect()
}

/// Whether `name` (an identifier or a path) occurs in `line` as whole words.
pub(crate) fn has_name(line: &str, name: &str) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    line.match_indices(name).any(|(start, _)| {
        let bytes = line.as_bytes();
        let end = start + name.len();
        let before = start.checked_sub(1).and_then(|at| bytes.get(at));
        let joined_before = is_word(before) && is_word(bytes.get(start));
        let joined_behind = is_word(bytes.get(end - 1)) && is_word(bytes.get(end));
        !joined_before && !joined_behind
    })
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Code,
    Line,
    Block(usize),
    Text,
    Raw(usize),
}

/// Code with comments and literals blanked, and comments with all else blanked.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut code = vec![b' '; bytes.len()];
    let mut comments = vec![b' '; bytes.len()];
    let (mut at, mut state) = (0, State::Code);
    while at < bytes.len() {
        let (next, len) = step(bytes, at, state);
        for index in at..at + len {
            let byte = bytes[index];
            if byte == b'\n' {
                code[index] = byte;
                comments[index] = byte;
            } else if state == State::Code && next == State::Code && len == 1 {
                code[index] = byte;
            } else if matches!(state, State::Line | State::Block(_)) {
                comments[index] = byte;
            }
        }
        (state, at) = (next, at + len);
    }
    (String::from_utf8_lossy(&code).into_owned(), String::from_utf8_lossy(&comments).into_owned())
}

/// The state after the token at `at`, and the token's length in bytes.
fn step(bytes: &[u8], at: usize, state: State) -> (State, usize) {
    let rest = &bytes[at..];
    match state {
        State::Code => step_code(bytes, at),
        State::Line if rest[0] == b'\n' => (State::Code, 1),
        State::Block(depth) if rest.starts_with(b"/*") => (State::Block(depth + 1), 2),
        State::Block(0) if rest.starts_with(b"*/") => (State::Code, 2),
        State::Block(depth) if rest.starts_with(b"*/") => (State::Block(depth - 1), 2),
        State::Text if rest[0] == b'\\' => (State::Text, 2.min(rest.len())),
        State::Text if rest[0] == b'"' => (State::Code, 1),
        State::Raw(hashes)
            if rest[0] == b'"' && rest[1..].iter().take_while(|b| **b == b'#').count() >= hashes =>
        {
            (State::Code, 1 + hashes)
        }
        other => (other, 1),
    }
}

fn step_code(bytes: &[u8], at: usize) -> (State, usize) {
    let rest = &bytes[at..];
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest[0] {
        b'/' if rest.starts_with(b"//") => (State::Line, 2),
        b'/' if rest.starts_with(b"/*") => (State::Block(0), 2),
        b'"' => (State::Text, 1),
        b'r' if !after_word || matches!(bytes[at - 1], b'b' | b'c') => {
            let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
            match rest.get(1 + hashes) {
                Some(b'"') => (State::Raw(hashes), 2 + hashes),
                _ => (State::Code, 1),
            }
        }
        b'\'' => (State::Code, char_literal_len(rest)),
        _ => (State::Code, 1),
    }
}

/// The length of the character literal that starts here; 1 when it is a lifetime.
fn char_literal_len(rest: &[u8]) -> usize {
    let escaped = rest.get(1) == Some(&b'\\');
    let from = if escaped { 3 } else { 2 };
    let end = rest.iter().skip(from).take(10).position(|byte| *byte == b'\'').map(|index| index + from + 1);
    match end {
        Some(end) if escaped => end,
        // One character between the quotes: one byte, or several that all belong to it.
        Some(end)
            if std::str::from_utf8(&rest[1..end - 1]).is_ok_and(|inside| inside.chars().count() == 1) =>
        {
            end
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let source = Source::new(
            "codec/src/x.rs",
            "let a = \"f64 // no\"; // f32 said\nlet b = r#\"dbg!(\"x\")\"#; /* a /* b */ todo!() */ let c = '\\'';\nfn d<'a>(e: &'a u8) {}\n",
        );
        assert!(!source.code.contains("f64") && !source.code.contains("f32") && !source.code.contains("dbg"));
        assert!(!source.code.contains("todo") && source.code.contains("let c ="));
        assert!(source.code.contains("fn d<'a>(e: &'a u8) {}"));
        assert!(source.comments.contains("f32 said") && !source.comments.contains("// no"));
        assert_eq!(source.code.lines().count(), 3);
    }

    #[test]
    fn tests_start_at_their_module() {
        let source =
            Source::new("codec/src/x.rs", "#[cfg(test)]\nfn a() {}\n\n\n\n#[cfg(test)]\nmod tests {\n}\n");
        assert_eq!(source.tests_from, 5);
        assert_eq!(Source::new("codec/src/x.rs", "fn a() {}\n").tests_from, 1);
        assert_eq!(Source::new("tests/sim/lib.rs", "fn a() {}\n").tests_from, 0);
    }

    #[test]
    fn a_file_that_only_tests_bring_in_is_a_test() {
        let source = Source::new("shards/src/arq/mod.rs", "#[cfg(test)]\nmod stories;\n");
        assert_eq!(test_module_files(&source)[0], "shards/src/arq/stories.rs");
        let source = Source::new("shards/src/shard.rs", "#[cfg(test)]\nmod stories;\n");
        assert_eq!(test_module_files(&source)[0], "shards/src/shard/stories.rs");
    }

    #[test]
    fn names_are_found_whole() {
        assert!(has_name("let x: f64 = 1;", "f64"));
        assert!(!has_name("let x_f64 = 1;", "f64"));
        assert!(has_name("std::time::Instant::now()", "Instant::now"));
        assert!(!has_name("MyInstant::now()", "Instant::now"));
        assert!(has_name("dbg!(x)", "dbg!"));
    }
}
