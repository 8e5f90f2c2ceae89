//! Lists every metric, one row each, in the order of the pages.

use std::time::SystemTime;

use super::super::counters::WorkerCounters;
use super::super::process;
use super::metric::Metric;
use super::metric::Read::{Counter, Gauge, Histogram, Info, Seconds};
use super::sources::{by_word, certificates, known, single, times};

/// Labels of the metrics of a source.
const QUEUE: &[&str] = &["queue"];
/// Labels of the metrics of a sink worker.
const SINK: &[&str] = &["queue", "sink"];

/// All metrics, in the order of the pages.
pub const ALL: [Metric; 31] = [
    Metric {
        name: "atdata_bridge_build",
        labels: &["version"],
        help: "The version that runs.",
        read: Info(&[env!("CARGO_PKG_VERSION")]),
    },
    Metric {
        name: "atdata_bridge_ready",
        labels: &[],
        help: "1 while /readyz answers 200, else 0.",
        read: Gauge(|of| single(f64::from(u8::from(of.health.not_ready().is_empty())))),
    },
    Metric {
        name: "atdata_bridge_part_state",
        labels: &["part", "state"],
        help: "1 for the state that a part is in, 0 for the others: ready, starting, retrying (passes by \
               itself), held (somebody must act). Parts are the source, the events, each sink, the dead \
               letters, admin.",
        read: Gauge(|of| of.states()),
    },
    Metric {
        name: "atdata_bridge_sessions",
        labels: QUEUE,
        help: "Sessions begun: connected and subscribed.",
        read: Counter(|of| of.queues(|source| source.sessions.get())),
    },
    Metric {
        name: "atdata_bridge_reconnects",
        labels: &["queue", "cause"],
        help: "Sessions that ended or could not begin, each of which is followed by another try, by cause.",
        read: Counter(|of| by_word(of.queues(|source| source.reconnects.all()))),
    },
    Metric {
        name: "atdata_bridge_events_received",
        labels: QUEUE,
        help: "Events received from the broker, redelivered ones included.",
        read: Counter(|of| of.queues(|source| source.received.get())),
    },
    Metric {
        name: "atdata_bridge_event_age_at_receipt_seconds",
        labels: QUEUE,
        help: "Age of an event when it was received, from the broker's timestamp: how far the bridge is behind. \
               A timestamp ahead of the bridge's clock counts as age 0.",
        read: Histogram(|of| of.queues(|source| source.ages.snapshot())),
    },
    Metric {
        name: "atdata_bridge_events_ahead",
        labels: QUEUE,
        help: "Events whose timestamp was more than a second ahead of the bridge's clock: one of the two clocks is \
               wrong, and so are the ages.",
        read: Counter(|of| of.queues(|source| source.ahead.get())),
    },
    Metric {
        name: "atdata_bridge_last_received_timestamp_seconds",
        labels: QUEUE,
        help: "When the last event was received, in seconds since 1970, UTC; from the first event on.",
        read: Gauge(|of| times(of.queues(|source| source.last_received.get()))),
    },
    Metric {
        name: "atdata_bridge_last_event_timestamp_seconds",
        labels: QUEUE,
        help: "The broker's timestamp of the last event that has one, in seconds since 1970, UTC; from the first \
               such event on.",
        read: Gauge(|of| times(of.queues(|source| source.last_sent.get()))),
    },
    Metric {
        name: "atdata_bridge_events_redelivered",
        labels: QUEUE,
        help: "Events taken that the broker had marked as delivered before.",
        read: Counter(|of| of.queues(|source| source.redelivered.get())),
    },
    Metric {
        name: "atdata_bridge_events_repaired",
        labels: QUEUE,
        help: "Events in which the CESU-8 of an old broker was repaired to UTF-8.",
        read: Counter(|of| of.queues(|source| source.repaired.get())),
    },
    Metric {
        name: "atdata_bridge_events_acked",
        labels: QUEUE,
        help: "Events acknowledged to the broker.",
        read: Counter(|of| of.queues(|source| source.acked.get())),
    },
    Metric {
        name: "atdata_bridge_in_flight_events",
        labels: QUEUE,
        help: "Events taken in the present session and not acknowledged; at most source.prefetch.",
        read: Gauge(|of| of.queues(|source| source.in_flight.get() as f64)),
    },
    Metric {
        name: "atdata_bridge_in_flight_bytes",
        labels: &[],
        help: "Memory that events on the way take, all subscriptions together; bounded by \
               source.max_in_flight.",
        read: Gauge(|of| single(of.budgets.used() as f64)),
    },
    Metric {
        name: "atdata_bridge_oldest_unacked_age_seconds",
        labels: QUEUE,
        help: "Age of the oldest event that is not acknowledged, since it was received; 0 when there is \
               none.",
        read: Gauge(|of| {
            of.queues(|source| source.oldest.get().map_or(0.0, |received| received.elapsed().as_secs_f64()))
        }),
    },
    Metric {
        name: "atdata_bridge_behind_seconds",
        labels: QUEUE,
        help: "How far the bridge is behind: the age of the oldest event that is not acknowledged, from the broker's \
               timestamp; 0 when there is none, below 0 when that clock is ahead. No sample while the bridge is not \
               subscribed, or if that event has no timestamp.",
        read: Gauge(|of| of.queues(|source| source.behind()).into_iter().filter_map(known).collect()),
    },
    Metric {
        name: "atdata_bridge_events_settled",
        labels: SINK,
        help: "Events that a sink is done with: durable there, durable in the dead letters, or held by it \
               already.",
        read: Counter(|of| of.sinks(WorkerCounters::settled)),
    },
    Metric {
        name: "atdata_bridge_events_dead_lettered",
        labels: &["queue", "sink", "reason"],
        help: "Of the settled: those that became dead letters, by reason.",
        read: Counter(|of| by_word(of.sinks(|worker| worker.dead_lettered.all()))),
    },
    Metric {
        name: "atdata_bridge_events_suppressed",
        labels: SINK,
        help: "Of the settled: those that came again, and that the sink held already, so that it got no \
               duplicate.",
        read: Counter(|of| of.sinks(|worker| worker.suppressed.get())),
    },
    Metric {
        name: "atdata_bridge_events_retried",
        labels: SINK,
        help: "Events handed over to a sink once more, since it had not made them durable.",
        read: Counter(|of| of.sinks(|worker| worker.retried.get())),
    },
    Metric {
        name: "atdata_bridge_receive_to_settled_seconds",
        labels: SINK,
        help: "Time from the receipt of an event until it was durable in the sink or the dead letters.",
        read: Histogram(|of| of.sinks(|worker| worker.settling.snapshot())),
    },
    Metric {
        name: "atdata_bridge_event_age_at_durable_seconds",
        labels: SINK,
        help: "Age of an event when it was durable in the sink or the dead letters, from the broker's timestamp.",
        read: Histogram(|of| of.sinks(|worker| worker.ages.snapshot())),
    },
    Metric {
        name: "atdata_bridge_claim_seconds",
        labels: SINK,
        help: "Time that a sink took to name the newest events that it holds, so that they are not written \
               again after a crash. A sink that can't tell has no such time.",
        read: Histogram(|of| of.sinks(|worker| worker.claiming.snapshot())),
    },
    Metric {
        name: "atdata_bridge_claim_events",
        labels: SINK,
        help: "Events that a sink named when it was asked last what it holds.",
        read: Gauge(|of| of.sinks(|worker| worker.claimed.get() as f64)),
    },
    Metric {
        name: "atdata_bridge_claims_failed",
        labels: SINK,
        help: "Times that a sink could not be asked what it holds; it is asked again before anything is \
               written.",
        read: Counter(|of| of.sinks(|worker| worker.claims_failed.get())),
    },
    Metric {
        name: "atdata_bridge_certificate_expiry_timestamp_seconds",
        labels: &["connection", "host", "subject"],
        help: "When a certificate expires that a connection showed last, in seconds since 1970, UTC. The host is empty \
               for the bridge's own certificate.",
        read: Gauge(|_| certificates()),
    },
    Metric {
        name: "process_start_time_seconds",
        labels: &[],
        help: "When the process started, in seconds since 1970, UTC.",
        read: Gauge(|of| {
            let since = of.started.duration_since(SystemTime::UNIX_EPOCH);
            single(since.unwrap_or_default().as_secs_f64())
        }),
    },
    Metric {
        name: "process_cpu_seconds",
        labels: &[],
        help: "Processor time that the process has taken, in user and kernel mode.",
        read: Seconds(|_| single(process::processor_seconds())),
    },
    Metric {
        name: "process_resident_memory_bytes",
        labels: &[],
        help: "Memory that the process takes (resident set).",
        read: Gauge(|_| single(process::memory().map(|bytes| bytes as f64))),
    },
    Metric {
        name: "process_open_fds",
        labels: &[],
        help: "Files and sockets that the process has open.",
        read: Gauge(|_| single(process::descriptors().map(|count| count as f64))),
    },
];
