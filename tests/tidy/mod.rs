//! One module a rule; each is a pure function from text to findings.

pub(crate) mod bans;
pub(crate) mod crates;
pub(crate) mod cycles;
pub(crate) mod folders;
pub(crate) mod headers;
pub(crate) mod licences;
pub(crate) mod manifests;
pub(crate) mod names;
pub(crate) mod placeholders;
pub(crate) mod readme;
pub(crate) mod source;
pub(crate) mod tags;
pub(crate) mod use_paths;
pub(crate) mod verbs;

use std::fmt;

/// A broken rule: where, what, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    /// Path from the repository's root.
    pub(crate) path: String,
    /// Line from 1; 0 when the whole file is meant.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do.
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.remedy)
    }
}
