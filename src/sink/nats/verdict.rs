//! Makes a verdict of the answer that the server gives to a publish.

use std::borrow::Cow;

use async_nats::StatusCode;
use serde::Deserialize;

use super::stream;
use crate::display::one_line;
use crate::sink::{DeliveryId, Rejection, SinkError, Verdict};

/// The server's JSON, with only the members that are needed here.
#[derive(Deserialize)]
struct PubAck<'a> {
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(rename = "seq", default)]
    sequence: u64,
    #[serde(borrow)]
    error: Option<PublishRefusal<'a>>,
}

#[derive(Deserialize)]
struct PublishRefusal<'a> {
    code: u16,
    #[serde(default)]
    err_code: u16,
    #[serde(borrow, default)]
    description: Cow<'a, str>,
}

/// The message, or its headers, are larger than the stream takes. This and the codes below are from
/// `server/errors.json` of nats-server.
const TOO_LARGE: [u16; 2] = [10054, 10097];
/// The stream with this subject is not the one that `Nats-Expected-Stream` names.
const NOT_THIS_STREAM: u16 = 10060;
const STREAM_NOT_FOUND: u16 = 10059;
const STREAM_SEALED: u16 = 10109;
/// The message was not stored, in most cases because of a limit of a stream that discards new messages.
const STORE_FAILED: u16 = 10077;
/// The limits of the account, the memory or the disk are used up.
const NO_ROOM: [u16; 4] = [10002, 10023, 10028, 10047];

/// Returns the verdict on an event that was published into `stream`. After an error the connection must end,
/// because no event would reach that stream now.
pub(super) fn of_answer(
    status: Option<StatusCode>,
    payload: &[u8],
    stream: &str,
) -> Result<Verdict, SinkError> {
    if status == Some(StatusCode::NO_RESPONDERS) {
        return Err(SinkError::unavailable(format!(
            "no stream took the event: {stream} is missing, has no leader, or no longer has the subject"
        )));
    }
    // A duplicate is durable too: the server stored it when it got the event for the first time.
    match serde_json::from_slice::<PubAck<'_>>(payload) {
        Ok(PubAck { error: Some(refusal), .. }) => refused(&refusal, stream),
        Ok(ack) if ack.stream == stream && ack.sequence > 0 => Ok(Verdict::Durable),
        Ok(ack) if !ack.stream.is_empty() && ack.stream != stream => Err(elsewhere(stream, &ack.stream)),
        _ => Err(SinkError::misconfigured(
            "the answer to a publish is not an acknowledgement of JetStream: something else listens on the subject",
        )),
    }
}

fn refused(refusal: &PublishRefusal<'_>, stream: &str) -> Result<Verdict, SinkError> {
    let description = one_line(&refusal.description);
    let said = format!("{description} ({})", refusal.err_code);
    let error = match refusal.err_code {
        code if TOO_LARGE.contains(&code) => {
            let detail =
                format!("stream {stream} says: {said}; raise its max_msg_size if such events are wanted");
            return Ok(Verdict::Reject(too_large(detail)));
        }
        NOT_THIS_STREAM => return Err(elsewhere(stream, "another one")),
        STREAM_NOT_FOUND | STREAM_SEALED => {
            return Err(SinkError::misconfigured(format!("stream {stream} takes no events: {said}")));
        }
        // The store's error text for every limit contains "maximum".
        STORE_FAILED if description.contains("maximum") => stream::full(stream, &description),
        STORE_FAILED if description.contains("no space left") => no_room(stream, &said),
        code if NO_ROOM.contains(&code) => no_room(stream, &said),
        _ if matches!(refusal.code, 409 | 429 | 500..) => {
            SinkError::unavailable(format!("stream {stream} could not store an event: {said}"))
        }
        _ => SinkError::misconfigured(format!("stream {stream} refused an event: {said}")),
    };
    Ok(Verdict::Retry(error))
}

fn no_room(stream: &str, said: &str) -> SinkError {
    SinkError::misconfigured(format!(
        "JetStream has no room for stream {stream}: {said}; raise the limits of the account or the server, or make room"
    ))
}

fn elsewhere(stream: &str, other: &str) -> SinkError {
    SinkError::misconfigured(format!(
        "events did not reach stream {stream}, but {other}: give the subject to {stream}, or set `stream`"
    ))
}

pub(super) fn too_large(detail: String) -> Rejection {
    Rejection { reason: "too_large", detail }
}

/// Returns the delivery that a reply subject, `<inbox>.<number>`, names.
pub(super) fn delivery_id(subject: &str, inbox: &str) -> Option<DeliveryId> {
    let number = subject.strip_prefix(inbox)?.strip_prefix('.')?;
    // Only digits are allowed: `parse` alone would accept a sign.
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| digits).map(DeliveryId)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sink::SinkErrorKind;

    fn verdict(payload: &str) -> String {
        match of_answer(None, payload.as_bytes(), "EVENTS") {
            Ok(Verdict::Durable) => "durable".to_owned(),
            Ok(Verdict::Retry(error)) => format!("retry {:?}", error.kind),
            Ok(Verdict::Reject(rejection)) => format!("reject {}", rejection.reason),
            Err(error) => format!("broken {:?}", error.kind),
        }
    }

    #[test]
    fn only_the_configured_stream_s_own_word_is_durable() {
        for (payload, expected) in [
            (r#"{"stream":"EVENTS","seq":1}"#, "durable"),
            (r#"{"stream":"EVENTS", "domain":"x", "seq":22,"duplicate": true}"#, "durable"),
            (r#"{"stream":"EVENTS","seq":0}"#, "broken Misconfigured"),
            (r#"{"stream":"EVENTS"}"#, "broken Misconfigured"),
            (r#"{"stream":"OTHER","seq":1}"#, "broken Misconfigured"),
            ("{}", "broken Misconfigured"),
            ("", "broken Misconfigured"),
            ("+OK", "broken Misconfigured"),
            (
                r#"{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"},"stream":"EVENTS","seq":0}"#,
                "broken Misconfigured",
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"EVENTS","seq":0}"#,
                "retry Misconfigured",
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"write EVENTS/msgs/1.blk: no space left on device"}}"#,
                "retry Misconfigured",
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"store is closed"}}"#,
                "retry Unavailable",
            ),
            (r#"{"error":{"code":503,"err_code":10023}}"#, "retry Misconfigured"),
            (r#"{"error":{"code":500,"err_code":10047}}"#, "retry Misconfigured"),
            (
                r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"EVENTS","seq":0}"#,
                "reject too_large",
            ),
            (r#"{"error":{"code":400,"err_code":10097}}"#, "reject too_large"),
            (r#"{"error":{"code":429,"err_code":10167}}"#, "retry Unavailable"),
            (r#"{"error":{"code":409,"err_code":10158}}"#, "retry Unavailable"),
            (r#"{"error":{"code":503}}"#, "retry Unavailable"),
            (r#"{"error":{"code":400,"err_code":10002}}"#, "retry Misconfigured"),
            (r#"{"error":{"code":400,"err_code":10109}}"#, "broken Misconfigured"),
            (r#"{"error":{},"stream":"EVENTS","seq":1}"#, "broken Misconfigured"),
        ] {
            assert_eq!(verdict(payload), expected, "{payload}");
        }
        let nobody = of_answer(Some(StatusCode::NO_RESPONDERS), b"", "EVENTS");
        assert!(matches!(nobody, Err(error) if error.kind == SinkErrorKind::Unavailable));
    }

    proptest! {
        #[test]
        fn nothing_but_an_acknowledgement_is_durable(payload in any::<Vec<u8>>(), stream in "[A-Z]{1,4}", seq in any::<u64>(), extra in ".*") {
            prop_assert!(!matches!(of_answer(None, &payload, "EVENTS"), Ok(Verdict::Durable)));
            let ack = serde_json::json!({"stream": stream, "seq": seq, "extra": extra});
            let durable = matches!(of_answer(None, ack.to_string().as_bytes(), "A"), Ok(Verdict::Durable));
            prop_assert_eq!(durable, stream == "A" && seq > 0);
        }

        #[test]
        fn a_reply_is_about_the_delivery_that_it_names(id in any::<u64>(), other in ".*") {
            prop_assert_eq!(delivery_id(&format!("_INBOX.x.{id}"), "_INBOX.x"), Some(DeliveryId(id)));
            prop_assert_eq!(delivery_id(&format!("_INBOX.x.+{id}"), "_INBOX.x"), None);
            prop_assert_eq!(delivery_id(&format!("_INBOX.y.{id}"), "_INBOX.x"), None);
            let number = other.strip_prefix("_INBOX.x.").and_then(|number| number.parse().ok());
            prop_assert_eq!(delivery_id(&other, "_INBOX.x"), number.map(DeliveryId));
        }
    }
}
