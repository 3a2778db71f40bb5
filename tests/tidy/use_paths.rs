//! The paths that code names, with `{…}` groups spread out.
//!
//! In:    code without comments, and the first word of the paths that are wanted (`crate`, `super`, `use`).
//! Out:   each path with the line on which it starts.

/// A path such as `crate::arq::ranges`, and its line from 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct UsePath {
    pub(crate) line: usize,
    pub(crate) parts: Vec<String>,
}

/// Every path in `code` that starts with `first::`.
pub(crate) fn starting_with(code: &str, first: &str) -> Vec<UsePath> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices(first) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | ':')) {
            continue;
        }
        let line = code[..start].matches('\n').count() + 1;
        let mut cursor = Cursor { rest: &code[start..] };
        for parts in cursor.tree().into_iter().filter(|parts| parts.len() > 1 && parts[0] == first) {
            found.push(UsePath { line, parts });
        }
    }
    found
}

/// Every path that the code re-exports by `pub use`.
pub(crate) fn re_exports(code: &str) -> Vec<UsePath> {
    let mut found = Vec::new();
    for (start, word) in code.match_indices("pub use ") {
        let line = code[..start].matches('\n').count() + 1;
        let mut cursor = Cursor { rest: &code[start + word.len()..] };
        found.extend(cursor.tree().into_iter().map(|parts| UsePath { line, parts }));
    }
    found
}

struct Cursor<'a> {
    rest: &'a str,
}

impl Cursor<'_> {
    /// `a::b`, `a::{b, c::d}`, `{a, b}`: every path from root to leaf. An `as` name is passed over.
    fn tree(&mut self) -> Vec<Vec<String>> {
        if self.eat("{") {
            return self.group();
        }
        let word = self.word();
        if word.is_empty() {
            return Vec::new();
        }
        if !self.eat("::") {
            return vec![vec![word]];
        }
        let tails = self.tree();
        if tails.is_empty() {
            return vec![vec![word]];
        }
        tails.into_iter().map(|tail| [vec![word.clone()], tail].concat()).collect()
    }

    fn group(&mut self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        loop {
            paths.extend(self.tree());
            // `as name` stands between a path and the comma.
            let end = self.rest.find([',', '}']).unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
            if !self.eat(",") {
                self.eat("}");
                return paths;
            }
        }
    }

    fn word(&mut self) -> String {
        self.rest = self.rest.trim_start();
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn eat(&mut self, token: &str) -> bool {
        let trimmed = self.rest.trim_start();
        match trimmed.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_out() {
        let code =
            "use crate::{\n  a::{B, c::D as E},\n  f,\n};\nlet x = crate::g::h(mycrate::i, $crate::j);\n";
        let paths: Vec<(usize, String)> =
            starting_with(code, "crate").into_iter().map(|path| (path.line, path.parts.join("::"))).collect();
        let expected = [(1, "crate::a::B"), (1, "crate::a::c::D"), (1, "crate::f"), (5, "crate::g::h")];
        assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
    }
}
