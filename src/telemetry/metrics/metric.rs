//! Defines what a row of the table of metrics has.

use prometheus_client::metrics::MetricType;

use super::super::histogram::Snapshot;
use super::sources::{MetricSamples, MetricSources};

/// A row of the table of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name with its unit, if it has one, but without the suffix of its type.
    pub name: &'static str,
    /// The names of its labels, in the order of the values in its samples.
    pub labels: &'static [&'static str],
    /// The help text for people, of one or two sentences.
    pub help: &'static str,
    /// The type of the metric, and how it is read.
    pub read: Read,
}

/// The type of a metric, with the function that reads its samples when a client asks.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// Only grows; the exported name gets `_total`.
    Counter(fn(&MetricSources) -> MetricSamples<u64>),
    /// A counter of seconds, which has fractions.
    Seconds(fn(&MetricSources) -> MetricSamples<f64>),
    /// Goes up and down between two readings.
    Gauge(fn(&MetricSources) -> MetricSamples<f64>),
    /// Counts in buckets; the exported name gets `_bucket`, `_count` and `_sum`.
    Histogram(fn(&MetricSources) -> MetricSamples<Snapshot>),
    /// Always 1, with the data in its labels, whose values these are; the exported name gets `_info`.
    Info(&'static [&'static str]),
}

impl Metric {
    pub(super) fn kind(&self) -> MetricType {
        match self.read {
            Read::Counter(_) | Read::Seconds(_) => MetricType::Counter,
            Read::Gauge(_) => MetricType::Gauge,
            Read::Histogram(_) => MetricType::Histogram,
            Read::Info(_) => MetricType::Info,
        }
    }

    /// Returns the exported name, as queries use it.
    pub fn queried(&self) -> String {
        match self.read {
            Read::Counter(_) | Read::Seconds(_) => format!("{}_total", self.name),
            Read::Info(_) => format!("{}_info", self.name),
            Read::Gauge(_) | Read::Histogram(_) => self.name.to_owned(),
        }
    }
}
