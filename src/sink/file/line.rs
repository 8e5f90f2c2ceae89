//! One event as one line.
//!
//! A body that can be an event's is a JSON object, a JSON string, or bare text (D5): the first byte tells
//! them apart, so nothing is parsed here. A JSON body is copied as it is, but for raw line feeds and
//! carriage returns: in JSON these can only be white space, and become spaces. Anything else becomes a JSON
//! string.

use std::io::Write;
use std::num::NonZeroU32;

use memchr::memchr2_iter;
use serde::de::IgnoredAny;

use super::config::Format;
use crate::event::Event;
use crate::key::Key;
use crate::sink::Rejection;

/// Appends the line of `event`, line feed included.
///
/// # Errors
/// The event can't be written as a line: it is neither JSON nor UTF-8 text.
pub(super) fn append(
    lines: &mut Vec<u8>,
    event: &Event,
    format: Format,
    partitions: Option<NonZeroU32>,
) -> Result<(), Rejection> {
    let body = Body::of(event.body())?;
    match format {
        Format::Body => body.append(lines),
        Format::Envelope => append_envelope(lines, event, &body, partitions),
    }
    lines.push(b'\n');
    Ok(())
}

enum Body<'a> {
    Json(&'a [u8]),
    Text(&'a str),
}

impl<'a> Body<'a> {
    fn of(body: &'a [u8]) -> Result<Self, Rejection> {
        match body.trim_ascii_start().first() {
            Some(b'{' | b'"') => Ok(Self::Json(body)),
            // Only where unusable keys are allowed can there be something else than an MD5 here.
            _ if Key::from_hex(body.trim_ascii()).is_none()
                && serde_json::from_slice::<IgnoredAny>(body).is_ok() =>
            {
                Ok(Self::Json(body))
            }
            _ => std::str::from_utf8(body).map(Self::Text).map_err(|error| Rejection {
                reason: "not_utf8",
                detail: format!(
                    "the body is neither JSON nor text, and no line of JSON can hold it: {error}"
                ),
            }),
        }
    }

    fn append(&self, lines: &mut Vec<u8>) {
        match self {
            Self::Json(json) => append_json(lines, json),
            Self::Text(text) => append_string(lines, text),
        }
    }
}

fn append_json(lines: &mut Vec<u8>, json: &[u8]) {
    let start = lines.len();
    lines.extend_from_slice(json);
    for at in memchr2_iter(b'\n', b'\r', json) {
        lines[start + at] = b' ';
    }
}

fn append_string(lines: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        lines.push(b'"');
        lines.extend_from_slice(text.as_bytes());
        lines.push(b'"');
    } else {
        lines.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

fn append_envelope(lines: &mut Vec<u8>, event: &Event, body: &Body<'_>, partitions: Option<NonZeroU32>) {
    lines.extend_from_slice(b"{\"id\":");
    append_string(lines, &event.message_id());
    lines.extend_from_slice(b",\"key\":\"");
    lines.extend_from_slice(&event.key.hex());
    lines.extend_from_slice(b"\",\"partition\":");
    append_number(lines, partitions.map(|partitions| event.key.partition(partitions)));
    lines.extend_from_slice(b",\"timestamp\":");
    append_number(lines, event.message.timestamp);
    lines.extend_from_slice(b",\"body\":");
    body.append(lines);
    lines.push(b'}');
}

fn append_number(lines: &mut Vec<u8>, number: Option<impl std::fmt::Display>) {
    let written = match number {
        Some(number) => write!(lines, "{number}"),
        None => write!(lines, "null"),
    };
    // Writing into a Vec can't fail.
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{Headers, Message};
    use crate::key::Keying;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn event(body: &[u8]) -> Event {
        let message = Message {
            id: Bytes::from_static(b"ID:a\"b-1:1"),
            body: Bytes::copy_from_slice(body),
            timestamp: Some(1_700_000_000_123),
            redelivered: false,
            headers: Headers::empty(),
            unreadable: None,
        };
        Event::new(message, &Keying::new(vec!["/md5".to_owned()], true))
    }

    fn line(body: &[u8], format: Format) -> String {
        let mut lines = Vec::new();
        append(&mut lines, &event(body), format, NonZeroU32::new(16)).unwrap();
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn a_body_is_mirrored_as_it_came_without_line_breaks() {
        for (body, expected) in [
            (format!("{{\"md5\": \"{KEY}\"}}"), format!("{{\"md5\": \"{KEY}\"}}\n")),
            (format!(" \r\n{{\n\"md5\":\r\n\"{KEY}\"}}\n"), format!("   {{ \"md5\":  \"{KEY}\"}} \n")),
            (format!("\"{KEY}\""), format!("\"{KEY}\"\n")),
            (KEY.to_owned(), format!("\"{KEY}\"\n")),
            (format!("{KEY}\n"), format!("\"{KEY}\\n\"\n")),
            ("7".repeat(32), format!("\"{}\"\n", "7".repeat(32))),
            ("[1,\n2]".to_owned(), "[1, 2]\n".to_owned()),
            ("a \"q\" \\ é\n".to_owned(), "\"a \\\"q\\\" \\\\ é\\n\"\n".to_owned()),
            (String::new(), "\"\"\n".to_owned()),
        ] {
            assert_eq!(line(body.as_bytes(), Format::Body), expected, "{body:?}");
        }
    }

    #[test]
    fn an_envelope_holds_id_key_partition_time_and_body() {
        let body = format!("{{\"md5\":\n\"{}\"}}", KEY.to_uppercase());
        let line: Value = serde_json::from_str(&line(body.as_bytes(), Format::Envelope)).unwrap();
        let partition = event(body.as_bytes()).key.partition(NonZeroU32::new(16).unwrap());
        let expected = json!({
            "id": "ID:a\"b-1:1", "key": KEY, "partition": partition, "timestamp": 1_700_000_000_123_i64,
            "body": {"md5": KEY.to_uppercase()},
        });
        assert_eq!(line, expected);
        let mut lines = Vec::new();
        append(&mut lines, &event(b"text"), Format::Envelope, None).unwrap();
        let line: Value = serde_json::from_slice(&lines).unwrap();
        assert_eq!((&line["partition"], &line["body"]), (&Value::Null, &json!("text")));
    }

    #[test]
    fn what_is_no_text_is_refused_and_leaves_nothing_behind() {
        let mut lines = Vec::new();
        let rejection = append(&mut lines, &event(b"\xff\xfe"), Format::Body, None).unwrap_err();
        assert_eq!((rejection.reason, lines.len()), ("not_utf8", 0));
    }

    proptest! {
        #[test]
        fn every_text_is_one_line_and_can_be_read_back(text in "[^{\"]?.{0,80}", envelope: bool) {
            prop_assume!(!text.trim_ascii_start().starts_with(['{', '"']));
            prop_assume!(serde_json::from_str::<Value>(&text).is_err());
            let format = if envelope { Format::Envelope } else { Format::Body };
            let line = line(text.as_bytes(), format);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            let value: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(if envelope { &value["body"] } else { &value }, &Value::from(text));
        }
    }
}
