//! Writes what is known of a browsed event: for people, or as a line of JSON.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;

use crate::config::Settings;
use crate::display::{excerpt, one_line, rfc3339};
use crate::event::{Event, EventError};
use crate::key::{KeyPlace, Suggestions};
use crate::units::Period;

/// A browsed event, and what the bridge would do with it.
pub(super) struct EventView<'a> {
    queue: &'a str,
    event: &'a Event,
    place: Option<KeyPlace<'a>>,
    partition: Option<u32>,
    /// The places of MD5s in the body of an event without a usable key.
    suggestions: Suggestions,
}

/// The line of JSON. The body is in `body` if it is UTF-8, else in `body_base64`. An event with a `reason` has no usable
/// key and becomes a dead letter.
#[derive(Serialize)]
struct EventLine<'a> {
    queue: &'a str,
    message_id: &'a str,
    timestamp: Option<i64>,
    age_seconds: Option<u64>,
    redelivered: bool,
    key: Option<String>,
    key_from: Option<&'static str>,
    pointer: Option<&'a str>,
    partition: Option<u32>,
    reason: Option<&'static str>,
    detail: Option<String>,
    suggested_pointers: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> EventView<'a> {
    pub(super) fn new(queue: &'a str, event: &'a Event, settings: &'a Settings) -> Self {
        let is_keyed = event.defect.is_none();
        let mut suggestions = Suggestions::default();
        if let Some(EventError::Key(_)) = event.defect {
            suggestions.add(event.body());
        }
        Self {
            queue,
            event,
            place: settings.keying.place_of(event.body()).filter(|_| is_keyed),
            partition: settings.partitions.filter(|_| is_keyed).map(|count| event.key.partition(count)),
            suggestions,
        }
    }

    /// Writes some lines, safe to show in a terminal. Cuts the body unless it is to be shown in `full`.
    pub(super) fn write_text(
        &self,
        number: usize,
        now: Timestamp,
        full: bool,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let message = &self.event.message;
        let body = String::from_utf8_lossy(&message.body);
        let shown = if full { excerpt(&body, usize::MAX) } else { one_line(&body) };
        let redelivered = if message.redelivered { ", redelivered" } else { "" };
        writeln!(out, "{number}  {}", self.event.shown_id())?;
        writeln!(out, "   sent  {}{redelivered}", self.sent(now))?;
        writeln!(out, "   key   {}", self.key())?;
        writeln!(out, "   body  {shown} ({} bytes)", message.body.len())
    }

    /// Writes a line of JSON.
    pub(super) fn write_json(&self, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
        let Self { event, .. } = self;
        let body = std::str::from_utf8(event.body());
        let (key_from, pointer) = match self.place {
            Some(KeyPlace::Pointer(pointer)) => (Some("pointer"), Some(pointer)),
            Some(KeyPlace::Body) => (Some("body"), None),
            Some(KeyPlace::Digest) => (Some("digest"), None),
            None => (None, None),
        };
        let line = EventLine {
            queue: self.queue,
            message_id: &event.message_id(),
            timestamp: event.message.timestamp,
            age_seconds: self.age(now),
            redelivered: event.message.redelivered,
            key: event.defect.is_none().then(|| event.key.to_string()),
            key_from,
            pointer,
            partition: self.partition,
            reason: event.defect.as_ref().map(EventError::reason),
            detail: event.defect.as_ref().map(EventError::to_string),
            suggested_pointers: self.suggestions.pointers(),
            body: body.ok(),
            body_base64: body.is_err().then(|| STANDARD.encode(event.body())),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    }

    /// The time at which the producer sent the event, if it says so.
    fn timestamp(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.event.message.sent()?).ok()
    }

    /// The age in seconds; 0 if the producer's clock is ahead.
    fn age(&self, now: Timestamp) -> Option<u64> {
        Some(u64::try_from(now.duration_since(self.timestamp()?).as_secs()).unwrap_or(0))
    }

    fn sent(&self, now: Timestamp) -> String {
        match (self.timestamp(), self.age(now)) {
            (Some(time), Some(0)) if time > now => format!("{}, ahead of this clock", rfc3339(time)),
            (Some(time), Some(age)) => format!("{}, {} ago", rfc3339(time), Period::secs(age)),
            _ => "at an unknown time".to_owned(),
        }
    }

    fn key(&self) -> String {
        let key = &self.event.key;
        let partition =
            self.partition.map_or_else(String::new, |partition| format!(", partition {partition}"));
        match (&self.event.defect, self.place) {
            (Some(defect), _) => {
                let advice = match self.suggestions.is_empty() {
                    true => String::new(),
                    false => format!("; to find the MD5 in it, {}", self.suggestions.advice()),
                };
                let why = format!("{defect}{advice}");
                format!("none, so that it becomes a dead letter ({}): {}", defect.reason(), one_line(&why))
            }
            (None, Some(KeyPlace::Pointer(pointer))) => format!("{key} at {}{partition}", one_line(pointer)),
            (None, Some(KeyPlace::Digest)) => {
                format!("{key}, the MD5 of the body, in which there is no key{partition}")
            }
            (None, Some(KeyPlace::Body) | None) => format!("{key}, which is the body{partition}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{SinkRegistry, load};
    use crate::event::{Headers, Message, UnreadableBodyError};

    const MD5: &str = "9e107d9d372bb6826bd81d3542a419d6";
    /// 2023-11-14T22:13:20.123Z, in milliseconds since 1970.
    const SENT: i64 = 1_700_000_000_123;

    fn settings(more: &[(&str, &str)]) -> Settings {
        let needed = [
            ("SOURCE__URL", "stomp://broker:61613"),
            ("SOURCE__USERNAME", "12345"),
            ("SOURCE__PASSWORD", "0123456789abcdef0123456789abcdef"),
            ("SOURCE__NAMESPACE", "acme"),
            ("SOURCE__DESTINATION_ID", "main"),
            ("SINKS__FILE__DIRECTORY", "files"),
            ("DEAD_LETTERS__DIRECTORY", "letters"),
            ("EVENT__PARTITIONS", "12"),
        ];
        let all =
            needed.iter().chain(more).map(|(name, value)| (format!("BRIDGE__{name}"), (*value).to_owned()));
        load(&SinkRegistry::built_in(), None, all.collect::<Vec<_>>().into_iter()).unwrap().settings
    }

    fn message(body: &[u8]) -> Message {
        Message {
            id: Bytes::from_static(b"ID:1\n2"),
            body: Bytes::copy_from_slice(body),
            timestamp: Some(SENT),
            redelivered: false,
            headers: Headers::empty(),
            unreadable: None,
        }
    }

    fn later(seconds: i64) -> Timestamp {
        Timestamp::from_millisecond(SENT + 1000 * seconds).unwrap()
    }

    fn text_of(message: Message, settings: &Settings, full: bool) -> String {
        let (event, mut out) = (Event::new(message, &settings.keying), Vec::new());
        EventView::new("q", &event, settings).write_text(1, later(303), full, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn json_of(message: Message, settings: &Settings) -> Value {
        let (event, mut out) = (Event::new(message, &settings.keying), Vec::new());
        EventView::new("q", &event, settings).write_json(later(-9), &mut out).unwrap();
        assert!(out.ends_with(b"}\n") && out.iter().filter(|&&byte| byte == b'\n').count() == 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn text_shows_where_the_key_is_and_lets_nothing_forge_a_line() {
        let body = format!("{{\"md5\":\"{MD5}\",\r\n\"x\":\"\u{202e}\"}}");
        let message = Message { redelivered: true, ..message(body.as_bytes()) };
        let expected = format!(
            "1  ID:1\\n2\n   sent  2023-11-14T22:13:20.123Z, 5m 3s ago, redelivered\n   key   {MD5} at /md5, \
             partition 3\n   body  {{\"md5\":\"{MD5}\",\\r\\n\"x\":\"\\u{{202e}}\"}} (54 bytes)\n"
        );
        assert_eq!(text_of(message, &settings(&[]), false), expected);
    }

    #[test]
    fn text_cuts_the_body_unless_all_of_it_is_asked_for() {
        let body = format!("{MD5}{}", "\n".repeat(1500));
        let settings = settings(&[]);
        assert!(text_of(message(body.as_bytes()), &settings, false).contains("\\n… (1532 bytes)"));
        let full = text_of(message(body.as_bytes()), &settings, true);
        assert!(full.contains(&format!("{} (1532 bytes)", "\\n".repeat(1500))));
        assert!(full.contains(&format!("key   {MD5}, which is the body, partition 3")), "{full}");
    }

    #[test]
    fn an_event_without_a_key_shows_the_reason_and_the_pointer_to_set() {
        let elsewhere = format!(r#"{{"email":{{"md5":"{MD5}"}}}}"#);
        let shown = text_of(message(elsewhere.as_bytes()), &settings(&[]), false);
        assert!(
            shown.contains(
                "key   none, so that it becomes a dead letter (key_missing): no key at /md5_email, /md5, /email_md5; \
                 to find the MD5 in it, set event.keys = [\"/email/md5\"]\n"
            ),
            "{shown}"
        );
        let shown = text_of(message(b"no JSON"), &settings(&[]), false);
        assert!(shown.contains("(not_an_event): the body is neither a JSON object nor an MD5\n"), "{shown}");
        let digest = settings(&[("EVENT__UNUSABLE_KEY", "digest")]);
        assert!(
            text_of(message(b"no JSON"), &digest, false)
                .contains(", the MD5 of the body, in which there is no key")
        );
        let unreadable =
            Message { unreadable: Some(UnreadableBodyError("it is a map".into())), ..message(b"\x00") };
        let shown = text_of(Message { timestamp: Some(0), ..unreadable }, &digest, false);
        assert!(shown.contains("(unreadable_body): the body can't be read: it is a map\n"), "{shown}");
        assert!(shown.contains("sent  at an unknown time\n"), "{shown}");
    }

    #[test]
    fn json_has_the_same_for_programs() {
        let body = format!(r#"{{"md5":"{MD5}"}}"#);
        let expected = json!({
            "queue": "q", "message_id": "ID:1\n2", "timestamp": SENT, "age_seconds": 0, "redelivered": false,
            "key": MD5, "key_from": "pointer", "pointer": "/md5", "partition": 3, "reason": null, "detail": null,
            "suggested_pointers": [], "body": body,
        });
        assert_eq!(json_of(message(body.as_bytes()), &settings(&[])), expected);
        let bytes = json_of(message(b"\xff"), &settings(&[]));
        assert_eq!((&bytes["body_base64"], &bytes["body"]), (&json!("/w=="), &Value::Null));
        assert_eq!((&bytes["key"], &bytes["partition"]), (&Value::Null, &Value::Null));
        assert_eq!(bytes["reason"], "not_an_event");
        let elsewhere = json_of(message(format!(r#"{{"a":"{MD5}"}}"#).as_bytes()), &settings(&[]));
        assert_eq!(elsewhere["suggested_pointers"], json!(["/a"]));
    }
}
