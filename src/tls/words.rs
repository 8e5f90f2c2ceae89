//! Formats lists, names of the library and times as text.

use std::time::{SystemTime, UNIX_EPOCH};

/// The most names that are shown; the others are only counted.
const MOST_NAMES: usize = 3;

/// Returns the first names of a list, and how many more there are.
pub(super) fn some(names: &[String]) -> String {
    let named = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(" and ");
    match names.len() {
        count if count > MOST_NAMES => format!("{named} and {} more", count - MOST_NAMES),
        _ => named,
    }
}

/// Returns a variant's name as text: `HandshakeFailure` is "handshake failure".
pub(super) fn in_words(value: impl std::fmt::Debug) -> String {
    words(&format!("{value:?}"))
}

/// Returns only the name: the text in brackets behind it is for programmers.
pub(super) fn words(name: &str) -> String {
    let name = name.split(['(', '{', ' ']).next().unwrap_or_default();
    let mut words = String::with_capacity(name.len() + 8);
    let mut was_upper = true;
    for character in name.chars() {
        if character.is_uppercase() && !was_upper {
            words.push(' ');
        }
        was_upper = character.is_uppercase();
        words.extend(character.to_lowercase());
    }
    words
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn timestamp(seconds: u64) -> jiff::Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

/// Formats Unix seconds like `2026-01-03`.
pub(super) fn date(seconds: u64) -> String {
    timestamp(seconds).strftime("%Y-%m-%d").to_string()
}

/// Formats Unix seconds like `2026-01-03 14:05 UTC`.
pub(super) fn moment(seconds: u64) -> String {
    timestamp(seconds).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Formats a number of seconds like `329 days`, rounded down.
pub(super) fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
