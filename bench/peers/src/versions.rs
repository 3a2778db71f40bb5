//! Versions of the crates that were built in, from the lock file that they were built from.

const LOCK: &str = include_str!("../Cargo.lock");

/// The version of a crate; the newest where there are several.
pub(crate) fn of(name: &str) -> &'static str {
    let mut found = "unknown";
    let mut lines = LOCK.lines();
    while let Some(line) = lines.next() {
        let own = line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"'));
        if own == Some(name) {
            let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
            found = version.and_then(|rest| rest.strip_suffix('"')).unwrap_or(found);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_found_in_the_lock_file() {
        assert_eq!(of("dunlin"), env!("CARGO_PKG_VERSION"));
        assert!(of("quinn").starts_with("0."), "{}", of("quinn"));
        assert_eq!(of("no-such-crate"), "unknown");
    }
}
