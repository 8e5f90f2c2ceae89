//! Classifies delivery reports and connection errors, by librdkafka's error code.

use rdkafka::types::RDKafkaErrorCode as Code;

use super::client::TRANSACTION_TIMEOUT;
use super::names::Names;
use crate::finding::codes;
use crate::sink::{Rejection, SinkError, SinkErrorKind};

/// The outcome of one record.
#[derive(Clone, Debug)]
pub(super) enum DeliveryOutcome {
    /// All in-sync replicas have it (D1).
    Durable,
    /// The record can never be delivered.
    Reject(Rejection),
    /// Its batch was too large for the broker. The record itself may not be too large.
    BatchTooLarge,
    /// The topic refuses the record, and perhaps others (`batch_refusal.rs`).
    Refused,
    /// The record failed because of something else: a record before it, a purge, or the end of the client.
    /// This outcome gives no new information.
    FailedWithBatch,
    /// The record is not durable, for this reason.
    Retry(SinkError),
}

/// Classifies the report on a record with `bytes` of body and key, from a client whose batches have at most
/// `batch_bytes`.
pub(super) fn classify_delivery(
    error: Option<Code>,
    bytes: usize,
    batch_bytes: usize,
    names: &Names,
) -> DeliveryOutcome {
    let Some(code) = error else { return DeliveryOutcome::Durable };
    match code {
        // librdkafka adds no second record to a batch that has reached its limit, so this record was alone.
        Code::MessageSizeTooLarge | Code::InvalidMessageSize if bytes > batch_bytes => {
            DeliveryOutcome::Reject(too_large(
                bytes,
                &format!("the topic {} (max.message.bytes)", names.topic),
            ))
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            DeliveryOutcome::BatchTooLarge
        }
        // librdkafka reports this code for every record of a batch that the broker names, whatever the reason
        // is.
        Code::InvalidRecord => DeliveryOutcome::Refused,
        Code::InvalidDifferentRecord
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::Fatal
        | Code::GaplessGuarantee
        | Code::OutOfOrderSequenceNumber
        | Code::BrokerDestroy => DeliveryOutcome::FailedWithBatch,
        code => DeliveryOutcome::Retry(classify_error(code, names)),
    }
}

/// Rejects a record that is larger than `limit` allows.
pub(super) fn too_large(bytes: usize, limit: &str) -> Rejection {
    Rejection {
        reason: "too_large",
        detail: format!("{bytes} bytes are more than {limit} allows; raise it, and that of the brokers"),
    }
}

/// Rejects a record that alone was refused twice.
pub(super) fn invalid(names: &Names) -> Rejection {
    let topic = &names.topic;
    Rejection {
        reason: "invalid_record",
        detail: format!(
            "the topic {topic} has refused the record twice, each time alone, and accepted others in between"
        ),
    }
}

/// Turns a code into an error that says who must act and what to do.
#[expect(clippy::too_many_lines, reason = "a flat match, with an arm for each code")]
pub(super) fn classify_error(code: Code, names: &Names) -> SinkError {
    let topic = &names.topic;
    let act = match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::InvalidTopic | Code::UnknownTopicId => {
            format!(
                "the topic {topic} does not exist: create it, or correct {}; it is never made by accident",
                names.option("topic")
            )
        }
        Code::UnknownPartition => format!("the topic {topic} has fewer partitions than before"),
        Code::TopicAuthorizationFailed => return not_allowed(names),
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => return fenced(names),
        Code::TransactionalIdAuthorizationFailed => {
            let message = format!(
                "{}not allowed to write in transactions: {}; or unset {}",
                who(names),
                transactional_rights(names),
                names.option("exactly_once")
            );
            return SinkError::misconfigured(message).coded(codes::KAFKA_TRANSACTIONS_DENIED);
        }
        Code::InvalidTransactionTimeout => format!(
            "the brokers do not allow transactions of {} s: raise their transaction.max.timeout.ms",
            TRANSACTION_TIMEOUT.as_secs()
        ),
        Code::ClusterAuthorizationFailed => {
            "not allowed to write idempotently: give the bridge the operation IdempotentWrite on the cluster, or \
             Write on the topic"
                .to_owned()
        }
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            format!("the brokers refuse the login: look at {}", names.option("sasl"))
        }
        Code::SSL => format!("TLS to the brokers failed: look at {}", names.option("tls")),
        Code::PolicyViolation | Code::InvalidConfig | Code::UnsupportedVersion | Code::UnsupportedFeature => {
            format!("the brokers refuse what is sent to the topic {topic}")
        }
        Code::InvalidTimestamp => {
            return SinkError::misconfigured(format!(
                "the topic {topic} refuses the timestamps of records: look at the clocks of the bridge and of the \
                 brokers, and at message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic"
            ));
        }
        _ => {
            return SinkError::unavailable(format!("delivery to the topic {topic} failed: {code}"));
        }
    };
    let error = SinkError::misconfigured(format!("{act} ({code})"));
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::InvalidTopic | Code::UnknownTopicId => {
            error.coded(codes::KAFKA_TOPIC_MISSING)
        }
        Code::ClusterAuthorizationFailed => error.coded(codes::KAFKA_WRITE_DENIED),
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            error.coded(codes::KAFKA_LOGIN)
        }
        Code::SSL => error.coded(codes::KAFKA_TLS),
        _ => error,
    }
}

/// The login has no permission to write.
pub(super) fn not_allowed(names: &Names) -> SinkError {
    let message = format!(
        "{}not allowed to write to the topic {}: give the bridge Write and Describe on it",
        who(names),
        names.topic
    );
    SinkError::misconfigured(message).coded(codes::KAFKA_WRITE_DENIED)
}

/// Another bridge has initialised our transactional id, or the brokers have ended our transaction because it
/// stood still for too long. Only the broker of the queue knows which of the two bridges it serves now.
fn fenced(names: &Names) -> SinkError {
    SinkError::fenced(format!(
        "another bridge with the same destination id has taken over the queue {}, and its events are in the topic {}; \
         if this repeats, look for two releases with the same destination id, or two sinks with this topic",
        names.queue(),
        names.topic
    ))
}

/// Fewer replicas are in sync than an event needs to count as written.
pub(super) fn too_few_in_sync(in_sync: usize, least: usize, partition: i32, names: &Names) -> SinkError {
    let message = format!(
        "partition {partition} of the topic {} has {in_sync} replicas in sync and takes no event below {least} \
         (min.insync.replicas): see that the brokers with its replicas run",
        names.topic
    );
    SinkError::unavailable(message).coded(codes::KAFKA_NOT_IN_SYNC)
}

/// What a login needs for transactions.
pub(super) fn transactional_rights(names: &Names) -> String {
    format!(
        "give the bridge Write and Describe on the transactional ids that begin with {} (pattern type prefixed)",
        names.queue()
    )
}

/// Why events can come twice: the login has no permission to read.
pub(super) fn not_allowed_to_read(names: &Names) -> String {
    can_come_twice(names, &format!("{}not allowed to read it: give the bridge Read on it", who(names)))
}

/// The warning that a crash can double events, because the bridge can't see what the topic holds.
pub(super) fn can_come_twice(names: &Names, why: &str) -> String {
    format!("events can come twice into the topic {} after a crash: {why}", names.topic)
}

/// Why the low-water marks are not stored, and what follows.
pub(super) fn marks_refused(names: &Names) -> String {
    format!(
        "{}not allowed to keep its position as the consumer group {}: give the bridge Read on that group if other \
         programs write to the topic {}, or events can come twice into it after a crash",
        who(names),
        names.group(),
        names.topic
    )
}

pub(super) fn who(names: &Names) -> String {
    let user = &names.user;
    if user.is_empty() { String::new() } else { format!("{user} is ") }
}

/// Records of a batch were refused; it is not known yet which of them the refusal is about.
pub(super) fn refused_with_others(names: &Names) -> SinkError {
    SinkError::unavailable(format!(
        "the topic {} refuses records of a batch: they are offered again one by one",
        names.topic
    ))
}

/// A record was refused while it was alone, and no other was accepted since.
pub(super) fn refused_alone(names: &Names) -> SinkError {
    SinkError::misconfigured(format!(
        "the topic {} refuses records, even one alone ({}): look at what the topic and its brokers check",
        names.topic,
        Code::InvalidRecord
    ))
}

/// A record that was refused alone is offered once more, because another one was accepted.
pub(super) fn offered_once_more(names: &Names) -> SinkError {
    SinkError::unavailable(format!(
        "the topic {} accepts other records: the one that it has refused is offered once more",
        names.topic
    ))
}

/// Whether a connection that failed with this code fails until somebody acts.
pub(super) fn needs_operator(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::SSL
    )
}

/// Turns librdkafka's code and text for a failed connection into an error that says what to do.
pub(super) fn classify_failure(code: Code, words: &str, names: &Names) -> SinkError {
    if let Some(why) = words.strip_prefix(NO_TOKEN) {
        return no_token(why, names);
    }
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            let options = ["sasl.mechanism", "sasl.username", "sasl.password"];
            let [mechanism, user, password] = options.map(|option| names.option(option));
            let who = &names.user;
            SinkError::misconfigured(format!(
                "the brokers refuse the login as {who}: {words}; look at {mechanism}, {user} and {password}"
            ))
            .coded(codes::KAFKA_LOGIN)
        }
        Code::SSL => {
            let message = format!("TLS to the brokers failed: {words}; look at {}", names.option("tls"));
            SinkError::misconfigured(message).coded(codes::KAFKA_TLS)
        }
        _ => no_answer(Some(words), "", names),
    }
}

/// The beginning of librdkafka's text when a token endpoint gives no token.
const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token: ";
/// The beginnings of curl's texts when it has not reached the endpoint.
const NOT_REACHED: [&str; 5] =
    ["Failed to connect", "Could not resolve", "Couldn't", "Connection", "Operation timed out"];

fn no_token(why: &str, names: &Names) -> SinkError {
    // "Failed to connect to 127.0.0.1 port 1 after 0 ms: …" would be a new text each time, because of the
    // number.
    let (before, after) = why.split_once(" after ").unwrap_or((why, ""));
    let why = match after.split_once(" ms: ").or_else(|| after.split_once(" ms ")) {
        Some((_, after)) => format!("{before}: {after}"),
        None => why.to_owned(),
    };
    if NOT_REACHED.iter().any(|begins| why.starts_with(begins)) {
        let url = names.option("sasl.token_url");
        let act = format!("see that {url} is right and can be reached from here");
        let message = format!("there is no token for the login: {why}; {act}");
        return SinkError::unavailable(message).coded(codes::KAFKA_LOGIN);
    }
    let [id, secret] = ["sasl.client_id", "sasl.client_secret"].map(|option| names.option(option));
    let who = &names.user;
    SinkError::misconfigured(format!(
        "the token endpoint refuses the client {who}: {why}; look at {id} and {secret}"
    ))
    .coded(codes::KAFKA_LOGIN)
}

/// No broker answers: `reason` is why a connection failed last, `otherwise` what else is known.
pub(super) fn no_answer(reason: Option<&str>, otherwise: &str, names: &Names) -> SinkError {
    let reason = reason.unwrap_or(otherwise);
    let brokers = names.option("brokers");
    let act = format!("see that they run and can be reached from here, and that {brokers} is right");
    let message = format!("the brokers do not answer: {reason}; {act}");
    SinkError::unavailable(message).coded(codes::KAFKA_UNREACHABLE)
}

/// The client has ended with a fatal error: only a new client can go on.
pub(super) fn fatal(code: Code, reason: &str, names: &Names) -> SinkError {
    // librdkafka's text has a count of records, so it would be a new text each time.
    if code == Code::GaplessGuarantee {
        let text = "a record was refused for good, and nothing may overtake it: a new Kafka client follows";
        return SinkError::unavailable(text);
    }
    match classify_error(code, names) {
        error if error.is_fenced() || error.kind == SinkErrorKind::Misconfigured => error,
        _ => SinkError::unavailable(format!("the Kafka client had to give up, a new one follows: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(code: Option<Code>, bytes: usize) -> DeliveryOutcome {
        classify_delivery(code, bytes, 10, &Names::of("t"))
    }

    #[test]
    fn only_silence_about_errors_is_durable() {
        assert!(matches!(classified(None, 1), DeliveryOutcome::Durable));
        for code in [Code::PurgeQueue, Code::PurgeInflight, Code::Fatal, Code::GaplessGuarantee] {
            assert!(matches!(classified(Some(code), 1), DeliveryOutcome::FailedWithBatch), "{code:?}");
        }
        for code in [Code::MessageTimedOut, Code::NotEnoughReplicas, Code::Unknown, Code::Inconsistent] {
            let DeliveryOutcome::Retry(error) = classified(Some(code), 1) else { panic!("{code:?}") };
            assert_eq!(error.kind, SinkErrorKind::Unavailable, "{code:?}");
        }
    }

    #[test]
    fn a_record_is_rejected_at_once_only_where_it_was_alone_and_its_size_is_the_reason() {
        assert!(matches!(classified(Some(Code::MessageSizeTooLarge), 11), DeliveryOutcome::Reject(_)));
        assert!(matches!(classified(Some(Code::MessageSizeTooLarge), 10), DeliveryOutcome::BatchTooLarge));
        assert!(matches!(classified(Some(Code::InvalidRecord), 1), DeliveryOutcome::Refused));
        assert!(matches!(
            classified(Some(Code::InvalidDifferentRecord), 1),
            DeliveryOutcome::FailedWithBatch
        ));
    }

    #[test]
    fn silence_names_its_reason_and_the_option_to_look_at() {
        for (reason, shown) in [(Some("refused"), "refused"), (None, "timed out")] {
            let error = no_answer(reason, "timed out", &Names::of("t"));
            assert_eq!(error.kind, SinkErrorKind::Unavailable);
            let text = error.to_string();
            assert!(text.contains(shown) && text.contains("sinks.kafka.brokers"), "{text}");
        }
    }

    #[test]
    fn a_token_endpoint_that_is_away_passes_and_one_that_refuses_does_not() {
        let failed =
            |why: &str| classify_failure(Code::Authentication, &format!("{NO_TOKEN}{why}"), &Names::of("t"));
        let away =
            failed("Failed to connect to 127.0.0.1 port 1 after 12 ms: Couldn't connect to server (-1)");
        assert_eq!(away.kind, SinkErrorKind::Unavailable);
        assert!(!away.to_string().contains("12 ms") && away.to_string().contains("sasl.token_url"), "{away}");
        let refused = failed("invalid_client (401)");
        assert_eq!(refused.kind, SinkErrorKind::Misconfigured);
        assert!(refused.to_string().contains("sinks.kafka.sasl.client_secret"), "{refused}");
    }

    #[test]
    fn what_an_operator_must_do_is_said() {
        for (code, word) in [
            (Code::UnknownTopicOrPartition, "create it"),
            (Code::TopicAuthorizationFailed, "Write"),
            (Code::ClusterAuthorizationFailed, "IdempotentWrite"),
            (Code::SaslAuthenticationFailed, "sinks.kafka.sasl"),
            (Code::InvalidTimestamp, "look at the clocks"),
        ] {
            let error = classify_error(code, &Names::of("t"));
            assert_eq!(error.kind, SinkErrorKind::Misconfigured);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
