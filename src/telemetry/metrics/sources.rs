//! Reads the samples of metrics: one for the whole bridge, for each queue, or for each sink of a queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::Telemetry;
use super::super::counters::{SubscriptionCounters, WorkerCounters};
use super::super::health::Health;
use super::super::status::Status;
use crate::budget::Shares;
use crate::tls::{Expiry, shown_certificates};

/// The values of a metric, each with the values of its labels.
pub type MetricSamples<T> = Vec<(Vec<String>, T)>;

/// The parts of a bridge that have the values of its metrics.
#[derive(Debug)]
pub struct MetricSources {
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) health: Health,
    pub(super) budgets: Shares,
    pub(super) started: SystemTime,
}

impl MetricSources {
    pub(super) fn queues<T>(&self, read: fn(&SubscriptionCounters) -> T) -> MetricSamples<T> {
        let queues = self.telemetry.counters.all().into_iter();
        queues.map(|(queue, source)| (vec![queue], read(&source))).collect()
    }

    pub(super) fn sinks<T>(&self, read: fn(&WorkerCounters) -> T) -> MetricSamples<T> {
        let sinks = |(queue, source): (String, Arc<SubscriptionCounters>)| {
            let sinks = source.workers.all().into_iter();
            sinks.map(move |(sink, worker)| (vec![queue.clone(), sink], read(&worker)))
        };
        self.telemetry.counters.all().into_iter().flat_map(sinks).collect()
    }

    /// Returns a sample for each part and each word that a state can have.
    pub(super) fn states(&self) -> MetricSamples<f64> {
        let words = |(part, state, _): (String, Status, _)| {
            Status::WORDS
                .map(|word| (vec![part.clone(), word.to_owned()], f64::from(u8::from(word == state.word()))))
        };
        self.telemetry.statuses.all().into_iter().flat_map(words).collect()
    }
}

/// Returns the only sample of a metric without labels, or none if its value is unknown.
pub(super) fn single<T>(value: impl Into<Option<T>>) -> MetricSamples<T> {
    value.into().map(|value| (Vec::new(), value)).into_iter().collect()
}

/// Returns when each certificate expires that a connection has shown. Of two with the same name, the first to expire
/// counts.
pub(super) fn certificates() -> MetricSamples<f64> {
    let mut earliest = BTreeMap::new();
    for (table, host, Expiry { subject, not_after }) in shown_certificates() {
        let connection = table.strip_suffix(".tls").unwrap_or(&table).to_owned();
        let expiry = earliest.entry(vec![connection, host, subject]).or_insert(not_after);
        *expiry = not_after.min(*expiry);
    }
    earliest.into_iter().map(|(labels, not_after)| (labels, not_after as f64)).collect()
}

/// Keeps a sample if its value is known.
pub(super) fn known<T>((labels, value): (Vec<String>, Option<T>)) -> Option<(Vec<String>, T)> {
    Some((labels, value?))
}

/// Turns times in milliseconds since 1970 into seconds; 0 is an unknown time.
pub(super) fn times(samples: MetricSamples<u64>) -> MetricSamples<f64> {
    let times = samples.into_iter().filter(|(_, millis)| *millis > 0);
    times.map(|(labels, millis)| (labels, millis as f64 / 1000.0)).collect()
}

/// Splits each sample into one for each word that was counted, with the word as its last label.
pub(super) fn by_word(samples: MetricSamples<Vec<(&'static str, u64)>>) -> MetricSamples<u64> {
    let split = |(labels, counts): (Vec<String>, Vec<(&'static str, u64)>)| {
        let words = counts.into_iter();
        words.map(move |(word, count)| ([&labels[..], &[word.to_owned()]].concat(), count))
    };
    samples.into_iter().flat_map(split).collect()
}
