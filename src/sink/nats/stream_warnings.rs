//! Warns of settings of the server and the stream that the operator may choose but that can lose, double or
//! refuse events.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};

use crate::finding::{Code, Finding, codes};

/// The server's default for the duplicate window. A shorter one gets a warning.
const USUAL_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// A `max_age` below this gets a warning: a consumer that is off for a night would lose events.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The most bytes that the headers of an event take, unless its message id is very long.
const HEADERS: u64 = 1024;

/// Returns warnings about settings of the stream that the operator may choose but that can lose events (D1).
/// `max_body` is the largest body of an event in bytes; `consumers` is their number, or `None` if the stream
/// does not exist yet.
pub(super) fn warnings(config: &Config, consumers: Option<usize>, max_body: usize) -> Vec<Finding> {
    let found =
        [risks(config), losses(config, consumers), limits(config, max_body).into_iter().collect()].concat();
    let warning = |(code, text)| Finding::warning(code, format!("stream {} {text}", config.name));
    found.into_iter().map(warning).collect()
}

/// Returns a warning if the server's `max_payload` is too small for the largest event.
pub(super) fn payload_warning(max_payload: usize, max_body: usize) -> Option<Finding> {
    let too_small = (max_payload as u64) < max_body as u64 + HEADERS;
    let message = || {
        format!(
            "the NATS server takes no event above {max_payload} bytes, headers included, and source.max_body allows \
             {max_body}: larger ones become dead letters; raise its max_payload"
        )
    };
    too_small.then(|| Finding::warning(codes::NATS_MAX_PAYLOAD_SMALL, message()))
}

/// What is wrong with a stream: the code, and the text after its name.
type StreamRisk = (Code, String);

/// Returns the settings that can lose events when servers fail.
fn risks(config: &Config) -> Vec<StreamRisk> {
    let mut found = Vec::new();
    let mut add = |code, text: &str| found.push((code, text.to_owned()));
    if config.storage == StorageType::Memory {
        add(
            codes::NATS_STREAM_IN_MEMORY,
            "is kept in memory: what it acknowledges is lost when its servers stop; keep it in files",
        );
    }
    if config.persist_mode == Some(PersistenceMode::Async) {
        add(
            codes::NATS_PERSIST_ASYNC,
            "acknowledges before it has written (persist_mode async): a crash loses events; set persist_mode default",
        );
    }
    if config.num_replicas < 2 {
        add(
            codes::NATS_ONE_REPLICA,
            "has one replica: the loss of its server loses events, and so does a power cut unless the server has \
             sync_interval: always, since by default it syncs to disk every two minutes; give it three replicas",
        );
    }
    if config.num_replicas == 2 {
        add(
            codes::NATS_TWO_REPLICAS,
            "has two replicas: it stores no event while one of its servers is away; give it three",
        );
    }
    found.extend(doubles(config));
    found
}

/// Returns a warning if little prevents doubles. Where events stay after they were consumed, the duplicate window
/// must only cover an event that arrives after the sink has read the stream.
fn doubles(config: &Config) -> Option<StreamRisk> {
    let window = humantime::format_duration(config.duplicate_window);
    match config.retention {
        RetentionPolicy::Limits if config.duplicate_window >= USUAL_DUPLICATE_WINDOW => None,
        RetentionPolicy::Limits => Some((
            codes::NATS_DUPLICATE_WINDOW_SHORT,
            format!(
                "knows doubles again for {window} only: an event that was on its way for longer can come twice; raise \
                 its duplicate window"
            ),
        )),
        RetentionPolicy::Interest | RetentionPolicy::WorkQueue => Some((
            codes::NATS_DUPLICATE_WINDOW_ONLY,
            format!(
                "does not keep what was consumed, so that only the duplicate window ({window}) prevents doubles: a \
                 crash or an outage that lasts longer can make some; take retention limits, or a long window"
            ),
        )),
    }
}

/// Returns a warning if the stream refuses events that the source accepts.
fn limits(config: &Config, max_body: usize) -> Option<StreamRisk> {
    let most = u64::try_from(config.max_message_size).ok().filter(|most| *most > 0)?;
    let text = || {
        format!(
            "takes no event above {most} bytes, headers included, and source.max_body allows {max_body}: larger ones \
             become dead letters; raise its max_msg_size"
        )
    };
    (most < max_body as u64 + HEADERS).then(|| (codes::NATS_MAX_MSG_SIZE_SMALL, text()))
}

/// Returns the settings by which the stream deletes events.
fn losses(config: &Config, consumers: Option<usize>) -> Vec<StreamRisk> {
    let mut found = Vec::new();
    if !config.max_age.is_zero() {
        let age = humantime::format_duration(config.max_age);
        let (code, advice) = match config.max_age < DAY {
            true => (
                codes::NATS_MAX_AGE_SHORT,
                ", less than a day: a consumer that is away for a night loses some; raise it",
            ),
            false => (codes::NATS_MAX_AGE, ": let no consumer be away for longer"),
        };
        found.push((code, format!("deletes events after {age} (max_age), consumed or not{advice}")));
    }
    found.extend(deletes(config));
    if config.discard == DiscardPolicy::New
        && config.discard_new_per_subject
        && config.max_messages_per_subject > 0
    {
        let most = config.max_messages_per_subject;
        let text = format!(
            "refuses an event whose subject has {most} already (discard_new_per_subject): the sink is held then; unset \
             max_msgs_per_subject"
        );
        found.push((codes::NATS_FULL_PER_SUBJECT, text));
    }
    found.extend(retention(config, consumers));
    found
}

/// Returns the risk of a retention that deletes consumed events.
fn retention(config: &Config, consumers: Option<usize>) -> Option<StreamRisk> {
    let (code, text) = match (config.retention, consumers) {
        (RetentionPolicy::Interest, Some(0)) => (
            codes::NATS_INTEREST_WITHOUT_CONSUMER,
            "keeps an event only while a consumer wants it (retention interest), and has none: every event vanishes; \
             make a consumer first",
        ),
        (RetentionPolicy::Interest, _) => (
            codes::NATS_INTEREST,
            "keeps an event only while a consumer wants it (retention interest): one that has no consumer vanishes; \
             make each consumer before the bridge starts",
        ),
        (RetentionPolicy::WorkQueue, _) => (
            codes::NATS_WORKQUEUE,
            "deletes an event as soon as one consumer has taken it (retention workqueue): no other sees it; take \
             retention limits for a second one",
        ),
        (RetentionPolicy::Limits, _) => return None,
    };
    Some((code, text.to_owned()))
}

/// Returns the limits by which the stream deletes events, except for the age.
fn deletes(config: &Config) -> Option<StreamRisk> {
    const PER_SUBJECT: &str = "max_msgs_per_subject";
    let old = config.discard == DiscardPolicy::Old;
    let limits = [
        ("max_bytes", old && config.max_bytes > 0),
        ("max_msgs", old && config.max_messages > 0),
        (PER_SUBJECT, !config.discard_new_per_subject && config.max_messages_per_subject > 0),
    ];
    let names: Vec<&str> = limits.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
    let code = match names.as_slice() {
        [] => return None,
        [PER_SUBJECT] => codes::NATS_ONE_PER_SUBJECT,
        _ => codes::NATS_DISCARDS_OLD,
    };
    let by = names.join(", ");
    let text = format!(
        "deletes the oldest events at its limits ({by}), consumed or not: set discard new to hold instead"
    );
    Some((code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn warnings(config: &Config, consumers: Option<usize>, max_body: usize) -> Vec<String> {
        super::warnings(config, consumers, max_body).into_iter().map(|warning| warning.message).collect()
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
            (
                Config { max_messages_per_subject: 1, discard_new_per_subject: true, ..good() },
                "subject has 1 already",
            ),
            (Config { num_replicas: 2, ..good() }, "while one of its servers is away"),
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
        assert!(payload_warning(1 << 20, BODY).unwrap().message.contains("above 1048576 bytes"));
    }
}
