//! Writes all metrics as OpenMetrics text. Values are read when a client asks, so the event path pays only
//! for its counters.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::registry::Registry;

use super::super::Telemetry;
use super::super::health::Health;
use super::super::histogram::Snapshot;
use super::metric::{Metric, Read};
use super::sources::{MetricSamples, MetricSources};
use super::table::ALL;
use crate::budget::Shares;

/// Writes the page `/metrics` in the text format of Prometheus.
#[derive(Debug)]
pub struct MetricsPage(Registry);

impl MetricsPage {
    /// Creates the page of one bridge, whose events take their memory from `budgets`.
    pub fn new(telemetry: Arc<Telemetry>, health: Health, budgets: Shares) -> Self {
        let mut registry = Registry::default();
        let started = SystemTime::now();
        registry.register_collector(Box::new(MetricSources { telemetry, health, budgets, started }));
        Self(registry)
    }

    /// Returns the page with the current values.
    ///
    /// # Errors
    /// A value can't be written.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut page = String::with_capacity(16 * 1024);
        text::encode(&mut page, &self.0)?;
        Ok(page)
    }
}

impl Collector for MetricSources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        ALL.iter().try_for_each(|metric| metric.encode(self, &mut encoder))
    }
}

impl Metric {
    fn encode(&self, sources: &MetricSources, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut encoder = encoder.encode_descriptor(self.name, self.help, None, self.kind())?;
        match self.read {
            Read::Counter(read) => self.samples(encoder, read(sources), |encoder, count| {
                encoder.encode_counter::<NoLabelSet, _, u64>(&count, None)
            }),
            Read::Seconds(read) => self.samples(encoder, read(sources), |encoder, seconds| {
                encoder.encode_counter::<NoLabelSet, _, u64>(&seconds, None)
            }),
            Read::Gauge(read) => {
                self.samples(encoder, read(sources), |encoder, value| encoder.encode_gauge(&value))
            }
            Read::Histogram(read) => {
                self.samples(encoder, read(sources), |encoder, Snapshot { sum, count, buckets }| {
                    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
                })
            }
            Read::Info(values) => {
                let labels: Vec<_> = self.labels.iter().copied().zip(values.iter().copied()).collect();
                encoder.encode_info(&labels)
            }
        }
    }

    fn samples<T>(
        &self,
        mut encoder: MetricEncoder<'_>,
        samples: MetricSamples<T>,
        write: impl Fn(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        for (values, value) in samples {
            debug_assert_eq!(values.len(), self.labels.len());
            if values.is_empty() {
                write(&mut encoder, value)?;
            } else {
                let labels: Vec<_> = self.labels.iter().copied().zip(values).collect();
                write(&mut encoder.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }
}
