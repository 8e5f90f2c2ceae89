//! Writes all metrics as OpenMetrics text. Values are read when a client asks, so the event path pays only
//! for its counters.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Telemetry;
use super::counters::{SubscriptionCounters, WorkerCounters};
use super::health::Health;
use super::histogram::Snapshot;
use super::metrics::{self, Metric, MetricKind};
use super::process::ProcessStats;
use super::status::Status;
use crate::budget::Shares;

/// The exporter that writes the page `/metrics`.
#[derive(Debug)]
pub struct Exporter(Registry);

impl Exporter {
    /// Creates the exporter for one bridge, whose events take their memory from `budgets`.
    pub fn new(telemetry: Arc<Telemetry>, health: Health, budgets: Shares) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(BridgeMetrics {
            telemetry,
            health,
            budgets,
            started: SystemTime::now(),
        }));
        Self(registry)
    }

    /// Returns the page with all metrics.
    ///
    /// # Errors
    /// A value can't be written.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut page = String::with_capacity(16 * 1024);
        text::encode(&mut page, &self.0)?;
        Ok(page)
    }
}

#[derive(Debug)]
struct BridgeMetrics {
    telemetry: Arc<Telemetry>,
    health: Health,
    budgets: Shares,
    started: SystemTime,
}

impl Collector for BridgeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.whole(&mut encoder)?;
        self.sources(&mut encoder)?;
        self.workers(&mut encoder)?;
        self.process(&mut encoder)
    }
}

impl BridgeMetrics {
    fn whole(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        family(encoder, &metrics::BUILD)?.info(&[env!("CARGO_PKG_VERSION")])?;
        let ready = self.health.not_ready().is_empty();
        family(encoder, &metrics::READY)?.gauge(&[], f64::from(u8::from(ready)))?;
        let mut states = family(encoder, &metrics::STATE)?;
        for (part, state, _) in self.telemetry.statuses.all() {
            for word in Status::WORDS {
                states.gauge(&[&part, word], f64::from(u8::from(word == state.word())))?;
            }
        }
        let bytes = self.budgets.used();
        family(encoder, &metrics::IN_FLIGHT_BYTES)?.gauge(&[], bytes as f64)
    }

    fn sources(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.telemetry.counters.subscriptions();
        type Count = fn(&SubscriptionCounters) -> u64;
        let counts: [(_, Count); 5] = [
            (&metrics::SESSIONS, |source| source.sessions.get()),
            (&metrics::RECEIVED, |source| source.received.get()),
            (&metrics::REDELIVERED, |source| source.redelivered.get()),
            (&metrics::REPAIRED, |source| source.repaired.get()),
            (&metrics::ACKED, |source| source.acked.get()),
        ];
        for (metric, count) in counts {
            let mut family = family(encoder, metric)?;
            all.iter().try_for_each(|(queue, source)| family.counter(&[queue], count(source)))?;
        }
        let mut reconnects = family(encoder, &metrics::RECONNECTS)?;
        for (queue, source) in &all {
            for (cause, count) in source.reconnects.all() {
                reconnects.counter(&[queue, cause], count)?;
            }
        }
        let mut in_flight = family(encoder, &metrics::IN_FLIGHT)?;
        all.iter()
            .try_for_each(|(queue, source)| in_flight.gauge(&[queue], source.in_flight.get() as f64))?;
        let mut oldest = family(encoder, &metrics::OLDEST)?;
        let now = Instant::now();
        all.iter().try_for_each(|(queue, source)| {
            let age = source.oldest.get().map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
            oldest.gauge(&[queue], age)
        })
    }

    fn workers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.telemetry.counters.subscriptions();
        let workers = |(queue, source): &(String, Arc<SubscriptionCounters>)| {
            let workers = source.workers().into_iter();
            workers.map(|(sink, worker)| (queue.clone(), sink, worker)).collect::<Vec<_>>()
        };
        let all: Vec<_> = all.iter().flat_map(workers).collect();
        type Count = fn(&WorkerCounters) -> u64;
        let counts: [(_, Count); 3] = [
            (&metrics::SETTLED, WorkerCounters::settled),
            (&metrics::SUPPRESSED, |worker| worker.suppressed.get()),
            (&metrics::RETRIED, |worker| worker.retried.get()),
        ];
        for (metric, count) in counts {
            let mut family = family(encoder, metric)?;
            all.iter().try_for_each(|(queue, sink, worker)| family.counter(&[queue, sink], count(worker)))?;
        }
        let mut dead = family(encoder, &metrics::DEAD_LETTERED)?;
        for (queue, sink, worker) in &all {
            for (reason, count) in worker.dead_lettered.all() {
                dead.counter(&[queue, sink, reason], count)?;
            }
        }
        let mut settling = family(encoder, &metrics::SETTLING)?;
        all.iter().try_for_each(|(queue, sink, worker)| {
            settling.histogram(&[queue, sink], &worker.settling.snapshot())
        })
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        family(encoder, &metrics::STARTED)?.gauge(&[], started.as_secs_f64())?;
        let process = ProcessStats::look();
        let mut processor = family(encoder, &metrics::PROCESSOR)?;
        process.processor.map_or(Ok(()), |seconds| processor.counter(&[], seconds))?;
        let mut memory = family(encoder, &metrics::MEMORY)?;
        process.memory.map_or(Ok(()), |bytes| memory.gauge(&[], bytes as f64))?;
        let mut descriptors = family(encoder, &metrics::DESCRIPTORS)?;
        process.descriptors.map_or(Ok(()), |count| descriptors.gauge(&[], count as f64))
    }
}

/// Begins one metric. The encoder allows only one at a time.
fn family<'a>(encoder: &'a mut DescriptorEncoder<'_>, metric: &'a Metric) -> Result<Family<'a>, fmt::Error> {
    let kind = match metric.kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
        MetricKind::Info => MetricType::Info,
    };
    let encoder = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
    Ok(Family { encoder, labels: metric.labels })
}

/// One metric, with a sample for each set of labels.
struct Family<'a> {
    encoder: MetricEncoder<'a>,
    labels: &'static [&'static str],
}

impl Family<'_> {
    /// Returns the labels of a sample: one value for each label name of the metric.
    fn named<'v>(&self, values: &[&'v str]) -> Vec<(&'static str, &'v str)> {
        debug_assert_eq!(values.len(), self.labels.len());
        self.labels.iter().copied().zip(values.iter().copied()).collect()
    }

    fn with(
        &mut self,
        values: &[&str],
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let labels = self.named(values);
        if labels.is_empty() {
            write(&mut self.encoder)
        } else {
            write(&mut self.encoder.encode_family(&labels)?)
        }
    }

    fn counter(
        &mut self,
        values: &[&str],
        count: impl prometheus_client::encoding::EncodeCounterValue,
    ) -> fmt::Result {
        self.with(values, |encoder| encoder.encode_counter::<NoLabelSet, _, u64>(&count, None))
    }

    fn gauge(&mut self, values: &[&str], value: f64) -> fmt::Result {
        self.with(values, |encoder| encoder.encode_gauge(&value))
    }

    fn info(&mut self, values: &[&str]) -> fmt::Result {
        let labels = self.named(values);
        self.encoder.encode_info(&labels)
    }

    fn histogram(&mut self, values: &[&str], snapshot: &Snapshot) -> fmt::Result {
        let Snapshot { sum, count, buckets } = snapshot;
        self.with(values, |encoder| encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None))
    }
}
