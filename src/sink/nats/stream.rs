//! Looks up the stream, creates it if that is wanted, and checks that it keeps all published events.

use std::fmt::Display;

use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info};
use async_nats::jetstream::{Context, ErrorCode};

use super::config::StreamConfig;
use super::explain::{CheckedStream, Explainer};
use super::subject_match;
use crate::display::one_line;
use crate::finding::codes;
use crate::sink::SinkError;

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
        ))
        .coded(codes::NATS_NO_JETSTREAM);
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
    let message =
        format!("stream {name} is full ({why}): read from it, or raise its limits (max_msgs, max_bytes)");
    SinkError::misconfigured(message).coded(codes::NATS_STREAM_FULL)
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
    let wrong = |what: &str| {
        Err(SinkError::misconfigured(format!("stream {name} {what}")).coded(codes::NATS_STREAM_UNFIT))
    };
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

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::Source;

    use super::*;
    use crate::sink::nats::explain::testing::explainer;

    fn good() -> Config {
        Config { subjects: vec!["e.>".to_owned()], ..Config::default() }
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
}
