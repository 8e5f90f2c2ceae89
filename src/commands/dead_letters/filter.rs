//! Chooses dead letters by what the operator asks for. The verbs share these arguments.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::dead_letter::StoredLetter;
use crate::display::rfc3339;
use crate::key::Key;
use crate::sink::Position;
use crate::units::Period;

/// Stands for the letters that no sink got.
const NO_SINK: &str = "-";

#[derive(Clone, Debug, Default, Args)]
pub struct FilterArgs {
    /// Only letters with this reason, such as `too_large`
    #[arg(long, value_name = "REASON", value_parser = NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
    /// Only letters of this sink; `-` for events without a usable key, which no sink got
    #[arg(long, value_name = "SINK", value_parser = NonEmptyStringValueParser::new())]
    pub sink: Option<String>,
    /// Only letters of this queue
    #[arg(long, value_name = "QUEUE", value_parser = NonEmptyStringValueParser::new())]
    pub queue: Option<String>,
    /// Only letters that were refused at this time or later: RFC 3339, or a date, which is its beginning in UTC, or a
    /// duration ago such as `2h`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Timestamp>,
    /// Only letters that were refused before this time, written as for --since
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<Timestamp>,
    /// Only letters of events with this key
    #[arg(long, value_name = "MD5", value_parser = key)]
    pub key: Option<Key>,
    /// Only letters of the event with this message id of the broker
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub message_id: Option<String>,
    /// Begin at this position, as `show` prints it
    #[arg(long, value_name = "POSITION")]
    pub from: Option<Position>,
}

impl FilterArgs {
    /// Checks what no single argument shows.
    ///
    /// # Errors
    /// The mistake, for people.
    pub fn check(&self) -> Result<(), String> {
        match (self.since, self.until) {
            (Some(since), Some(until)) if since >= until => Err(format!(
                "--since {} is not before --until {}: no letter can match",
                rfc3339(since),
                rfc3339(until)
            )),
            _ => Ok(()),
        }
    }

    /// Returns whether the letter is wanted; its position does not count.
    pub fn matches(&self, letter: &StoredLetter) -> bool {
        let sink = letter.sink.as_deref().unwrap_or(NO_SINK);
        self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && self.sink.as_ref().is_none_or(|wanted| wanted == sink)
            && self.queue.as_ref().is_none_or(|wanted| letter.queue.as_ref() == Some(wanted))
            && self.since.is_none_or(|since| since <= letter.last)
            && self.until.is_none_or(|until| letter.last < until)
            && self.key.is_none_or(|key| letter.key == Some(key))
            && self.message_id.as_ref().is_none_or(|id| *id == letter.message_id)
    }
}

/// Returns the sink as the arguments name it.
pub(super) fn sink_name(sink: Option<&str>) -> &str {
    sink.unwrap_or(NO_SINK)
}

fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text, Timestamp::now())
}

fn time_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let date = || TimeZone::UTC.to_timestamp(text.parse::<Date>().ok()?.at(0, 0, 0, 0)).ok();
    let ago = || now.checked_sub(Period::parse(text).ok()?.0).ok();
    // A date with a time but without a zone would count as a date alone.
    let date = || date().filter(|_| !text.contains([':', 'T', 't', ' ']));
    text.parse().ok().or_else(date).or_else(ago).ok_or_else(|| {
        "write a time with its zone such as 2026-11-30T02:00:00Z, a date such as 2026-11-30, or a duration ago such \
         as 2h"
            .to_owned()
    })
}

fn key(text: &str) -> Result<Key, String> {
    Key::from_hex(text.as_bytes()).ok_or_else(|| "an MD5 has 32 hex digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::dead_letters::tests::{KEY, letter};

    #[test]
    fn times_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-30T02:30:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-11-30T02:00:00Z", "2026-11-30T02:00:00Z"),
            ("2026-11-30T04:00:00.5+02:00", "2026-11-30T02:00:00.5Z"),
            ("2026-11-29", "2026-11-29T00:00:00Z"),
            ("2h", "2026-11-30T00:30:00Z"),
            ("1day 30min", "2026-11-29T02:00:00Z"),
            ("0s", "2026-11-30T02:30:00Z"),
        ] {
            assert_eq!(time_at(text, now).map(|time| time.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "5", "yesterday", "2026-13-01", "2026-11-30T02:00:00", "2026-11-30 02:00", "-2h"] {
            let error = time_at(text, now).unwrap_err();
            assert!(error.contains("such as 2h"), "{text}: {error}");
        }
    }

    #[test]
    fn every_filter_must_match() {
        let letter = letter("too_large", Some("kafka"), "2026-11-30T02:00:00Z");
        let all = FilterArgs::default();
        assert!(all.matches(&letter));
        let text = |text: &str| Some(text.to_owned());
        let time = |text: &str| Some(text.parse().unwrap());
        for (filter, matches) in [
            (FilterArgs { reason: text("too_large"), ..all.clone() }, true),
            (FilterArgs { reason: text("key_missing"), ..all.clone() }, false),
            (FilterArgs { sink: text("kafka"), ..all.clone() }, true),
            (FilterArgs { sink: text("-"), ..all.clone() }, false),
            (FilterArgs { queue: text("main.RTO.acme"), ..all.clone() }, true),
            (FilterArgs { queue: text("other.RTO.acme"), ..all.clone() }, false),
            (FilterArgs { since: time("2026-11-30T02:00:00Z"), ..all.clone() }, true),
            (FilterArgs { since: time("2026-11-30T02:00:00.001Z"), ..all.clone() }, false),
            (FilterArgs { until: time("2026-11-30T02:00:00.001Z"), ..all.clone() }, true),
            (FilterArgs { until: time("2026-11-30T02:00:00Z"), ..all.clone() }, false),
            (FilterArgs { key: Key::from_hex(KEY.as_bytes()), ..all.clone() }, true),
            (FilterArgs { key: Some(Key::digest(b"another")), ..all.clone() }, false),
            (FilterArgs { message_id: text("ID:7"), ..all.clone() }, true),
            (FilterArgs { message_id: text("ID:70"), ..all.clone() }, false),
            (FilterArgs { reason: text("too_large"), sink: text("nats"), ..all.clone() }, false),
        ] {
            assert_eq!(filter.matches(&letter), matches, "{filter:?}");
        }
        let keyless = StoredLetter { sink: None, key: None, ..letter };
        assert!(FilterArgs { sink: text("-"), ..all.clone() }.matches(&keyless));
        assert!(!FilterArgs { key: Key::from_hex(KEY.as_bytes()), ..all }.matches(&keyless));
    }

    #[test]
    fn an_empty_period_is_a_mistake() {
        let of = |since: &str, until: &str| {
            let time = |text: &str| Some(text.parse().unwrap());
            FilterArgs { since: time(since), until: time(until), ..FilterArgs::default() }.check()
        };
        let (early, late) = ("2026-11-30T02:00:00Z", "2026-11-30T03:00:00Z");
        assert_eq!(of(early, late), Ok(()));
        let error = of(late, early).unwrap_err();
        assert!(error.contains("--since 2026-11-30T03:00:00.000Z is not before --until"), "{error}");
        assert!(of(early, early).is_err());
    }
}
