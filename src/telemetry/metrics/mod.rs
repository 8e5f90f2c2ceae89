//! Defines the metrics of `/metrics` and `docs/metrics.md`. A new metric needs a row in `table.rs`, and a
//! counter in [`super::counters`] if nothing counts its values yet. The names are an interface: each change
//! needs an entry in the changelog.

mod metric;
mod page;
mod sources;
mod table;

use std::fmt::Write;

pub use self::metric::{Metric, Read};
pub use self::page::MetricsPage;
pub use self::sources::{MetricSamples, MetricSources};
pub use self::table::ALL;

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
