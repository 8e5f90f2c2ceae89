//! Whether the stream keeps what is published: looked up, made where that is wanted, and checked.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind, RequestErrorKind};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};

use super::config::StreamConfig;
use super::coverage;
use super::template::Subject;
use crate::sink::SinkError;

/// A shorter duplicate window is worth a word: the server's own default.
const USUAL_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Looks the stream up; `None` if it does not exist.
///
/// # Errors
/// JetStream is away, or not for this user.
pub(super) async fn look_up(context: &Context, name: &str) -> Result<Option<Info>, SinkError> {
    let error = match context.get_stream(name).await {
        Ok(stream) => return Ok(Some(stream.cached_info().clone())),
        Err(error) => error,
    };
    match error.kind() {
        GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            Ok(None)
        }
        GetStreamErrorKind::JetStream(refusal) => Err(api_error(name, refusal.code(), &refusal)),
        _ => Err(no_answer(name, &error)),
    }
}

/// Makes the stream, once it is known to keep what is published.
///
/// # Errors
/// It would not, or the server refuses to make it.
pub(super) async fn create(
    context: &Context,
    name: &str,
    wanted: &StreamConfig,
    subject: &Subject,
) -> Result<Info, SinkError> {
    let config = wanted.config(name, subject.pattern());
    verify(&config, subject)?;
    let error = match context.create_stream(config).await {
        Ok(stream) => return Ok(stream.cached_info().clone()),
        Err(error) => error,
    };
    match error.kind() {
        CreateStreamErrorKind::JetStream(refusal) => Err(api_error(name, refusal.code(), &refusal)),
        _ => Err(SinkError::unavailable(format!("can't make stream {name}")).caused_by(error)),
    }
}

/// What a missing stream means where none is to be made.
pub(super) fn missing(name: &str) -> SinkError {
    SinkError::misconfigured(format!(
        "there is no stream {name}: make it, or let the bridge make it with create_stream.enabled"
    ))
}

fn api_error(name: &str, code: usize, refusal: &dyn Display) -> SinkError {
    let message = format!("JetStream on stream {name}: {refusal}");
    // 503: no leader, or starting; but that JetStream is off needs an operator.
    if code >= 500 && !message.contains("not enabled") {
        SinkError::unavailable(message)
    } else {
        SinkError::misconfigured(message)
    }
}

fn no_answer(name: &str, error: &async_nats::jetstream::context::GetStreamError) -> SinkError {
    let source = std::error::Error::source(error);
    let request =
        source.and_then(|source| source.downcast_ref::<async_nats::jetstream::context::RequestError>());
    if request.is_some_and(|request| request.kind() == RequestErrorKind::NoResponders) {
        let message =
            "the NATS server offers no JetStream: switch it on, or set `domain`, or `delivery = \"core\"`";
        return SinkError::misconfigured(message);
    }
    SinkError::unavailable(format!("JetStream does not tell about stream {name}: {error}"))
}

/// Whether every event published reaches the stream and is acknowledged when it is kept.
///
/// # Errors
/// Why not.
pub(super) fn verify(config: &Config, subject: &Subject) -> Result<(), SinkError> {
    let name = &config.name;
    let wrong = |what: String| Err(SinkError::misconfigured(format!("stream {name} {what}")));
    if config.no_ack {
        return wrong(
            "acknowledges nothing (no_ack), so nobody can know what it holds: unset no_ack".to_owned(),
        );
    }
    if config.sealed {
        return wrong("is sealed and takes no events: use another one".to_owned());
    }
    if config.mirror.is_some() {
        return wrong("is a mirror and takes events from its origin only: name the origin".to_owned());
    }
    if !coverage::covers(&config.subjects, subject) {
        let (has, wanted) = (config.subjects.join(", "), subject.pattern());
        return wrong(format!("takes only {has}, not all of {wanted}: add that to its subjects"));
    }
    Ok(())
}

/// What `check` tells of the stream: a line about it, then warnings.
pub(super) fn describe(info: &Info) -> Vec<String> {
    let config = &info.config;
    let line = format!(
        "stream {} takes {}; it holds {} events",
        config.name,
        config.subjects.join(", "),
        info.state.messages
    );
    let warnings = warnings(config).into_iter().map(|text| format!("warning: stream {} {text}", config.name));
    std::iter::once(line).chain(warnings).collect()
}

/// What is the operator's choice, and costs safety (D1).
pub(super) fn warnings(config: &Config) -> Vec<String> {
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
    if config.duplicate_window < USUAL_DUPLICATE_WINDOW {
        let window = humantime::format_duration(config.duplicate_window);
        found.push(format!(
            "knows doubles again for {window} only: an outage that lasts longer can make some"
        ));
    }
    if config.max_message_size > 0 {
        let most = config.max_message_size;
        found.push(format!(
            "takes no event above {most} bytes, headers included: larger ones become dead letters"
        ));
    }
    found.extend(deletes(config).map(|by| format!("deletes events by {by}, consumed or not")));
    if config.retention == RetentionPolicy::Interest {
        found.push("keeps an event only while a consumer wants it (retention interest)".to_owned());
    }
    found
}

/// The limits by which a stream deletes what it holds.
fn deletes(config: &Config) -> Option<String> {
    let old = config.discard == DiscardPolicy::Old;
    let limits = [
        ("max_age", !config.max_age.is_zero()),
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
    use crate::sink::SinkContext;
    use crate::sink::nats::template::SubjectTemplate;

    fn subject() -> Subject {
        SubjectTemplate::parse("e.{namespace}.{key}").unwrap().bind(&SinkContext {
            sink: "nats".to_owned(),
            namespace: "acme".to_owned(),
            destination_id: "main".to_owned(),
            connection_id: "b-0".to_owned(),
            queue: "main.RTO.acme".to_owned(),
            partitions: None,
            ..SinkContext::default()
        })
    }

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
        assert!(verify(&good(), &subject()).is_ok());
        for (config, part) in [
            (Config { no_ack: true, ..good() }, "no_ack"),
            (Config { sealed: true, ..good() }, "sealed"),
            (Config { mirror: Some(Source::default()), ..good() }, "mirror"),
            (Config { subjects: vec!["e.acme".to_owned()], ..good() }, "e.acme.*"),
        ] {
            let error = verify(&config, &subject()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_costs_safety_is_told() {
        assert_eq!(warnings(&good()), [""; 0]);
        let old = Config { discard: DiscardPolicy::Old, ..good() };
        assert_eq!(warnings(&old), [""; 0], "without limits nothing is deleted");
        for (config, part) in [
            (Config { storage: StorageType::Memory, ..good() }, "in memory"),
            (Config { persist_mode: Some(PersistenceMode::Async), ..good() }, "persist_mode"),
            (Config { num_replicas: 1, ..good() }, "one replica"),
            (Config { duplicate_window: Duration::from_secs(5), ..good() }, "for 5s only"),
            (Config { max_message_size: 1000, ..good() }, "1000 bytes"),
            (Config { max_bytes: 1, max_messages: 1, ..old }, "max_bytes, max_msgs"),
            (Config { max_age: Duration::from_secs(1), ..good() }, "max_age"),
            (Config { max_messages_per_subject: 1, ..good() }, "max_msgs_per_subject"),
            (Config { retention: RetentionPolicy::Interest, ..good() }, "interest"),
        ] {
            let told = warnings(&config);
            assert!(told.len() == 1 && told[0].contains(part), "{told:?}");
        }
    }
}
