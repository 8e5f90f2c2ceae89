//! Makes the beginnings of file names, the stems, from a template.

use std::ops::RangeInclusive;

use jiff::Timestamp;

use crate::template::{Placeholder, Template, TemplatePart, percent_encoded};

const MILLIS_PER_HOUR: i64 = 3_600_000;
/// The hours since 1970 that lie in the years 0 to 9999, which have four digits.
const HOURS: RangeInclusive<i64> = -17_268_672..=70_389_501;

/// A checked name template: text with `{connection_id}`, `{partition}`, `{date}` and `{hour}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Template);

impl NameTemplate {
    /// Parses and checks a name template.
    ///
    /// # Errors
    /// The mistake in the template, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        use Placeholder::{ConnectionId, Date, Hour, Partition};
        if text.is_empty() || text.starts_with('.') {
            return Err("a name must not be empty or begin with a dot".to_owned());
        }
        if let Some(odd) = text.chars().find(|c| *c == '/' || c.is_control() || c.is_whitespace()) {
            return Err(format!("{odd:?} is not allowed in a name"));
        }
        Template::parse(text, &[ConnectionId, Partition, Date, Hour]).map(Self)
    }

    /// Returns whether the template has `{partition}`, which needs a fixed number of partitions.
    pub fn has_partition(&self) -> bool {
        self.0.has(Placeholder::Partition)
    }

    pub(crate) fn bind(&self, connection_id: &str) -> Stems {
        let value = |placeholder| (placeholder == Placeholder::ConnectionId).then(|| escaped(connection_id));
        Stems(self.0.bind(value))
    }
}

/// Writes characters that a file name can't hold as `%` and two hex digits.
fn escaped(connection_id: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+=".contains(&byte);
    percent_encoded(connection_id.as_bytes(), is_plain)
}

/// The values of the placeholders for one line, which choose its file. Placeholders that the template does
/// not use are 0, so equal slots mean the same file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct FileSlot {
    /// Whole hours since 1970, in UTC.
    hour: i64,
    partition: u32,
}

/// All stems that one template gives for one connection id. One journal owns all of these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stems(Template);

impl Stems {
    /// Returns the only stem of the dead letters, `dead-letters-<connection id>`.
    pub(crate) fn dead_letters(connection_id: &str) -> Self {
        Self(Template::of_text(format!("dead-letters-{}", escaped(connection_id))))
    }

    /// Returns the slot for a time in milliseconds since 1970 and a partition. Each is computed only if the
    /// template uses it. A time outside the years 0 to 9999 counts as 1970: nobody means such a time, and
    /// [`owns`](Self::owns) would not recognise its date.
    pub(crate) fn slot(&self, millis: impl FnOnce() -> i64, partition: impl FnOnce() -> u32) -> FileSlot {
        let hours =
            || Some(millis().div_euclid(MILLIS_PER_HOUR)).filter(|hour| HOURS.contains(hour)).unwrap_or(0);
        let hour = match (self.0.has(Placeholder::Date), self.0.has(Placeholder::Hour)) {
            (true, true) => hours(),
            (true, false) => hours().div_euclid(24) * 24,
            (false, true) => hours().rem_euclid(24),
            (false, false) => 0,
        };
        FileSlot { hour, partition: if self.0.has(Placeholder::Partition) { partition() } else { 0 } }
    }

    pub(crate) fn stem(&self, slot: FileSlot) -> String {
        let time = Timestamp::from_millisecond(slot.hour.saturating_mul(MILLIS_PER_HOUR));
        let time = time.unwrap_or(Timestamp::UNIX_EPOCH);
        self.0.expand(|stem, placeholder| match placeholder {
            Placeholder::Partition => stem.push_str(&slot.partition.to_string()),
            Placeholder::Date => stem.push_str(&time.strftime("%Y-%m-%d").to_string()),
            Placeholder::Hour => stem.push_str(&time.strftime("%H").to_string()),
            // No other placeholder is left in a stem.
            _ => {}
        })
    }

    /// Returns whether this template can produce `stem`.
    pub(crate) fn owns(&self, stem: &str) -> bool {
        matches(self.0.parts(), stem.as_bytes())
    }

    /// The name of the file whose lock protects all these names.
    pub(crate) fn lock_name(&self) -> String {
        format!(".{}.lock", self.0)
    }

    /// The names of the two files that record message ids: the current one and the one before.
    pub(crate) fn id_log_names(&self) -> [String; 2] {
        [format!(".{}.ids", self.0), format!(".{}.ids.old", self.0)]
    }
}

fn matches(parts: &[TemplatePart], text: &[u8]) -> bool {
    let Some((part, rest)) = parts.split_first() else { return text.is_empty() };
    let after = match part {
        TemplatePart::Text(expected) => text.strip_prefix(expected.as_bytes()),
        TemplatePart::Placeholder(Placeholder::Partition) => {
            let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            return (1..=digits).any(|n| matches(rest, &text[n..]));
        }
        TemplatePart::Placeholder(Placeholder::Date) => after_shape(text, b"0000-00-00"),
        TemplatePart::Placeholder(Placeholder::Hour) => after_shape(text, b"00"),
        TemplatePart::Placeholder(_) => Some(text),
    };
    after.is_some_and(|after| matches(rest, after))
}

/// Returns the text after a prefix of the form `shape`, in which `0` stands for any digit.
fn after_shape<'a>(text: &'a [u8], shape: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(shape.len())?;
    let same = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    head.iter().zip(shape).all(same).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stems(template: &str) -> Stems {
        NameTemplate::parse(template).unwrap().bind("acme-b1")
    }

    const NOON: i64 = 1_795_262_400_000;

    #[test]
    fn placeholders_stand_for_the_events_own_time_and_partition() {
        let stems = stems("x-{date}T{hour}-p{partition}-{connection_id}");
        let slot = stems.slot(|| NOON + 59_999, || 7);
        assert_eq!(stems.stem(slot), "x-2026-11-21T12-p7-acme-b1");
        assert_eq!(slot, stems.slot(|| NOON, || 7));
        assert_ne!(slot, stems.slot(|| NOON + MILLIS_PER_HOUR, || 7));
        assert_eq!(stems.lock_name(), ".x-{date}T{hour}-p{partition}-acme-b1.lock");
    }

    #[test]
    fn a_date_has_four_digits_for_the_year_whatever_the_time() {
        let stems = stems("{date}T{hour}");
        let of = |millis| stems.stem(stems.slot(|| millis, || 0));
        let (first, last) = (*HOURS.start() * MILLIS_PER_HOUR, (*HOURS.end() + 1) * MILLIS_PER_HOUR - 1);
        assert_eq!((of(first).as_str(), of(last).as_str()), ("0000-01-01T00", "9999-12-30T21"));
        for millis in [first - 1, last + 1, i64::MIN, i64::MAX, -1_000_000_000_000_000] {
            assert_eq!(of(millis), "1970-01-01T00", "{millis}");
        }
        assert_eq!(of(-1), "1969-12-31T23");
    }

    #[test]
    fn what_the_template_does_not_use_makes_no_other_slot() {
        assert_eq!(stems("{connection_id}").slot(|| NOON, || 7), FileSlot::default());
        let daily = stems("{date}");
        assert_eq!(daily.slot(|| NOON, || 7), daily.slot(|| NOON + 11 * MILLIS_PER_HOUR, || 8));
        assert_ne!(daily.slot(|| NOON, || 7), daily.slot(|| NOON + 12 * MILLIS_PER_HOUR, || 7));
    }

    #[test]
    fn wrong_templates_say_what_is_wrong() {
        for (template, part) in [
            ("", "empty"),
            (".x", "dot"),
            ("a/b", "'/'"),
            ("a b", "' '"),
            ("a{b", "`{` without"),
            ("a}b", "`}` without"),
            ("{topic}", "`{topic}` is not known"),
        ] {
            let message = NameTemplate::parse(template).unwrap_err();
            assert!(message.contains(part), "{template}: {message}");
        }
    }

    #[test]
    fn a_connection_id_cannot_leave_the_directory_and_stays_distinct() {
        let template = NameTemplate::parse("{connection_id}").unwrap();
        assert_eq!(template.bind("../x").stem(FileSlot::default()), "..%2Fx");
        assert_ne!(template.bind("a%2Fb"), template.bind("a/b"));
    }
}
