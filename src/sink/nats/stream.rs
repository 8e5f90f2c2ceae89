//! Looks up the stream, creates it if that is wanted, and checks that it keeps all published events.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};

use super::config::StreamConfig;
use super::explain::{CheckedStream, Explainer};
use super::subject_match;
use crate::display::one_line;
use crate::sink::SinkError;

/// The server's default for the duplicate window. A shorter one gets a warning.
const USUAL_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// A `max_age` below this gets a warning: a consumer that is off for a night would lose events.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The most bytes that the headers of an event take, unless its message id is very long.
const HEADERS: u64 = 1024;

/// Looks the stream up; returns `None` if it does not exist.
pub(super) async fn look_up(
    context: &Context,
    name: &str,
    explainer: &Explainer,
    known: CheckedStream<'_>,
) -> Result<Option<Info>, SinkError> {
    let error = match context.get_stream(name).await {
        Ok(stream) => return Ok(Some(stream.cached_info().clone())),
        Err(error) => error,
    };
    match error.kind() {
        GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            Ok(None)
        }
        GetStreamErrorKind::JetStream(refusal) => Err(api_error(name, refusal.code(), &refusal)),
        _ if nobody_answers(&error) => Err(explainer.no_jetstream(known)),
        _ => Err(SinkError::unavailable(format!(
            "JetStream does not answer about stream {name}: {}; it may have no leader now",
            one_line(&error.to_string())
        ))),
    }
}

/// Creates the stream, after a check that it would keep all published events.
pub(super) async fn create(
    context: &Context,
    name: &str,
    wanted: &StreamConfig,
    explainer: &Explainer,
) -> Result<Info, SinkError> {
    let config = wanted.config(name, explainer.subject().pattern());
    verify(&config, explainer)?;
    let error = match context.create_stream(config).await {
        Ok(stream) => return Ok(stream.cached_info().clone()),
        Err(error) => error,
    };
    match error.kind() {
        CreateStreamErrorKind::JetStream(refusal) => Err(not_made(name, refusal.code(), &refusal, explainer)),
        _ => Err(SinkError::unavailable(format!(
            "JetStream does not answer the wish to make stream {name}: {}",
            one_line(&error.to_string())
        ))),
    }
}

fn api_error(name: &str, code: usize, refusal: &dyn Display) -> SinkError {
    let said = refusal.to_string();
    let message = format!("JetStream on stream {name}: {}", one_line(&said));
    if said.contains("not enabled for account") {
        return SinkError::misconfigured(format!(
            "{message}; switch JetStream on for the account of this user, or log in as another one"
        ));
    }
    // 503 means no leader, or a server that starts. But if JetStream is off, an operator must act.
    if code >= 500 && !said.contains("not enabled") {
        SinkError::unavailable(message)
    } else {
        SinkError::misconfigured(message)
    }
}

fn not_made(name: &str, code: usize, refusal: &dyn Display, explainer: &Explainer) -> SinkError {
    let error = api_error(name, code, refusal);
    let said = format!("can't make stream {name}: {error}; check {}", explainer.option("create_stream"));
    // Too few servers for the replicas, and no room, are errors in the 500 range that do not pass by
    // themselves.
    let needs_operator = ["replicas", "insufficient", "resource", "suitable peers"];
    match needs_operator.iter().any(|word| said.contains(word)) {
        true => SinkError::misconfigured(said),
        false => error.with_message(said),
    }
}

fn nobody_answers(error: &GetStreamError) -> bool {
    let request = std::error::Error::source(error).and_then(|source| source.downcast_ref::<RequestError>());
    request.is_some_and(|request| request.kind() == RequestErrorKind::NoResponders)
}

/// Makes the error for a full stream that discards new events: its consumers read too slowly, or not at all.
pub(super) fn full(name: &str, why: &str) -> SinkError {
    SinkError::misconfigured(format!(
        "stream {name} is full ({why}): read from it, or raise its limits (max_msgs, max_bytes)"
    ))
}

/// Fails if the counts of the stream show that it has no room for another event.
pub(super) fn has_room(info: &Info) -> Result<(), SinkError> {
    let (config, state) = (&info.config, &info.state);
    let reached =
        |limit: i64, count: u64| u64::try_from(limit).is_ok_and(|limit| limit > 0 && count >= limit);
    // The next event is assumed to have the average size of the stored ones.
    let bytes = state.bytes + state.bytes / state.messages.max(1);
    let why = if config.discard != DiscardPolicy::New {
        return Ok(());
    } else if reached(config.max_messages, state.messages) {
        "maximum messages exceeded"
    } else if reached(config.max_bytes, bytes) {
        "maximum bytes exceeded"
    } else {
        return Ok(());
    };
    Err(full(&config.name, why))
}

/// Fails unless every published event reaches the stream, and the stream acknowledges it only when it is
/// stored.
pub(super) fn verify(config: &Config, explainer: &Explainer) -> Result<(), SinkError> {
    let name = &config.name;
    let wrong = |what: &str| Err(SinkError::misconfigured(format!("stream {name} {what}")));
    if config.no_ack {
        return wrong("acknowledges nothing (no_ack), so nobody can know what it holds: unset no_ack");
    }
    if config.sealed {
        return wrong("is sealed and takes no events: use another one");
    }
    if config.mirror.is_some() {
        return wrong("is a mirror and takes events from its origin only: name the origin");
    }
    let subject = explainer.subject();
    if !subject_match::covers(&config.subjects, subject) {
        let (has, wanted, option) =
            (config.subjects.join(", "), subject.pattern(), explainer.option("subject"));
        return wrong(&format!(
            "takes only {has}, not all of {wanted}: add that to its subjects, or change {option}"
        ));
    }
    Ok(())
}

pub(super) fn describe(info: &Info) -> String {
    format!(
        "stream {} takes {}; it holds {} events",
        info.config.name,
        info.config.subjects.join(", "),
        info.state.messages
    )
}

/// Returns warnings about settings of the stream that the operator may choose but that can lose events (D1).
/// `max_body` is the largest body of an event in bytes; `consumers` is their number, or `None` if the stream
/// does not exist yet.
pub(super) fn warnings(config: &Config, consumers: Option<usize>, max_body: usize) -> Vec<String> {
    let texts =
        [risks(config), losses(config, consumers), limits(config, max_body).into_iter().collect()].concat();
    texts.into_iter().map(|text| format!("stream {} {text}", config.name)).collect()
}

/// Returns a warning if the server's `max_payload` is too small for the largest event.
pub(super) fn payload_warning(max_payload: usize, max_body: usize) -> Option<String> {
    let too_small = (max_payload as u64) < max_body as u64 + HEADERS;
    too_small.then(|| {
        format!(
            "the NATS server takes no event above {max_payload} bytes, headers included, and source.max_body allows \
             {max_body}: larger ones become dead letters; raise its max_payload"
        )
    })
}

/// Returns the settings that can lose events when servers fail.
fn risks(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if config.storage == StorageType::Memory {
        found.push("is kept in memory: what it acknowledges is lost when its servers stop".to_owned());
    }
    if config.persist_mode == Some(PersistenceMode::Async) {
        found
            .push("acknowledges before it has written (persist_mode async): a crash loses events".to_owned());
    }
    if config.num_replicas < 2 {
        found.push("has one replica: the loss of its server loses events".to_owned());
    }
    found.extend(doubles(config));
    found
}

/// Returns a warning if little prevents doubles. Where events stay after they were consumed, the duplicate window
/// must only cover an event that arrives after the sink has read the stream.
fn doubles(config: &Config) -> Option<String> {
    let window = humantime::format_duration(config.duplicate_window);
    match config.retention {
        RetentionPolicy::Limits if config.duplicate_window >= USUAL_DUPLICATE_WINDOW => None,
        RetentionPolicy::Limits => Some(format!(
            "knows doubles again for {window} only: an event that was on its way for longer can come twice; raise its \
             duplicate window"
        )),
        RetentionPolicy::Interest | RetentionPolicy::WorkQueue => Some(format!(
            "does not keep what was consumed, so that only the duplicate window ({window}) prevents doubles: a crash or \
             an outage that lasts longer can make some"
        )),
    }
}

/// Returns a warning if the stream refuses events that the source accepts.
fn limits(config: &Config, max_body: usize) -> Option<String> {
    let most = u64::try_from(config.max_message_size).ok().filter(|most| *most > 0)?;
    (most < max_body as u64 + HEADERS).then(|| {
        format!(
            "takes no event above {most} bytes, headers included, and source.max_body allows {max_body}: larger ones \
             become dead letters; raise its max_msg_size"
        )
    })
}

/// Returns the settings by which the stream deletes events.
fn losses(config: &Config, consumers: Option<usize>) -> Vec<String> {
    let mut found = Vec::new();
    if !config.max_age.is_zero() {
        let age = humantime::format_duration(config.max_age);
        let advice = match config.max_age < DAY {
            true => ", less than a day: a consumer that is away for a night loses some; raise it",
            false => "",
        };
        found.push(format!("deletes events after {age} (max_age), consumed or not{advice}"));
    }
    found.extend(deletes(config).map(|by| {
        format!(
            "deletes the oldest events at its limits ({by}), consumed or not: set discard new to hold instead"
        )
    }));
    match (config.retention, consumers) {
        (RetentionPolicy::Interest, Some(0)) => found.push(
            "keeps an event only while a consumer wants it (retention interest), and has none: every event vanishes; \
             make a consumer first"
                .to_owned(),
        ),
        (RetentionPolicy::Interest, _) => found.push(
            "keeps an event only while a consumer wants it (retention interest): one that has no consumer vanishes"
                .to_owned(),
        ),
        (RetentionPolicy::WorkQueue, _) => found.push(
            "deletes an event as soon as one consumer has taken it (retention workqueue): no other sees it".to_owned(),
        ),
        (RetentionPolicy::Limits, _) => {}
    }
    found
}

/// Returns the limits by which the stream deletes events, except for the age.
fn deletes(config: &Config) -> Option<String> {
    let old = config.discard == DiscardPolicy::Old;
    let limits = [
        ("max_bytes", old && config.max_bytes > 0),
        ("max_msgs", old && config.max_messages > 0),
        ("max_msgs_per_subject", !config.discard_new_per_subject && config.max_messages_per_subject > 0),
    ];
    let names: Vec<&str> = limits.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::Source;

    use super::*;
    use crate::sink::nats::explain::testing::explainer;

    const BODY: usize = 4 << 20;

    fn good() -> Config {
        Config {
            name: "EVENTS".to_owned(),
            subjects: vec!["e.>".to_owned()],
            num_replicas: 3,
            duplicate_window: USUAL_DUPLICATE_WINDOW,
            discard: DiscardPolicy::New,
            ..Config::default()
        }
    }

    #[test]
    fn a_stream_that_would_lose_events_is_refused() {
        let explainer = explainer("e.{namespace}.{key}");
        assert!(verify(&good(), &explainer).is_ok());
        for (config, part) in [
            (Config { no_ack: true, ..good() }, "no_ack"),
            (Config { sealed: true, ..good() }, "sealed"),
            (Config { mirror: Some(Source::default()), ..good() }, "mirror"),
            (Config { subjects: vec!["e.acme".to_owned()], ..good() }, "e.acme.*"),
        ] {
            let error = verify(&config, &explainer).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_costs_safety_is_told() {
        assert_eq!(warnings(&good(), Some(1), BODY), [""; 0]);
        let old = Config { discard: DiscardPolicy::Old, ..good() };
        assert_eq!(warnings(&old, None, BODY), [""; 0], "without limits nothing is deleted");
        let days = |days| Config { max_age: days * DAY, ..good() };
        let interest = Config { retention: RetentionPolicy::Interest, ..good() };
        for (config, part) in [
            (Config { storage: StorageType::Memory, ..good() }, "in memory"),
            (Config { persist_mode: Some(PersistenceMode::Async), ..good() }, "persist_mode"),
            (Config { num_replicas: 1, ..good() }, "one replica"),
            (Config { duplicate_window: Duration::from_secs(5), ..good() }, "for 5s only"),
            (Config { max_message_size: 1000, ..good() }, "above 1000 bytes, headers included"),
            (Config { max_bytes: 1, max_messages: 1, ..old }, "max_bytes, max_msgs"),
            (
                Config { max_age: Duration::from_secs(1), ..good() },
                "after 1s (max_age), consumed or not, less than a day",
            ),
            (days(7), "after 7days (max_age), consumed or not"),
            (Config { max_messages_per_subject: 1, ..good() }, "max_msgs_per_subject"),
        ] {
            let told = warnings(&config, Some(1), BODY);
            assert!(told.len() == 1 && told[0].contains(part), "{told:?}");
        }
        let workqueue = Config { retention: RetentionPolicy::WorkQueue, ..good() };
        for (config, part) in
            [(&interest, "one that has no consumer vanishes"), (&workqueue, "retention workqueue")]
        {
            let told = warnings(config, Some(1), BODY).join("\n");
            assert_eq!(told.lines().count(), 2, "{told}");
            assert!(told.contains(part) && told.contains("only the duplicate window (2m)"), "{told}");
        }
        assert!(!warnings(&days(7), None, BODY)[0].contains("less than a day"));
        assert!(warnings(&interest, Some(0), BODY)[1].contains("every event vanishes"));
    }

    #[test]
    fn only_limits_below_the_largest_body_are_told() {
        let takes = |most| Config { max_message_size: most, ..good() };
        assert_eq!(warnings(&takes(5 << 20), None, BODY), [""; 0]);
        assert!(warnings(&takes(4 << 20), None, BODY)[0].contains("source.max_body allows 4194304"));
        assert_eq!(payload_warning(8 << 20, BODY), None);
        assert!(payload_warning(1 << 20, BODY).unwrap().contains("above 1048576 bytes"));
    }
}
