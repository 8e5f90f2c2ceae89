//! Parses the lines in the place of the dead letters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::record::DeadLetterLine;
use super::replay_mark::ReplayMark;
use crate::key::Key;

/// A line in the place of the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredLine {
    /// An event that can't be delivered, with the reason.
    Letter(Box<StoredLetter>),
    /// Says which letters were replayed.
    Mark(ReplayMark),
}

impl StoredLine {
    /// Parses a line, without its line feed.
    ///
    /// # Errors
    /// The line is neither a mark nor a dead letter, or not complete.
    pub fn parse(record: &[u8]) -> Result<Self, StoredLetterError> {
        match ReplayMark::parse(record) {
            Some(mark) => Ok(Self::Mark(mark)),
            None => StoredLetter::parse(record).map(|letter| Self::Letter(Box::new(letter))),
        }
    }
}

/// A dead letter as its line tells it; the members are those of [`DeadLetter`](super::DeadLetter) and its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// The reason, a short fixed word.
    pub reason: String,
    /// The reason in words, with the sizes and names of this event.
    pub detail: String,
    /// The name of the queue that the event came from; `None` if the letter does not tell.
    pub queue: Option<String>,
    /// The sink that refused the event; `None` if no sink got it because its key is unusable.
    pub sink: Option<String>,
    /// How many times the event was handed over to the sink.
    pub attempts: u32,
    /// When the event was first handed over.
    pub first: Timestamp,
    /// When the event was finally refused.
    pub last: Timestamp,
    /// The broker's message id, the same in every sink.
    pub message_id: String,
    /// The MD5 in the body; `None` if it is unusable.
    pub key: Option<Key>,
    /// When the producer sent the event: milliseconds since 1970, UTC.
    pub timestamp: Option<i64>,
    /// Whether the broker had delivered the event before.
    pub redelivered: bool,
    /// The headers in the order of the wire.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte as the broker sent it.
    pub body: Vec<u8>,
}

/// Why a record is not a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum StoredLetterError {
    /// It is not JSON, or not complete.
    #[error("it is not JSON: {0}")]
    Json(serde_json::Error),
    /// It is JSON without the members of a dead letter.
    #[error("it is JSON, but not a dead letter: {0}")]
    Members(serde_json::Error),
    /// A member has another value than a bridge writes.
    #[error("the value of `{0}` is not one that the bridge writes")]
    Value(&'static str),
}

impl StoredLetter {
    /// Parses the line of a dead letter, without its line feed. Members that a later version may add are ignored.
    ///
    /// # Errors
    /// The record is not a dead letter, or not complete.
    pub fn parse(record: &[u8]) -> Result<Self, StoredLetterError> {
        let line: DeadLetterLine<'_> =
            serde_json::from_slice(record).map_err(|error| match error.is_data() {
                true => StoredLetterError::Members(error),
                false => StoredLetterError::Json(error),
            })?;
        let time = |name, text: &str| text.parse().map_err(|_| StoredLetterError::Value(name));
        let wrong_key = StoredLetterError::Value("key");
        let key = line.key.map(|key| Key::from_hex(key.as_bytes()).ok_or(wrong_key)).transpose()?;
        let body = match (line.body, line.body_base64) {
            (Some(text), None) => text.into_owned().into_bytes(),
            (None, Some(encoded)) => {
                STANDARD.decode(encoded).map_err(|_| StoredLetterError::Value("body_base64"))?
            }
            _ => return Err(StoredLetterError::Value("body")),
        };
        Ok(Self {
            first: time("first_time", &line.first_time)?,
            last: time("last_time", &line.last_time)?,
            reason: line.reason.into_owned(),
            detail: line.detail.into_owned(),
            queue: line.queue.map(Into::into),
            sink: line.sink.map(Into::into),
            attempts: line.attempts,
            message_id: line.message_id.into_owned(),
            key,
            timestamp: line.timestamp,
            redelivered: line.redelivered,
            headers: line.headers,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::DeadLetter;
    use super::super::file_store::tests::{event, letter};
    use super::*;
    use crate::sink::Rejection;

    fn line(letter: &DeadLetter) -> Vec<u8> {
        let mut line = Vec::new();
        letter.append(&mut line).unwrap();
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    /// Any body, with a key or without, as text or not.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<Vec<u8>>(),
            "\\PC{0,80}".prop_map(String::into_bytes),
            ("[0-9a-f]{32}", ".{0,20}")
                .prop_map(|(key, more)| json!({"md5": key, "x": more}).to_string().into_bytes()),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            body in body(), detail in "\\PC{0,40}", sink in prop::option::of("[a-z]{1,8}"), attempts: u32,
            first in 0u64..4_000_000_000_000, after in 0u64..1_000_000,
        ) {
            let time = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            let letter = DeadLetter {
                event: event(7, &body),
                queue: "main.RTO.acme".into(),
                worker: "worker".into(),
                sink: sink.as_deref().map(Into::into),
                rejection: Rejection { reason: "too_large", detail: detail.clone() },
                attempts,
                first: time(first),
                last: time(first + after),
            };
            let stored = StoredLetter::parse(&line(&letter)).unwrap();
            let is_usable = letter.event.defect.is_none();
            let expected = StoredLetter {
                reason: "too_large".to_owned(),
                detail,
                queue: Some("main.RTO.acme".to_owned()),
                sink,
                attempts,
                first: time(first).try_into().unwrap(),
                last: time(first + after).try_into().unwrap(),
                message_id: "ID:7".to_owned(),
                key: is_usable.then_some(letter.event.key),
                timestamp: letter.event.message.timestamp,
                redelivered: letter.event.message.redelivered,
                headers: letter.event.message.headers.decode(),
                body,
            };
            prop_assert_eq!(stored, expected);
        }

        #[test]
        fn no_record_makes_it_panic(record: Vec<u8>) {
            prop_assert!(StoredLetter::parse(&record).is_err());
        }
    }

    #[test]
    fn what_is_not_a_letter_is_told() {
        let good: Value = serde_json::from_slice(&line(&letter(1))).unwrap();
        let with = |name: &str, value: Value| {
            let mut line = good.clone();
            line[name] = value;
            line.to_string()
        };
        assert!(
            StoredLetter::parse(with("later", json!(1)).as_bytes()).is_ok(),
            "a member of a later version"
        );
        for (record, part) in [
            (String::new(), "EOF"),
            ("\0\0".to_owned(), "expected value"),
            (r#"{"md5":"x"}"#.to_owned(), "missing field `reason`"),
            (with("attempts", json!(-1)), "u32"),
            (with("key", json!("0x")), "`key`"),
            (with("first_time", json!("today")), "`first_time`"),
            (with("body", Value::Null), "`body`"),
            (with("body_base64", json!("e30=")), "`body`"),
        ] {
            let error = StoredLetter::parse(record.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{record}: {error}");
        }
    }
}
