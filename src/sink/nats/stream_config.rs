//! Defines the table `[sinks.<name>.create_stream]`, which describes how a missing stream is created.

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostics;
use crate::units::{Period, Size};

/// Makes the stream if it is missing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// Whether a missing stream is made. One that exists is checked, and never changed.
    pub enabled: bool,
    /// Its subjects. Unset: that of the events, with `*` for what differs among them.
    pub subjects: Vec<String>,
    /// Where the server keeps it.
    pub storage: Storage,
    /// On how many servers of a cluster. Take 3, so that the loss of one loses nothing.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u32,
    /// How long it keeps an event.
    pub retention: Retention,
    /// What gives way at its limits. `new` holds the bridge and loses nothing; `old` deletes what consumers
    /// may not have seen.
    pub discard: Discard,
    /// The most bytes. Unset: no limit.
    #[schemars(example = &"100GiB")]
    pub max_bytes: Option<Size>,
    /// The most events. Unset: no limit.
    #[schemars(range(min = 1), example = &1_000_000_000)]
    pub max_messages: Option<u64>,
    /// The greatest age of an event. Unset: no limit.
    #[schemars(example = &"7days")]
    pub max_age: Option<Period>,
    /// The largest event, headers included; a larger one becomes a dead letter. Unset: what the server takes.
    #[schemars(example = &"1MiB")]
    pub max_message_size: Option<Size>,
    /// For how long the stream knows an event again that comes twice, as after a crash of the bridge.
    pub duplicate_window: Period,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            subjects: Vec::new(),
            storage: Storage::default(),
            replicas: 1,
            retention: Retention::default(),
            discard: Discard::default(),
            max_bytes: None,
            max_messages: None,
            max_age: None,
            max_message_size: None,
            duplicate_window: Period::secs(10 * 60),
        }
    }
}

/// Where a stream is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// On the disks of the servers.
    #[default]
    File,
    /// In memory: lost when the servers stop.
    Memory,
}

/// How long a stream keeps an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Retention {
    /// Until a limit is reached.
    #[default]
    Limits,
    /// Until every consumer has acknowledged it; with no consumer not at all.
    Interest,
    /// Until one consumer has acknowledged it.
    Workqueue,
}

/// What gives way at a stream's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Discard {
    /// The oldest event, which is then lost to consumers that have not read it.
    Old,
    /// The newest, which the bridge then holds.
    #[default]
    New,
}

impl StreamConfig {
    /// Reports the values that no server accepts.
    pub(super) fn check(&self, diagnostics: &mut Diagnostics) {
        if !(1..=5).contains(&self.replicas) {
            diagnostics.refuse("create_stream.replicas", "must be from 1 to 5");
        }
        if self.max_messages == Some(0) || self.max_messages.is_some_and(|most| i64::try_from(most).is_err())
        {
            diagnostics.refuse("create_stream.max_messages", "must be at least 1; unset it for no limit");
        }
        if self.max_bytes.is_some_and(|most| most.0 == 0 || i64::try_from(most.0).is_err()) {
            diagnostics.refuse("create_stream.max_bytes", "must be at least 1; unset it for no limit");
        }
        if self.max_message_size.is_some_and(|most| most.0 == 0 || i32::try_from(most.0).is_err()) {
            diagnostics.refuse("create_stream.max_message_size", "must be from 1 to 2147483647 bytes");
        }
        if self.max_age.is_some_and(|age| age < self.duplicate_window) {
            diagnostics.refuse("create_stream.max_age", "must not be shorter than duplicate_window");
        }
        if self.duplicate_window < Period::secs(1) {
            diagnostics
                .refuse("create_stream.duplicate_window", "is too short: at least `1s`, better `10min`");
        }
    }

    /// Makes the request for the server; `pattern` is the subject of the events.
    pub(super) fn config(&self, name: &str, pattern: String) -> Config {
        let number = |limit: Option<u64>| limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1);
        let size = self.max_message_size.and_then(|size| i32::try_from(size.0).ok());
        Config {
            name: name.to_owned(),
            subjects: if self.subjects.is_empty() { vec![pattern] } else { self.subjects.clone() },
            storage: match self.storage {
                Storage::File => StorageType::File,
                Storage::Memory => StorageType::Memory,
            },
            retention: match self.retention {
                Retention::Limits => RetentionPolicy::Limits,
                Retention::Interest => RetentionPolicy::Interest,
                Retention::Workqueue => RetentionPolicy::WorkQueue,
            },
            discard: match self.discard {
                Discard::Old => DiscardPolicy::Old,
                Discard::New => DiscardPolicy::New,
            },
            num_replicas: usize::try_from(self.replicas).unwrap_or(1),
            max_bytes: number(self.max_bytes.map(|size| size.0)),
            max_messages: number(self.max_messages),
            max_age: self.max_age.map(|age| age.0).unwrap_or_default(),
            max_message_size: size.unwrap_or(-1),
            duplicate_window: self.duplicate_window.0,
            max_messages_per_subject: -1,
            max_consumers: -1,
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &StreamConfig) -> Vec<String> {
        let mut diagnostics = Diagnostics::default();
        config.check(&mut diagnostics);
        diagnostics.problems().iter().map(|problem| problem.key.clone()).collect()
    }

    #[test]
    fn what_no_server_takes_is_refused() {
        assert_eq!(problems(&StreamConfig::default()), [""; 0]);
        let wrong = StreamConfig {
            replicas: 0,
            max_messages: Some(0),
            max_bytes: Some(Size(u64::MAX)),
            max_message_size: Some(Size(1 << 40)),
            max_age: Some(Period::secs(1)),
            ..StreamConfig::default()
        };
        let expected = ["replicas", "max_messages", "max_bytes", "max_message_size", "max_age"];
        assert_eq!(problems(&wrong), expected.map(|key| format!("create_stream.{key}")));
        let short = StreamConfig { duplicate_window: Period::millis(5), ..StreamConfig::default() };
        assert_eq!(problems(&short), ["create_stream.duplicate_window"]);
    }

    #[test]
    fn by_default_it_takes_the_events_and_deletes_none() {
        let config = StreamConfig::default().config("EVENTS", "e.*".to_owned());
        assert_eq!(config.subjects, ["e.*"]);
        assert_eq!((config.discard, config.storage), (DiscardPolicy::New, StorageType::File));
        assert_eq!((config.max_bytes, config.max_messages, config.max_age.as_secs()), (-1, -1, 0));
    }
}
