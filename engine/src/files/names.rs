//! From the name that a sender gives to one that is safe in the receiver's folder.
//!
//! In:    text of a stranger's.
//! Out:   [`SafeName`], the names of its copies and of its unfinished parts.
//! Holds: one component of 1 to 255 bytes, without separators or characters that a terminal or an eye mistakes,
//!        that is neither hidden nor read as an option.

use std::fmt::Write;

/// The longest name of a file, in bytes.
const NAME_LEN_MAX: usize = 255;
/// Endings of this many bytes at most stay when a name is cut.
const ENDING_LEN_MAX: usize = 16;
/// What a file without a usable name is called.
const NAMELESS: &str = "unnamed";

/// The ending of a file's bytes while they are not all there.
const PART_ENDING: &str = ".part";
/// The ending of the record that says how many of them are to be believed. As long as the other, for one rule of cutting.
const RECORD_ENDING: &str = ".hash";

/// A name for a file in our folder.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct SafeName(String);

impl SafeName {
    /// What becomes of a stranger's name. Total: something usable comes of everything.
    // spec: atp/file-names
    pub(crate) fn of(offered: &str) -> Self {
        let is_component = |part: &&str| !matches!(*part, "" | "." | "..");
        let last = offered.split(['/', '\\']).rfind(is_component).unwrap_or(NAMELESS);
        let mut name = String::with_capacity(last.len() + 1);
        if last.starts_with(['.', '-', '~', ' ']) {
            name.push('_');
        }
        name.extend(last.chars().map(|c| if is_misleading(c) { '_' } else { c }));
        Self(shorten(&name, NAME_LEN_MAX))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the file's nth copy: NAME, NAME.1, NAME.2 …
    pub(crate) fn numbered(&self, number: u32) -> String {
        if number == 0 {
            return self.0.clone();
        }
        let ending = format!(".{number}");
        let mut name = cut(&self.0, NAME_LEN_MAX - ending.len()).to_owned();
        name.push_str(&ending);
        name
    }

    /// The names of the unfinished file of this name and hash, and of its record: `.NAME.HASH.part` and `.NAME.HASH.hash`.
    pub(crate) fn unfinished(&self, sha256: &[u8; 32]) -> (String, String) {
        let hash = hex(sha256);
        let room = NAME_LEN_MAX - 1 - 1 - hash.len() - PART_ENDING.len();
        let front = format!(".{}.{hash}", cut(&self.0, room));
        (format!("{front}{PART_ENDING}"), format!("{front}{RECORD_ENDING}"))
    }
}

const _: () = assert!(PART_ENDING.len() == RECORD_ENDING.len());

/// Control characters, and those that change how the rest is shown or cannot be seen at all.
fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// At most so many bytes; a short ending stays.
fn shorten(name: &str, len_max: usize) -> String {
    if name.len() <= len_max {
        return name.to_owned();
    }
    let ending = name.rfind('.').map_or("", |dot| &name[dot..]);
    let ending = if ending.len() <= ENDING_LEN_MAX { ending } else { "" };
    format!("{}{ending}", cut(name, len_max - ending.len()))
}

/// The longest front of at most so many bytes that ends between two characters.
fn cut(text: &str, len_max: usize) -> &str {
    &text[..text.floor_char_boundary(len_max)]
}

/// As people write hashes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn safe(offered: &str) -> String {
        SafeName::of(offered).0
    }

    /// spec: atp/file-names
    #[test]
    fn a_hostile_name_becomes_a_harmless_one() {
        for (offered, stored) in [
            ("plain.txt", "plain.txt"),
            ("with space", "with space"),
            ("über.txt", "über.txt"),
            ("../../etc/passwd", "passwd"),
            ("/etc/passwd", "passwd"),
            ("a/b/", "b"),
            ("C:\\windows\\system.ini", "system.ini"),
            ("..", "unnamed"),
            ("", "unnamed"),
            ("/", "unnamed"),
            (".bashrc", "_.bashrc"),
            ("...", "_..."),
            ("-rf", "_-rf"),
            ("~", "_~"),
            ("a\0b\nc\x1b[2Jd", "a_b_c_[2Jd"),
            ("invoice\u{202e}fdp.exe", "invoice_fdp.exe"),
        ] {
            assert_eq!(safe(offered), stored, "{offered:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_ending() {
        let name = safe(&format!("{}.tar.gz", "ä".repeat(200)));
        assert!(name.len() <= 255 && name.len() >= 253 && name.ends_with("ä.gz"), "{name}");
        assert_eq!(safe(&"x".repeat(300)).len(), 255);
    }

    proptest! {
        /// spec: atp/file-names
        #[test]
        fn every_name_is_one_component_that_fits(offered in any::<String>(), number in 0u32..100_000, sha256: [u8; 32]) {
            let name = SafeName::of(&offered);
            let (part, record) = name.unfinished(&sha256);
            for text in [name.numbered(0), name.numbered(number), part.clone(), record] {
                prop_assert!((1..=255).contains(&text.len()));
                prop_assert!(!text.contains(['/', '\0', '\n']) && text != "." && text != "..");
            }
            prop_assert!(!name.as_str().starts_with(['.', '-']));
            prop_assert!(part.starts_with('.') && part.ends_with(".part") && part.contains(&hex(&sha256)));
        }
    }
}
