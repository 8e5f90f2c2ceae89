//! Defines a dead letter, and writes it as a line of JSON.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::display::rfc3339;
use crate::event::{Event, EventRef};
use crate::sink::Rejection;

/// An event that can never be delivered, with all that is known about the reason.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event as it was received.
    pub event: EventRef,
    /// The name of the queue that the event came from.
    pub queue: Arc<str>,
    /// The name of the worker that had the event. No two workers of the process have the same one.
    pub worker: Arc<str>,
    /// The sink that refused the event; `None` if no sink got it because its key is unusable.
    pub sink: Option<Arc<str>>,
    /// The reason why the event can't be delivered.
    pub rejection: Rejection,
    /// How many times the event was handed over to the sink.
    pub attempts: u32,
    /// When the event was first handed over.
    pub first: SystemTime,
    /// When the event was finally refused.
    pub last: SystemTime,
}

/// The line: one JSON object. A body in UTF-8 is in `body`, any other body is in `body_base64`; the other
/// member is missing.
#[derive(Serialize, Deserialize)]
pub(super) struct DeadLetterLine<'a> {
    pub(super) reason: Cow<'a, str>,
    pub(super) detail: Cow<'a, str>,
    /// Missing in letters of the versions before.
    pub(super) queue: Option<Cow<'a, str>>,
    pub(super) sink: Option<Cow<'a, str>>,
    pub(super) attempts: u32,
    pub(super) first_time: String,
    pub(super) last_time: String,
    pub(super) message_id: Cow<'a, str>,
    pub(super) key: Option<String>,
    pub(super) timestamp: Option<i64>,
    pub(super) redelivered: bool,
    /// Pairs instead of a map, because a header may occur more than once.
    pub(super) headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_base64: Option<String>,
}

impl DeadLetter {
    /// Returns the id of the letter: the message id and the name of the worker. Several workers may have an
    /// event that can't be delivered, and a place that drops duplicates must keep all their letters.
    pub(super) fn id(&self) -> Bytes {
        [&*self.event.message.id, b"/", self.worker.as_bytes()].concat().into()
    }

    /// Appends the line, with its line feed.
    ///
    /// # Errors
    /// None in practice: writing JSON to memory fails only for maps whose keys are not strings.
    pub(super) fn append(&self, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let event: &Event = &self.event;
        let body = std::str::from_utf8(event.body());
        let line = DeadLetterLine {
            reason: self.rejection.reason.into(),
            detail: Cow::Borrowed(&self.rejection.detail),
            queue: Some(Cow::Borrowed(&self.queue)),
            sink: self.sink.as_deref().map(Cow::Borrowed),
            attempts: self.attempts,
            first_time: rfc3339(timestamp(self.first)),
            last_time: rfc3339(timestamp(self.last)),
            message_id: event.message_id(),
            key: event.defect.is_none().then(|| event.key.to_string()),
            timestamp: event.message.timestamp,
            redelivered: event.message.redelivered,
            headers: event.message.headers.decode(),
            body: body.ok().map(Cow::Borrowed),
            body_base64: body.is_err().then(|| STANDARD.encode(event.body())),
        };
        serde_json::to_writer(&mut *lines, &line)?;
        lines.push(b'\n');
        Ok(())
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    // The conversion fails only for a clock that is wrong by thousands of years.
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::file_store::tests::event;
    use super::*;

    fn line(event: EventRef, sink: Option<&str>) -> Value {
        let letter = DeadLetter {
            queue: "main.RTO.acme".into(),
            worker: "kafka".into(),
            event,
            sink: sink.map(Arc::from),
            rejection: Rejection { reason: "too_large", detail: "3 \"MiB\"".to_owned() },
            attempts: 2,
            first: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_001),
            last: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_001),
        };
        let mut lines = b"before\n".to_vec();
        letter.append(&mut lines).unwrap();
        let line = lines.strip_prefix(b"before\n").unwrap();
        assert_eq!(memchr::memchr(b'\n', line), Some(line.len() - 1));
        serde_json::from_slice(line).unwrap()
    }

    #[test]
    fn a_letter_tells_everything() {
        let key = "0123456789abcdef0123456789abcdef";
        let body = format!("{{\"md5\":\n\"{key}\"}}");
        let expected = json!({
            "reason": "too_large", "detail": "3 \"MiB\"", "queue": "main.RTO.acme", "sink": "kafka", "attempts": 2,
            "first_time": "2023-11-14T22:13:20.001Z", "last_time": "2023-11-14T22:13:21.000Z",
            "message_id": "ID:7", "key": key, "timestamp": 1_700_000_000_000_i64, "redelivered": true,
            "headers": [["message-id", "ID:7"], ["a", "1"], ["a", "2"]],
            "body": body,
        });
        assert_eq!(line(event(7, body.as_bytes()), Some("kafka")), expected);
    }

    #[test]
    fn a_body_that_only_begins_like_json_is_a_string_and_forges_no_member() {
        let body = r#"{},"key":"00000000000000000000000000000000","reason":"none","x":{}"#;
        let line = line(event(1, body.as_bytes()), None);
        assert_eq!(
            (&line["body"], &line["key"], &line["reason"]),
            (&json!(body), &Value::Null, &json!("too_large"))
        );
    }

    #[test]
    fn a_body_that_is_no_text_is_kept_as_base64_and_a_missing_key_as_null() {
        let line = line(event(1, b"\xff\x00"), None);
        assert_eq!((&line["body_base64"], line.get("body")), (&json!("/wA="), None));
        assert_eq!((&line["key"], &line["sink"]), (&Value::Null, &Value::Null));
    }
}
