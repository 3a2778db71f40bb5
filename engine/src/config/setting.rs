//! What a value can be: text on the command line and in variables, a TOML value in the file.

use std::net::SocketAddr;
use std::time::Duration;

use dunlin_codec::uri::DunlinUri;
use toml::de::DeValue;

/// A type that can stand in the configuration.
pub(super) trait Setting: Sized {
    /// What a value looks like, as in "give …".
    const WANTS: &'static str;

    /// Reads the form without quotes, as variables and flags have it.
    fn parse(text: &str) -> Option<Self>;

    /// Writes the value as TOML; what is written reads back as the same value.
    fn show(&self) -> String;

    /// Reads a TOML value; a string unless the type says otherwise.
    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::parse(value.as_str()?)
    }
}

/// Text in TOML's quotes, always one line: what is shown of a value is a line of a message or of a list.
pub(super) fn quoted(text: &str) -> String {
    if !text.contains(char::is_control) {
        return toml::Value::from(text).to_string();
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// The digits of a TOML integer.
pub(super) fn digits<'a>(value: &'a DeValue<'_>) -> Option<&'a str> {
    value.as_integer().filter(|integer| integer.radix() == 10).map(toml::de::DeInteger::as_str)
}

impl Setting for String {
    const WANTS: &'static str = "text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Setting for bool {
    const WANTS: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }
}

impl Setting for usize {
    const WANTS: &'static str = "a whole number, 0 or more";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::parse(digits(value)?)
    }
}

impl Setting for SocketAddr {
    const WANTS: &'static str = "an address and a port such as \"[::]:7117\" or \"127.0.0.1:7117\"";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for DunlinUri {
    const WANTS: &'static str = "nodes such as [\"dunlin://ID@host:7117\"]";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

/// Units of time, largest first, in nanoseconds.
const TIME_UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Setting for Duration {
    const WANTS: &'static str = "a duration such as \"30s\" or \"250ms\"";

    fn parse(text: &str) -> Option<Self> {
        let split = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(split);
        let (_, nanos) = TIME_UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
        Some(Self::from_nanos(number.parse::<u64>().ok()?.checked_mul(*nanos)?))
    }

    fn show(&self) -> String {
        let nanos = self.as_nanos();
        let is_whole = |unit: &&(&str, u64)| nanos > 0 && nanos.is_multiple_of(u128::from(unit.1));
        let (name, unit) = TIME_UNITS.iter().find(is_whole).unwrap_or(&("s", 1_000_000_000));
        format!("\"{}{name}\"", nanos / u128::from(*unit))
    }
}

impl<T: Setting> Setting for Vec<T> {
    const WANTS: &'static str = T::WANTS;

    /// Separated by commas.
    fn parse(text: &str) -> Option<Self> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(T::parse).collect()
    }

    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_array()?.iter().map(|value| T::from_toml(value.get_ref())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let seconds = Duration::from_secs;
        assert_eq!(Duration::parse("30s"), Some(seconds(30)));
        assert_eq!(Duration::parse("2 m"), Some(seconds(120)));
        assert_eq!(Duration::parse("250ms"), Some(Duration::from_millis(250)));
        for wrong in ["", "30", "s", "-1s", "1.5s", "1d", "99999999999999999h"] {
            assert_eq!(Duration::parse(wrong), None, "{wrong}");
        }
        for duration in
            [seconds(0), seconds(7200), seconds(90), Duration::from_micros(1_500), Duration::from_nanos(7)]
        {
            let shown = duration.show();
            assert_eq!(Duration::parse(shown.trim_matches('"')), Some(duration), "{shown}");
        }
        assert_eq!(seconds(120).show(), "\"2m\"");
    }

    #[test]
    fn text_keeps_its_quotes_and_backslashes() {
        assert_eq!(quoted("plain"), "\"plain\"");
        for odd in ["a\"b\\c", "'", "a\"b\\c'\n", "\r\n\n", "\u{0}\u{7f}\u{85}é"] {
            let shown = quoted(odd);
            assert!(!shown.contains(char::is_control), "{shown:?} is one line");
            let parsed: toml::Table = format!("x = {shown}").parse().unwrap();
            assert_eq!(parsed["x"].as_str(), Some(odd));
        }
    }
}
