//! Licence expressions, as crates state them, against the list that this project accepts.

const ACCEPTED: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "MPL-2.0+",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Whether the expression can be met with accepted licences alone. `/` is an old way of writing OR.
pub(crate) fn is_accepted(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any_of(&mut rest) && rest.is_empty()
}

fn any_of(rest: &mut &[&str]) -> bool {
    let mut met = all_of(rest);
    while eat(rest, "OR") {
        met |= all_of(rest);
    }
    met
}

fn all_of(rest: &mut &[&str]) -> bool {
    let mut met = one(rest);
    while eat(rest, "AND") {
        met &= one(rest);
    }
    met
}

fn one(rest: &mut &[&str]) -> bool {
    if eat(rest, "(") {
        return any_of(rest) & eat(rest, ")");
    }
    let Some((name, tail)) = rest.split_first() else { return false };
    *rest = tail;
    // An exception only permits more.
    if eat(rest, "WITH") {
        *rest = rest.get(1..).unwrap_or_default();
    }
    ACCEPTED.contains(name)
}

fn eat(rest: &mut &[&str], token: &str) -> bool {
    let met = rest.first() == Some(&token);
    if met {
        *rest = &rest[1..];
    }
    met
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        assert!(is_accepted("MIT OR GPL-3.0"));
        assert!(is_accepted("Unlicense/MIT"));
        assert!(is_accepted("(MIT OR GPL-2.0) AND Unicode-3.0"));
        assert!(is_accepted("Apache-2.0 WITH LLVM-exception"));
        assert!(!is_accepted("GPL-3.0"));
        assert!(!is_accepted("MIT AND GPL-3.0"));
        assert!(!is_accepted("(GPL-2.0 OR AGPL-3.0) AND MIT"));
        assert!(!is_accepted(""));
    }
}
