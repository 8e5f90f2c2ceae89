//! What a delivery report means, by librdkafka's error code and nothing else.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::sink::{Rejection, SinkError, SinkErrorKind};

/// What became of one record.
#[derive(Clone, Debug)]
pub(super) enum Judgement {
    /// All in-sync replicas have it (D1).
    Durable,
    /// It can never be delivered.
    Reject(Rejection),
    /// Its batch was too large for the broker, though the record itself may not be.
    BatchTooLarge,
    /// Failed because of something else: a record before it, a purge, the end of the client. Says nothing
    /// new.
    Swept,
    /// Not durable, and this is why.
    Retry(SinkError),
}

/// Judges the report on a record with `bytes` of body and key, sent with batches of `batch_bytes` at most.
pub(super) fn judge(error: Option<Code>, bytes: usize, batch_bytes: usize, topic: &str) -> Judgement {
    let Some(code) = error else { return Judgement::Durable };
    match code {
        // librdkafka adds no second record to a batch that has reached its limit: this one was alone.
        Code::MessageSizeTooLarge | Code::InvalidMessageSize if bytes > batch_bytes => {
            Judgement::Reject(too_large(bytes, &format!("the topic {topic} (max.message.bytes)")))
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            Judgement::BatchTooLarge
        }
        // The broker names the records that it refuses; the others of the batch get another code.
        Code::InvalidRecord => Judgement::Reject(Rejection {
            reason: "invalid_record",
            detail: format!("the topic {topic} refuses the record: {code}"),
        }),
        Code::InvalidDifferentRecord
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::Fatal
        | Code::GaplessGuarantee
        | Code::OutOfOrderSequenceNumber
        | Code::BrokerDestroy => Judgement::Swept,
        code => Judgement::Retry(trouble(code, topic)),
    }
}

/// A record that is larger than `limit` allows.
pub(super) fn too_large(bytes: usize, limit: &str) -> Rejection {
    Rejection {
        reason: "too_large",
        detail: format!("{bytes} bytes are more than {limit} allows; raise it, and that of the brokers"),
    }
}

/// A code as trouble: who must act, and what to do.
pub(super) fn trouble(code: Code, topic: &str) -> SinkError {
    let act = match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::InvalidTopic | Code::UnknownTopicId => {
            format!("the topic {topic} does not exist: create it; it is never made by accident")
        }
        Code::UnknownPartition => format!("the topic {topic} has fewer partitions than before"),
        Code::TopicAuthorizationFailed => {
            format!("not allowed to write to the topic {topic}: give the bridge Write and Describe on it")
        }
        Code::ClusterAuthorizationFailed => {
            "not allowed to write idempotently: give the bridge the operation IdempotentWrite on the cluster, or \
             Write on the topic"
                .to_owned()
        }
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            "the brokers refuse the login: look at the keys of `sasl`".to_owned()
        }
        Code::SSL => "TLS to the brokers failed: look at the keys of `tls`".to_owned(),
        Code::PolicyViolation | Code::InvalidConfig | Code::UnsupportedVersion | Code::UnsupportedFeature => {
            format!("the brokers refuse what is sent to the topic {topic}")
        }
        Code::InvalidTimestamp => format!("the brokers refuse the time of records for {topic}: look at the clocks"),
        _ => {
            return SinkError::unavailable(format!("delivery to the topic {topic} failed: {code}"));
        }
    };
    SinkError::misconfigured(format!("{act} ({code})"))
}

/// No broker answers: `reason` is why a connection failed last, `otherwise` what else is known.
pub(super) fn no_answer(reason: Option<&str>, otherwise: &str) -> SinkError {
    let reason = reason.unwrap_or(otherwise);
    let act = "see that they run and can be reached from here, and that `brokers` is right";
    SinkError::unavailable(format!("the brokers do not answer: {reason}; {act}"))
}

/// The end of a client: only a new one can go on.
pub(super) fn fatal(code: Code, reason: &str, topic: &str) -> SinkError {
    match trouble(code, topic) {
        error if error.kind == SinkErrorKind::Misconfigured => error,
        _ => SinkError::unavailable(format!("the Kafka client had to give up, a new one follows: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_about_errors_is_durable() {
        assert!(matches!(judge(None, 1, 10, "t"), Judgement::Durable));
        for code in [Code::PurgeQueue, Code::PurgeInflight, Code::Fatal, Code::GaplessGuarantee] {
            assert!(matches!(judge(Some(code), 1, 10, "t"), Judgement::Swept), "{code:?}");
        }
        for code in [Code::MessageTimedOut, Code::NotEnoughReplicas, Code::Unknown, Code::Inconsistent] {
            let Judgement::Retry(error) = judge(Some(code), 1, 10, "t") else { panic!("{code:?}") };
            assert_eq!(error.kind, SinkErrorKind::Unavailable, "{code:?}");
        }
    }

    #[test]
    fn a_record_is_rejected_only_where_it_was_alone_or_named() {
        assert!(matches!(judge(Some(Code::MessageSizeTooLarge), 11, 10, "t"), Judgement::Reject(_)));
        assert!(matches!(judge(Some(Code::MessageSizeTooLarge), 10, 10, "t"), Judgement::BatchTooLarge));
        assert!(matches!(judge(Some(Code::InvalidRecord), 1, 10, "t"), Judgement::Reject(_)));
        assert!(matches!(judge(Some(Code::InvalidDifferentRecord), 1, 10, "t"), Judgement::Swept));
    }

    #[test]
    fn silence_names_its_reason_and_the_option_to_look_at() {
        for (reason, shown) in [(Some("refused"), "refused"), (None, "timed out")] {
            let error = no_answer(reason, "timed out");
            assert_eq!(error.kind, SinkErrorKind::Unavailable);
            let text = error.to_string();
            assert!(text.contains(shown) && text.contains("`brokers`"), "{text}");
        }
    }

    #[test]
    fn what_an_operator_must_do_is_said() {
        for (code, word) in [
            (Code::UnknownTopicOrPartition, "create it"),
            (Code::TopicAuthorizationFailed, "Write"),
            (Code::ClusterAuthorizationFailed, "IdempotentWrite"),
            (Code::SaslAuthenticationFailed, "`sasl`"),
        ] {
            let error = trouble(code, "t");
            assert_eq!(error.kind, SinkErrorKind::Misconfigured);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
