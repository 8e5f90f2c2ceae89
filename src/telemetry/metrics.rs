//! Defines every metric by name, for `/metrics` and `docs/metrics.md`. The names are an interface: each
//! change needs an entry in the changelog.

use std::fmt::Write;

/// The type of a metric, as its reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; the exported name gets `_total`.
    Counter,
    /// Goes up and down between two readings.
    Gauge,
    /// Counts in buckets; the exported name gets `_bucket`, `_count` and `_sum`.
    Histogram,
    /// Always 1, with the data in its labels; the exported name gets `_info`.
    Info,
}

/// The description of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name with its unit, if it has one, but without the suffix of its kind.
    pub name: &'static str,
    /// The type of the metric, which decides the suffix of its name.
    pub kind: MetricKind,
    /// The names of its labels, in the order of their values.
    pub labels: &'static [&'static str],
    /// The help text for people, of one or two sentences.
    pub help: &'static str,
}

const fn metric(
    kind: MetricKind,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, help }
}

/// Labels of the counters of a source.
const QUEUE: &[&str] = &["queue"];
/// Labels of the counters of a sink worker.
const SINK: &[&str] = &["queue", "sink"];

/// The version of the running bridge, as a label.
pub const BUILD: Metric =
    metric(MetricKind::Info, "atdata_bridge_build", &["version"], "The version that runs.");
/// Whether `/readyz` answers 200: 1 or 0.
pub const READY: Metric =
    metric(MetricKind::Gauge, "atdata_bridge_ready", &[], "1 while /readyz answers 200, else 0.");
/// The state of each part in the status registry.
pub const STATE: Metric = metric(
    MetricKind::Gauge,
    "atdata_bridge_part_state",
    &["part", "state"],
    "1 for the state that a part is in, 0 for the others: ready, starting, retrying (passes by itself), held \
     (somebody must act). Parts are the source, the events, each sink, the dead letters, admin.",
);
/// Sessions that were begun, for each queue.
pub const SESSIONS: Metric =
    metric(MetricKind::Counter, "atdata_bridge_sessions", QUEUE, "Sessions begun: connected and subscribed.");
/// Sessions that ended, for each queue and cause.
pub const RECONNECTS: Metric = metric(
    MetricKind::Counter,
    "atdata_bridge_reconnects",
    &["queue", "cause"],
    "Sessions that ended or could not begin, each of which is followed by another try, by cause.",
);
/// Events received, for each queue, with redelivered ones.
pub const RECEIVED: Metric = metric(
    MetricKind::Counter,
    "atdata_bridge_events_received",
    QUEUE,
    "Events received from the broker, redelivered ones included.",
);
/// Events that the broker delivered again, for each queue.
pub const REDELIVERED: Metric = metric(
    MetricKind::Counter,
    "atdata_bridge_events_redelivered",
    QUEUE,
    "Events taken that the broker had marked as delivered before.",
);
/// Events whose text was repaired, for each queue.
pub const REPAIRED: Metric = metric(
    MetricKind::Counter,
    "atdata_bridge_events_repaired",
    QUEUE,
    "Events in which the CESU-8 of an old broker was repaired to UTF-8.",
);
/// Events acknowledged to the broker, for each queue.
pub const ACKED: Metric =
    metric(MetricKind::Counter, "atdata_bridge_events_acked", QUEUE, "Events acknowledged to the broker.");
/// Events taken and not acknowledged, for each queue.
pub const IN_FLIGHT: Metric = metric(
    MetricKind::Gauge,
    "atdata_bridge_in_flight_events",
    QUEUE,
    "Events taken in the present session and not acknowledged; at most source.prefetch.",
);
/// Bytes of memory of all events in flight.
pub const IN_FLIGHT_BYTES: Metric = metric(
    MetricKind::Gauge,
    "atdata_bridge_in_flight_bytes",
    &[],
    "Memory that events on the way take, all subscriptions together; bounded by source.max_in_flight.",
);
/// Age of the oldest un-acked event, in seconds, for each queue.
pub const OLDEST: Metric = metric(
    MetricKind::Gauge,
    "atdata_bridge_oldest_unacked_age_seconds",
    QUEUE,
    "Age of the oldest event that is not acknowledged, since it was received; 0 when there is none.",
);
/// Events settled, for each queue and sink.
pub const SETTLED: Metric = metric(
    MetricKind::Counter,
    "atdata_bridge_events_settled",
    SINK,
    "Events that a sink is done with: durable there, durable in the dead letters, or held by it already.",
);
/// Events written as dead letters, for each queue, sink and reason.
pub const DEAD_LETTERED: Metric = metric(
    MetricKind::Counter,
    "atdata_bridge_events_dead_lettered",
    &["queue", "sink", "reason"],
    "Of the settled: those that became dead letters, by reason.",
);
/// Events not handed over because the sink held them already, for each queue and sink.
pub const SUPPRESSED: Metric = metric(
    MetricKind::Counter,
    "atdata_bridge_events_suppressed",
    SINK,
    "Of the settled: those that came again, and that the sink held already, so that it got no duplicate.",
);
/// Events handed over again, for each queue and sink.
pub const RETRIED: Metric = metric(
    MetricKind::Counter,
    "atdata_bridge_events_retried",
    SINK,
    "Events handed over to a sink once more, since it had not made them durable.",
);
/// Seconds from receipt to settled, for each queue and sink.
pub const SETTLING: Metric = metric(
    MetricKind::Histogram,
    "atdata_bridge_receive_to_settled_seconds",
    SINK,
    "Time from the receipt of an event until it was durable in the sink or the dead letters.",
);
/// Start of the process, in seconds since 1970.
pub const STARTED: Metric = metric(
    MetricKind::Gauge,
    "process_start_time_seconds",
    &[],
    "When the process started, in seconds since 1970, UTC.",
);
/// Processor time of the process, in seconds.
pub const PROCESSOR: Metric = metric(
    MetricKind::Counter,
    "process_cpu_seconds",
    &[],
    "Processor time that the process has taken, in user and kernel mode.",
);
/// Resident memory of the process, in bytes.
pub const MEMORY: Metric = metric(
    MetricKind::Gauge,
    "process_resident_memory_bytes",
    &[],
    "Memory that the process takes (resident set).",
);
/// Files and sockets that the process has open.
pub const DESCRIPTORS: Metric =
    metric(MetricKind::Gauge, "process_open_fds", &[], "Files and sockets that the process has open.");

/// All metrics, in the order of the pages.
pub const ALL: [&Metric; 21] = [
    &BUILD,
    &READY,
    &STATE,
    &SESSIONS,
    &RECONNECTS,
    &RECEIVED,
    &REDELIVERED,
    &REPAIRED,
    &ACKED,
    &IN_FLIGHT,
    &IN_FLIGHT_BYTES,
    &OLDEST,
    &SETTLED,
    &DEAD_LETTERED,
    &SUPPRESSED,
    &RETRIED,
    &SETTLING,
    &STARTED,
    &PROCESSOR,
    &MEMORY,
    &DESCRIPTORS,
];

impl Metric {
    /// Returns the exported name, as queries use it.
    pub fn queried(&self) -> String {
        match self.kind {
            MetricKind::Counter => format!("{}_total", self.name),
            MetricKind::Info => format!("{}_info", self.name),
            MetricKind::Gauge | MetricKind::Histogram => self.name.to_owned(),
        }
    }
}

const HEAD: &str = "\
# Metrics

<!-- Generated: `atdata-bridge config --reference=metrics > docs/metrics.md` -->

`GET /metrics` on `admin.listen` tells these, as OpenMetrics text. Labels: `queue` is the subscription's,
`<destination id>.RTO.<namespace>`; `sink` is the name of the sink's table, and `-` stands for events without a usable
key, which go to no sink; words in `cause` and `reason` are short and fixed. A counter begins at 0 with the process; one with
a `cause` or a `reason` appears when there is something to count.

| metric | kind | labels | meaning |
|---|---|---|---|
";

/// Returns the documentation page of all metrics as Markdown.
pub fn markdown() -> String {
    ALL.iter().fold(HEAD.to_owned(), |mut page, metric| {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels) = (metric.queried(), labels.join(", "));
        // Writing to a string can't fail.
        let _always = writeln!(page, "| `{name}` | {kind} | {labels} | {} |", metric.help);
        page
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Follows the rules of `promtool check metrics`.
    #[test]
    fn names_follow_the_conventions() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name is used twice");
        for Metric { name, labels, help, .. } in ALL {
            assert!(name.starts_with("atdata_bridge_") || name.starts_with("process_"), "{name}");
            for text in labels.iter().chain([name]) {
                assert!(text.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{text}");
            }
            let endings = ["_total", "_info", "_count", "_sum", "_bucket", "_created"];
            assert!(!endings.iter().any(|ending| name.ends_with(ending)), "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\', '|']), "{help}");
        }
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == markdown(),
            "docs/metrics.md is stale: run `atdata-bridge config --reference=metrics > docs/metrics.md`"
        );
    }
}
