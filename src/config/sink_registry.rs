//! Registers the kinds of sinks: the built-in ones, and those of other crates.

use std::sync::Arc;

use schemars::JsonSchema;

use super::key_path::join;
use super::known_options;
use super::reader::ConfigReader;
use super::sections::{TABLES, TableSchema};
use crate::sink::factory::{BuildContext, SinkFactory, SinkKind};
use crate::sink::file::FileKind;
#[cfg(feature = "kafka")]
use crate::sink::kafka::KafkaKind;
use crate::sink::nats::NatsKind;
use crate::sink::stdout::StdoutKind;

/// How the table of one kind is read and described.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegisteredKind {
    /// The value of `kind`, and the sink name that implies it.
    pub(super) name: &'static str,
    /// Reads and checks the table `key`. Returns `None` once a mistake is reported.
    pub(super) read:
        fn(reader: &mut ConfigReader, key: &str, context: &BuildContext) -> Option<Arc<dyn SinkFactory>>,
    /// The schema of its table.
    pub(super) schema: TableSchema,
    wait_before_exit: fn(),
}

/// Every kind of sink that a configuration may name.
#[derive(Clone, Debug)]
pub struct SinkRegistry(Vec<RegisteredKind>);

impl SinkRegistry {
    /// Returns the kinds of this crate.
    pub fn built_in() -> Self {
        let kinds = Self(Vec::new()).with::<FileKind>();
        #[cfg(feature = "kafka")]
        let kinds = kinds.with::<KafkaKind>();
        kinds.with::<NatsKind>().with::<StdoutKind>()
    }

    /// Returns the kinds of a build that lacks one of them.
    #[cfg(test)]
    pub(super) fn without(name: &str) -> Self {
        Self(Self::built_in().0.into_iter().filter(|kind| kind.name != name).collect())
    }

    /// Adds `K`, which replaces a kind of the same name.
    #[must_use]
    pub fn with<K: SinkKind>(mut self) -> Self {
        self.0.retain(|kind| kind.name != K::NAME);
        self.0.push(RegisteredKind {
            name: K::NAME,
            read: read::<K>,
            schema: K::Config::json_schema,
            wait_before_exit: K::wait_before_exit,
        });
        self
    }

    /// Returns the key and the schema of every table, with each kind of sink in a table of its name.
    pub(super) fn tables(&self) -> Vec<(String, TableSchema)> {
        let of_kinds = |table| self.iter().map(move |kind| (join(table, kind.name), kind.schema)).collect();
        let tables = TABLES.into_iter().flat_map(|(table, schema)| match schema {
            Some(schema) => vec![(table.to_owned(), schema)],
            None => of_kinds(table),
        });
        tables.collect()
    }

    /// Returns the full keys of all options, with each kind of sink in a table of its name.
    pub(super) fn all_options(&self) -> Vec<String> {
        let letters = self.iter().map(|kind| (join("dead_letters", kind.name), kind.schema));
        let keys = self.tables().into_iter().chain(letters).flat_map(|(table, schema)| {
            let known = known_options::of(schema).into_iter();
            known.map(move |option| join(&table, &option.key))
        });
        keys.collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<RegisteredKind> {
        self.0.iter().find(|kind| kind.name == name).copied()
    }

    /// Returns what to tell people who name a kind of this crate that was left out of this build.
    pub(super) fn left_out(&self, name: &str) -> Option<&'static str> {
        (name == "kafka" && self.find(name).is_none()).then_some(
            "this build has no Kafka sink: build the program with the feature `kafka`, which is a default",
        )
    }

    /// Returns whether sinks of this kind have this option.
    pub(super) fn has_option(&self, kind: &str, option: &str) -> bool {
        let known = self.find(kind).map(|kind| known_options::of(kind.schema)).unwrap_or_default();
        known.iter().any(|known| known.key == option)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RegisteredKind> {
        self.0.iter()
    }

    /// Waits for threads of the sinks that must end before the process does.
    pub fn wait_before_exit(&self) {
        self.0.iter().for_each(|kind| (kind.wait_before_exit)());
    }

    /// Lists the names of the kinds, for people.
    pub(super) fn names(&self) -> String {
        self.0.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
    }
}

fn read<K: SinkKind>(
    reader: &mut ConfigReader,
    key: &str,
    context: &BuildContext,
) -> Option<Arc<dyn SinkFactory>> {
    let config: K::Config = reader.read(key);
    reader.accept(key, |diagnostics| {
        let factory = K::check(config, context, diagnostics);
        if factory.is_none() && diagnostics.is_good() {
            let message = format!("the kind `{}` refuses this table and does not say why", K::NAME);
            diagnostics.refuse("", message);
        }
        factory
    })
}
