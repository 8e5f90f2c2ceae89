//! Checks the output of all pods together, in each sink.

use std::collections::BTreeMap;
use std::path::Path;

use async_nats::jetstream;

use kit::events::Events;
use kit::output::{Tally, files};
use kit::stored::{Stored, each_in_files, each_in_stream, each_in_topic};

/// The content of one sink.
pub struct Audit {
    pub sink: &'static str,
    pub tally: Tally,
    /// The number of events that each connection id has written, or that each volume contains.
    pub of: BTreeMap<String, u64>,
    ordered: bool,
}

impl Audit {
    fn new(sink: &'static str, events: Events, ordered: bool) -> Self {
        let tally = if ordered { Tally::new(events) } else { Tally::in_any_order(events) };
        Self { sink, tally, of: BTreeMap::new(), ordered }
    }

    fn add(&mut self, from: &str, stored: Stored<'_>) {
        stored.add_to(&mut self.tally);
        *self.of.entry(from.to_owned()).or_default() += 1;
    }

    /// Reads the topic; blocks.
    pub fn kafka(bootstrap: &str, topic: &str, events: Events, ordered: bool) -> Self {
        let mut audit = Self::new("Kafka", events, ordered);
        each_in_topic(bootstrap, topic, |stored| audit.add(stored.writer, stored));
        audit
    }

    /// Reads the stream, whose subjects end with the key.
    pub async fn jetstream(
        jetstream: &jetstream::Context,
        stream: &str,
        events: Events,
        ordered: bool,
    ) -> Self {
        let mut audit = Self::new("JetStream", events, ordered);
        each_in_stream(jetstream, stream, |stored| audit.add(stored.writer, stored)).await;
        audit
    }

    /// Reads the envelopes in a directory of each pod's volume. There is no order across volumes.
    pub fn files(volumes: &[impl AsRef<Path>], directory: &str, events: Events) -> Self {
        let mut audit = Self::new("files", events, false);
        for volume in volumes {
            let from = volume.as_ref().file_name().expect("a name").to_string_lossy().into_owned();
            let directory = volume.as_ref().join(directory);
            if !directory.exists() || files(&directory).is_empty() {
                continue;
            }
            each_in_files(&directory, |stored| audit.add(&from, stored));
        }
        audit
    }

    /// Asserts that nothing is lost or foreign, that at most `doubles` events are duplicates, and that the
    /// order is right if one is guaranteed.
    pub fn assert(&self, doubles: u64) {
        self.tally.assert_nothing_lost_in_any_order();
        let doubled = self.tally.doubled();
        assert!(doubled <= doubles, "{}: {doubled} duplicate events, {doubles} allowed", self.sink);
        let disordered = self.tally.disordered();
        assert!(disordered.is_empty(), "{}: {} events out of order", self.sink, disordered.len());
    }

    /// The table row of this sink.
    pub fn row(&self, doubles: u64) -> String {
        let of: Vec<String> =
            self.of.iter().map(|(name, count)| format!("{}: {count}", number(name))).collect();
        let disordered =
            if self.ordered { self.tally.disordered().len().to_string() } else { "not promised".to_owned() };
        format!(
            "| {} | {} | {} | {} | {doubles} | {disordered} | {} |",
            self.sink,
            self.tally.distinct(),
            self.tally.lost().len(),
            self.tally.doubled(),
            of.join(", ")
        )
    }
}

/// The head of a table of [`Audit::row`]s.
pub const COLUMNS: &str = "| sink | events | lost | doubled | allowed | out of the order of their key | written by pod |\n\
                           |---|---:|---:|---:|---:|---:|---|";

/// The ordinal at the end of a connection id, or of a volume's name.
fn number(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(_, ordinal)| ordinal)
}
