//! Reads and writes durations and sizes as people write them: `20s`, `64MiB`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written like `250ms`, `20s`, `5min` or `1h 30min`; `0s` where the option allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// A period of `n` milliseconds, for constants and defaults.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// A period of `n` seconds, for constants and defaults.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// Reads a length of time as people write it.
    ///
    /// # Errors
    /// A message that says what is wrong with the text, and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // `0` means the same in every unit.
        if trimmed != "0" && is_number(trimmed) {
            return Err(format!("`{text}` has no unit: write `{trimmed}s` for seconds, or ms, min, h"));
        }
        if let Some(number) = trimmed.strip_suffix('M').filter(|number| is_number(number.trim_end())) {
            let number = number.trim_end();
            return Err(format!("`{text}` is ambiguous: write `{number}min` or `{number}months`"));
        }
        match humantime::parse_duration(trimmed) {
            Ok(duration) if duration <= Self::LONGEST => Ok(Self(duration)),
            Ok(_) | Err(humantime::DurationError::NumberOverflow) => {
                Err(format!("`{text}` is too long: at most {}", Self(Self::LONGEST)))
            }
            Err(_) => Err(format!("`{text}` is not allowed, expected {PERIODS}")),
        }
    }

    /// The longest period that can be written. Added to a time, or multiplied, it must not exceed the range
    /// of the clock.
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600 + 25 * 24 * 3600);
}

const PERIODS: &str = "a length of time: a number and a unit, such as \"250ms\", \"20s\", \"5min\", \"1h\"";

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(PeriodVisitor)
    }
}

struct PeriodVisitor;

impl Visitor<'_> for PeriodVisitor {
    type Value = Period;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PERIODS)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Period, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Period, E> {
        Period::parse(text).map_err(E::custom)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "a number and a unit, such as 250ms, 20s, 5min, 1h",
            "pattern": r"^\s*(0|([0-9]+\s*[A-Za-zµ]+\s*)+)\s*$",
        })
    }
}

/// A number of bytes, written like `512KiB`, `64MiB`, `1GB`, or a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

impl Size {
    /// A size of `n` MiB (1024 × 1024 bytes).
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The largest size that can be written. A sum or a small multiple of it must still fit in 64 bits.
    const LARGEST: u64 = 1 << 60;

    fn parse(text: &str) -> Option<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let (number, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| lower.strip_suffix(unit).map(|number| (number, *factor)))
            .unwrap_or((lower.as_str(), 1));
        let number = number.trim_end();
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        // A number that does not fit in 64 bits becomes the largest one, which `checked` then refuses.
        is_number.then(|| Self(number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(factor)))
    }

    fn checked<E: Error>(self, text: impl fmt::Display) -> Result<Self, E> {
        match self.0 <= Self::LARGEST {
            true => Ok(self),
            false => Err(E::custom(format!("`{text}` is too large: at most {}", Self(Self::LARGEST)))),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size: a whole number and a unit, such as \"512KiB\", \"64MiB\", \"1GB\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
        Size(bytes).checked(bytes)
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
        match u64::try_from(bytes) {
            Ok(size) => Size(size).checked(bytes),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(bytes), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        match Size::parse(text) {
            Some(size) => size.checked(text),
            None => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "description": "a whole number and a unit, such as 512KiB, 64MiB, 1GB",
            "pattern": r"^\s*[0-9]+\s*(([KMGTkmgt][Ii]?)?[Bb])?\s*$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("1 GB", 1_000_000_000), ("17", 17), ("3b", 3), ("2kb", 2000)]
        {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "+1", "1 XB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
        assert_eq!(Size(64 << 20).to_string(), "64MiB");
        assert_eq!(Size(1000).to_string(), "1000B");
    }

    #[test]
    fn periods_are_read_and_what_is_wrong_is_told() {
        let read = |text: &str| Period::parse(text).map(|period| period.0.as_secs());
        for (text, seconds) in
            [("20s", 20), (" 1h 30min ", 5400), ("0s", 0), ("0", 0), ("100years", 3_155_760_000)]
        {
            assert_eq!(read(text), Ok(seconds), "{text}");
        }
        for (text, part) in [
            ("5", "write `5s` for seconds"),
            ("15M", "write `15min` or `15months`"),
            ("101years", "too long: at most 100years"),
            ("99999999999999999999s", "too long"),
            ("soon", "expected a length of time"),
            ("", "expected a length of time"),
            ("-1s", "expected a length of time"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part) && error.starts_with(&format!("`{text}`")), "{text}: {error}");
        }
    }

    /// The bridge adds periods to the time of now, and counts them in milliseconds and nanoseconds.
    #[test]
    fn the_longest_and_the_largest_leave_room() {
        let longest = Period::LONGEST;
        assert!(std::time::Instant::now().checked_add(longest * 2).is_some());
        assert!(std::time::SystemTime::now().checked_add(longest * 2).is_some());
        assert!(i64::try_from(longest.as_nanos() * 2).is_ok());
        let largest =
            |size: &str| serde_json::from_value::<Size>(size.into()).map_err(|error| error.to_string());
        assert_eq!(largest("1048576TiB"), Ok(Size(Size::LARGEST)));
        for text in ["1048577TiB", "99999999999999TiB", "99999999999999999999999"] {
            assert!(largest(text).unwrap_err().contains("too large: at most 1048576TiB"), "{text}");
        }
    }
}
