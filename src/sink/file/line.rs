//! Writes one event as one line.
//!
//! A body is copied as JSON only if the whole body parses as one JSON value in UTF-8. A body that only begins
//! like JSON would make an unreadable line, or a line with members that the bridge did not write. If the key
//! was found in JSON, the body is known to be JSON ([`Event::is_json`]), so events with a usable key are not
//! parsed twice. In the copy, raw line feeds and carriage returns become spaces: in JSON they can only be
//! white space. Any other text becomes a JSON string, also bare hex digits.

use std::num::NonZeroU32;

use memchr::memchr2_iter;
use serde::Serialize;
use serde::de::IgnoredAny;

use super::config::Format;
use crate::event::Event;
use crate::key::Key;
use crate::sink::Rejection;

/// Appends the line of `event`, with its line feed. Rejects a body that is not UTF-8.
pub(super) fn append(
    lines: &mut Vec<u8>,
    event: &Event,
    format: Format,
    partitions: Option<NonZeroU32>,
) -> Result<(), Rejection> {
    let body = LineBody::of(event)?;
    match format {
        Format::Body => body.append(lines),
        Format::Envelope => append_envelope(lines, event, &body, partitions),
    }
    lines.push(b'\n');
    Ok(())
}

enum LineBody<'a> {
    Json(&'a [u8]),
    Text(&'a str),
}

impl<'a> LineBody<'a> {
    fn of(event: &'a Event) -> Result<Self, Rejection> {
        let body = event.body();
        if event.is_json {
            return Ok(Self::Json(body));
        }
        // UTF-8 is checked first, because the JSON parser does not check the bytes inside the strings that it
        // skips.
        let text = std::str::from_utf8(body).map_err(|error| Rejection {
            reason: "not_utf8",
            detail: format!("the body is not UTF-8, and no line of JSON can hold it: {error}"),
        })?;
        // An MD5 that consists of digits only would parse as a JSON number.
        let is_json =
            Key::from_hex(body.trim_ascii()).is_none() && serde_json::from_str::<IgnoredAny>(text).is_ok();
        Ok(if is_json { Self::Json(body) } else { Self::Text(text) })
    }

    fn append(&self, lines: &mut Vec<u8>) {
        match self {
            Self::Json(json) => append_json(lines, json),
            Self::Text(text) => append_value(lines, text),
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

fn append_envelope(lines: &mut Vec<u8>, event: &Event, body: &LineBody<'_>, partitions: Option<NonZeroU32>) {
    lines.extend_from_slice(b"{\"id\":");
    append_value(lines, &event.message_id());
    lines.extend_from_slice(b",\"key\":\"");
    lines.extend_from_slice(&event.key.hex());
    lines.extend_from_slice(b"\",\"partition\":");
    append_value(lines, &partitions.map(|partitions| event.key.partition(partitions)));
    lines.extend_from_slice(b",\"timestamp\":");
    append_value(lines, &event.message.timestamp);
    lines.extend_from_slice(b",\"body\":");
    body.append(lines);
    lines.push(b'}');
}

fn append_value(lines: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let written = serde_json::to_writer(lines, value);
    // Writing a string or a number into a `Vec` can't fail.
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

    /// With `unusable_key = "digest"`, a body can contain any bytes.
    #[test]
    fn what_only_begins_like_json_is_a_string_and_forges_no_member() {
        let whole = format!("{{\"md5\":\"{KEY}\"}}");
        for body in [
            format!("{{}},\"key\":\"{}\",\"x\":{{}}", "0".repeat(32)),
            format!("{whole}{whole}"),
            format!("{whole}\n{whole}"),
            format!("{whole},"),
            format!("\u{feff}{whole}"),
            format!("\u{c}{whole}"),
            whole.trim_end_matches('}').to_owned(),
            format!("\"{KEY}\" }}"),
            "\"".to_owned(),
            "{".to_owned(),
            "{\"a\": \"\n\"}".to_owned(),
            "{\"a\": NaN}".to_owned(),
            "{'a': 1}".to_owned(),
            "{\"a\": \"\u{0}\"}".to_owned(),
            "[1, 2".to_owned(),
            "1 2".to_owned(),
        ] {
            let value: Value = serde_json::from_str(&line(body.as_bytes(), Format::Body)).unwrap();
            assert_eq!(value, Value::from(body.as_str()));
            let value: Value = serde_json::from_str(&line(body.as_bytes(), Format::Envelope)).unwrap();
            let key = Key::digest(body.as_bytes()).to_string();
            assert_eq!((&value["body"], &value["key"]), (&Value::from(body.as_str()), &Value::from(key)));
            assert_eq!(value.as_object().unwrap().len(), 5, "{body}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused_and_leaves_nothing_behind() {
        for body in
            [b"\xff\xfe" as &[u8], b"{\"a\":\"\xff\"}", b"\"J\xe9r\xf4me\"", b"[\"\xff\"]", b"{\"\xff\":1}"]
        {
            for format in [Format::Body, Format::Envelope] {
                let mut lines = Vec::new();
                let rejection = append(&mut lines, &event(body), format, None).unwrap_err();
                assert_eq!((rejection.reason, lines.len()), ("not_utf8", 0), "{body:?}");
            }
        }
    }

    /// Bodies made of pieces of JSON.
    fn like_json() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\"a\"",
            "\"md5\"",
            "\\",
            "1",
            "-",
            "1e999",
            "null",
            "true",
            " ",
            "\n",
            "\r",
            "\t",
            "\u{0}",
            "\u{85}",
            "\u{2028}",
            "é",
            "\\ud800",
            "\"key\":\"0\"",
            "\"\\ud800\"",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn every_body_makes_one_line_of_json_that_holds_it_and_nothing_else(
            body in prop_oneof![like_json(), like_json().prop_map(|json| format!("{{\"md5\":\"{KEY}\"}}{json}")), ".{0,80}"],
        ) {
            let envelope = line(body.as_bytes(), Format::Envelope);
            let plain = line(body.as_bytes(), Format::Body);
            for line in [&envelope, &plain] {
                prop_assert_eq!(line.find(['\n', '\r']), Some(line.len() - 1), "{}", line);
                serde_json::from_str::<IgnoredAny>(line).unwrap();
            }
            // `serde_json::Value` can't hold some valid JSON, such as 1e999 or half of a surrogate pair.
            if let Ok(value) = serde_json::from_str::<Value>(&envelope) {
                prop_assert_eq!(value.as_object().unwrap().len(), 5);
                let is_hex = Key::from_hex(body.trim_ascii().as_bytes()).is_some();
                let expected = serde_json::from_str(&body).ok().filter(|_| !is_hex);
                prop_assert_eq!(&value["body"], &expected.unwrap_or_else(|| Value::from(body.as_str())), "{}", body);
            }
        }
    }
}
