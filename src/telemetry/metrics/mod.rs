//! Defines the metrics of `/metrics` and `docs/metrics.md`. A new metric needs a row in `table.rs`, and a
//! counter in [`super::counters`] if nothing counts its values yet. The names are an interface: each change
//! needs an entry in the changelog.

mod page;
mod sources;
mod table;

use std::fmt::Write;

use prometheus_client::metrics::MetricType;

pub use self::page::MetricsPage;
pub use self::sources::{MetricSources, Samples};
pub use self::table::ALL;
use super::histogram::Snapshot;

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
    Counter(fn(&MetricSources) -> Samples<u64>),
    /// A counter of seconds, which has fractions.
    Seconds(fn(&MetricSources) -> Samples<f64>),
    /// Goes up and down between two readings.
    Gauge(fn(&MetricSources) -> Samples<f64>),
    /// Counts in buckets; the exported name gets `_bucket`, `_count` and `_sum`.
    Histogram(fn(&MetricSources) -> Samples<Snapshot>),
    /// Always 1, with the data in its labels, whose values these are; the exported name gets `_info`.
    Info(&'static [&'static str]),
}

impl Metric {
    fn kind(&self) -> MetricType {
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
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (metric.queried(), metric.kind(), labels.join(", "));
        // Writing to a string can't fail.
        let _always = writeln!(page, "| `{name}` | {} | {labels} | {} |", kind.as_str(), metric.help);
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
            for text in labels.iter().chain([&name]) {
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
