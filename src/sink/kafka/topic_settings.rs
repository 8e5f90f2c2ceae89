//! Reads the topic's own settings, and warns of those that would lose or refuse events.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::client_threads::{THREADS, ThreadGroup};
use super::names::Names;
use super::settings::KafkaSettings;
use super::topic::Topic;
use crate::finding::{Finding, codes};

/// With a shorter retention events are deleted before a person notices an outage of the readers.
const SHORT_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// A clock may differ from another by this much before anybody notices. A topic that allows less gets a warning.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5 * 60);

/// The settings of the topic, as far as the bridge may read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TopicSettings {
    /// Whether the brokers have told the settings.
    pub(super) is_known: bool,
    compacts: bool,
    /// How long events stay, if they are deleted at all.
    retention: Option<Duration>,
    /// How many bytes of a partition stay, if older ones are deleted.
    retention_bytes: Option<u64>,
    /// How far the timestamp of a record may be before the clock of the broker, and behind it.
    timestamps: [Option<Duration>; 2],
    /// The compression of stored batches, unless it is that of the producer.
    compression: Option<String>,
    unclean_election: bool,
    min_in_sync: Option<usize>,
    /// The largest record that the topic takes, in bytes (`max.message.bytes`).
    record_bytes: Option<usize>,
}

impl TopicSettings {
    /// Asks the brokers. Without the permission to describe the topic's settings the result is empty. Asks in a
    /// thread of its own, because dropping a client waits for the client's threads, for as long as the
    /// resolution of a name takes.
    pub(super) async fn ask(settings: &Arc<KafkaSettings>) -> Self {
        let within = settings.optional_answer_within;
        let (answer, asked) = oneshot::channel();
        let (runtime, settings) = (Handle::current(), Arc::clone(settings));
        let ask = move || {
            // If nobody waits any more, the connection goes on without the settings.
            drop(answer.send(runtime.block_on(Self::asked(&settings))));
        };
        let thread = THREADS.one_more(&ThreadGroup::default());
        // A thread that does not start drops its end of the channel.
        let _started = thread.start("kafka topic settings".to_owned(), ask);
        timeout(within, asked).await.ok().and_then(Result::ok).flatten().unwrap_or_default()
    }

    async fn asked(settings: &KafkaSettings) -> Option<Self> {
        let (client_id, batch_bytes) = ("atdata-bridge-check", settings.client.batch_bytes());
        let config = settings.client.config(client_id, batch_bytes, Duration::ZERO);
        let admin: AdminClient<DefaultClientContext> = config.create().ok()?;
        let options = AdminOptions::new().request_timeout(Some(2 * settings.optional_answer_within));
        let topic = ResourceSpecifier::Topic(&settings.topic);
        let answer = admin.describe_configs([&topic], &options).await.ok()?;
        let found = answer.into_iter().next()?.ok()?;
        Some(Self::from_values(|name| found.get(name).and_then(|entry| entry.value.as_deref())))
    }

    /// Returns `min.insync.replicas`, if it is known.
    pub(super) fn min_in_sync(&self) -> Option<usize> {
        self.min_in_sync
    }

    fn from_values<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Self {
        let policies: Vec<&str> =
            value("cleanup.policy").unwrap_or_default().split(',').map(str::trim).collect();
        let number = |name: &str| value(name).and_then(|value| value.parse().ok());
        // A negative value means for ever.
        let positive = |name: &str| value(name).and_then(|value| value.parse::<u64>().ok());
        let deletes = policies.contains(&"delete");
        let millis = |name: &str| positive(name).map(Duration::from_millis);
        let compression = value("compression.type").filter(|compression| *compression != "producer");
        Self {
            // A login that may not see the settings gets none.
            is_known: value("cleanup.policy").is_some(),
            compacts: policies.contains(&"compact"),
            retention: millis("retention.ms").filter(|_| deletes),
            retention_bytes: positive("retention.bytes").filter(|_| deletes),
            timestamps: ["message.timestamp.before.max.ms", "message.timestamp.after.max.ms"].map(millis),
            compression: compression.map(str::to_owned),
            unclean_election: value("unclean.leader.election.enable") == Some("true"),
            min_in_sync: number("min.insync.replicas"),
            record_bytes: number("max.message.bytes"),
        }
    }

    /// Returns a warning for each setting that should change. The sink sends records of at most `sent` bytes,
    /// and the source accepts bodies of at most `max_body` bytes.
    pub(super) fn warnings(
        &self,
        topic: &Topic,
        names: &Names,
        sent: usize,
        max_body: usize,
    ) -> Vec<Finding> {
        let name = &names.topic;
        let mut warnings = Vec::new();
        let mut warn = |code, message| warnings.push(Finding::warning(code, message));
        if self.compacts {
            let message = format!(
                "the topic {name} is compacted: of all events with the same key only the last is kept; set its \
                 cleanup.policy to delete"
            );
            warn(codes::KAFKA_COMPACTED_TOPIC, message);
        }
        if let Some(retention) = self.retention
            && retention < SHORT_RETENTION
        {
            let message = format!(
                "the topic {name} deletes events after {}: an outage of its readers that lasts longer loses \
                 them; raise its retention.ms",
                humantime::format_duration(retention)
            );
            warn(codes::KAFKA_SHORT_RETENTION, message);
        }
        if self.unclean_election {
            let message = format!(
                "unclean.leader.election.enable is true for the topic {name}: a broker that lacks events may \
                 become leader, and then they are lost; set it to false"
            );
            warn(codes::KAFKA_UNCLEAN_ELECTION, message);
        }
        if let Some(most) = self.record_bytes
            && most < sent.min(max_body)
        {
            let message = format!(
                "the topic {name} takes records of {most} bytes at most, and source.max_body is {max_body}: events \
                 between them become dead letters; raise max.message.bytes of the topic, or lower source.max_body"
            );
            warn(codes::KAFKA_SMALL_RECORDS, message);
        }
        warnings.extend(self.of_replicas(topic, name));
        warnings.extend(self.of_size(name));
        warnings.extend(self.of_timestamps(name));
        warnings
    }

    fn of_size(&self, name: &str) -> Option<Finding> {
        let bytes = self.retention_bytes?;
        let message = format!(
            "the topic {name} keeps {bytes} bytes of a partition and deletes what is older, read or not; set its \
             retention.bytes to -1 to delete by time only"
        );
        Some(Finding::warning(codes::KAFKA_RETENTION_BYTES, message))
    }

    fn of_timestamps(&self, name: &str) -> Option<Finding> {
        let [before, after] = self.timestamps;
        let limits = [("message.timestamp.before.max.ms", before), ("message.timestamp.after.max.ms", after)];
        let (option, limit) = limits
            .into_iter()
            .find_map(|(option, limit)| Some((option, limit.filter(|limit| *limit < CLOCK_DIFFERENCE)?)))?;
        let message = format!(
            "the topic {name} refuses records whose timestamp differs by more than {} from its clock: a clock that is \
             wrong, or an outage that lasts longer, holds the sink; raise {option}",
            humantime::format_duration(limit)
        );
        Some(Finding::warning(codes::KAFKA_TIMESTAMP_LIMIT, message))
    }

    /// Returns a finding if the brokers compress every batch again, because the sink sends `sent`.
    pub(super) fn recompression(&self, name: &str, sent: &str) -> Option<Finding> {
        let stored = self.compression.as_deref().filter(|stored| *stored != sent)?;
        // What nobody has compressed has another name in a topic than in a producer.
        if (stored, sent) == ("uncompressed", "none") {
            return None;
        }
        let message = format!(
            "the topic {name} stores batches with compression.type {stored}, and the sink sends {sent}: the brokers \
             compress each one again; set compression.type of the topic to producer"
        );
        Some(Finding::warning(codes::KAFKA_RECOMPRESSION, message))
    }

    fn of_replicas(&self, topic: &Topic, name: &str) -> Option<Finding> {
        let replicas = topic.replicas;
        let (code, message) = match self.min_in_sync {
            // Newer brokers require no more replicas than there are; older ones accept nothing.
            Some(least) if least > replicas => (
                codes::KAFKA_TOO_FEW_REPLICAS,
                format!(
                    "min.insync.replicas of the topic {name} is {least}, and its partitions have {replicas} replicas: \
                 older brokers accept no record then, newer ones as if it were {replicas}; lower it, or add replicas"
                ),
            ),
            _ if replicas < 2 => (
                codes::KAFKA_ONE_REPLICA,
                format!(
                    "the partitions of the topic {name} have one replica: events are as durable as one broker's disk"
                ),
            ),
            Some(1) => (
                codes::KAFKA_ONE_IN_SYNC,
                format!(
                    "min.insync.replicas of the topic {name} is 1: an event may be on one broker only when it counts as \
                 delivered; set it to 2"
                ),
            ),
            Some(least) if least == replicas => (
                codes::KAFKA_NO_SPARE_REPLICA,
                format!(
                    "min.insync.replicas of the topic {name} is {least}, as many as its partitions have replicas: no \
                 event is delivered while one broker is away; add a replica, or lower it"
                ),
            ),
            _ => return None,
        };
        Some(Finding::warning(code, message))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn topic(replicas: usize) -> Topic {
        Topic {
            partitions: NonZeroU32::MIN,
            replicas,
            in_sync: (1, 0),
            followers: Vec::new(),
            advertised: Vec::new(),
            brokers: 3,
            round_trip: Duration::ZERO,
            leaders: Vec::new(),
            leaderless: None,
            may_read: None,
        }
    }

    fn topic_settings(values: &[(&str, &'static str)]) -> TopicSettings {
        TopicSettings::from_values(|name| {
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
        })
    }

    fn warned(values: &[(&str, &'static str)], replicas: usize) -> Vec<String> {
        let found = topic_settings(values).warnings(&topic(replicas), &Names::of("t"), 1_000_000, 4 << 20);
        found.into_iter().map(|warning| warning.message).collect()
    }

    #[test]
    fn a_topic_with_kafkas_defaults_and_enough_replicas_has_nothing_to_warn_of() {
        let values = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "604800000"),
            ("unclean.leader.election.enable", "false"),
            ("min.insync.replicas", "2"),
            ("max.message.bytes", "1048588"),
        ];
        assert_eq!(warned(&values, 3), [""; 0]);
        assert_eq!(warned(&[], 3), [""; 0], "nothing is known");
    }

    #[test]
    fn what_loses_holds_or_refuses_events_is_told() {
        for (values, replicas, words) in [
            (&[("cleanup.policy", "compact,delete")][..], 3, "is compacted"),
            (&[("cleanup.policy", "delete"), ("retention.ms", "3600000")], 3, "deletes events after 1h"),
            (&[("unclean.leader.election.enable", "true")], 3, "unclean.leader.election.enable is true"),
            (&[("min.insync.replicas", "1")], 3, "min.insync.replicas of the topic t is 1"),
            (&[("min.insync.replicas", "3")], 3, "no event is delivered while one broker is away"),
            (&[("max.message.bytes", "1000")], 3, "takes records of 1000 bytes at most"),
            (&[("min.insync.replicas", "2")], 1, "newer ones as if it were 1"),
            (&[], 1, "one replica"),
            (
                &[("cleanup.policy", "delete"), ("retention.bytes", "1000")],
                3,
                "keeps 1000 bytes of a partition",
            ),
            (&[("message.timestamp.after.max.ms", "1000")], 3, "by more than 1s from its clock"),
        ] {
            let warnings = warned(values, replicas);
            assert!(warnings.len() == 1 && warnings[0].contains(words), "{values:?}: {warnings:?}");
        }
        let forever = [("cleanup.policy", "delete"), ("retention.ms", "-1")];
        assert_eq!(warned(&forever, 3), [""; 0]);
        let recompressed = |sent| topic_settings(&[("compression.type", "gzip")]).recompression("t", sent);
        assert_eq!(recompressed("gzip"), None);
        assert!(
            recompressed("lz4").is_some_and(|found| found.message.contains("gzip, and the sink sends lz4"))
        );
        let not_deleted = [("cleanup.policy", "compact"), ("retention.ms", "1000")];
        assert_eq!(warned(&not_deleted, 3).len(), 1);
    }
}
