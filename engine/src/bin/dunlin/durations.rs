//! Durations as people type them: a whole number and a unit.

use std::time::Duration;

use dunlin_shards::limits::VALUE_RECORD_LIFE_MAX;

/// The units, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];

/// The duration that a text is, such as 250ms, 30s, 5m, 2h or 7d.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "give a whole number and a unit, such as 250ms, 30s, 5m, 2h or 7d".to_owned();
    let split = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(*unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// How long a value lasts: no longer than any may, and some time.
pub(crate) fn life(text: &str) -> Result<Duration, String> {
    let life = parse(text)?;
    if life.is_zero() || life > VALUE_RECORD_LIFE_MAX {
        let days = VALUE_RECORD_LIFE_MAX.as_secs() / 86_400;
        return Err(format!("a value lasts longer than nothing and {days}d at most"));
    }
    Ok(life)
}

/// In milliseconds, as nodes are told.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse("90m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse("7d").map(millis), Ok(604_800_000));
        assert_eq!(life("30d"), Ok(VALUE_RECORD_LIFE_MAX));
        assert!(life("0s").is_err() && life("31d").is_err() && life("soon").is_err());
        for wrong in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999d"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
