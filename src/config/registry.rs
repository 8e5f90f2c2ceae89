//! The kinds of sinks that a program knows: the built-in ones, and those that another crate registers.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::reader::ConfigReader;
use crate::diagnostics::Diagnostics;
use crate::sink::factory::{BuildContext, SinkFactory, SinkKind};
use crate::sink::file::FileKind;
use crate::sink::kafka::KafkaKind;
use crate::sink::nats::settings::NatsKind;
use crate::sink::stdout::StdoutKind;

/// How the table of one kind is read and described.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegisteredKind {
    /// The value of `kind`, and the name that implies it.
    pub(super) name: &'static str,
    /// Reads and checks the table `key`; `None` once a mistake is reported.
    pub(super) read:
        fn(reader: &mut ConfigReader, key: &str, surroundings: &BuildContext) -> Option<Arc<dyn SinkFactory>>,
    /// The keys of its table.
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// Every kind of sink that a configuration may name.
#[derive(Clone, Debug)]
pub struct SinkRegistry(Vec<RegisteredKind>);

impl SinkRegistry {
    /// Those of this crate.
    pub fn built_in() -> Self {
        Self(Vec::new()).with::<FileKind>().with::<KafkaKind>().with::<NatsKind>().with::<StdoutKind>()
    }

    /// These and `K`, which replaces a kind of the same name.
    #[must_use]
    pub fn with<K: SinkKind>(mut self) -> Self {
        self.0.retain(|kind| kind.name != K::NAME);
        self.0.push(RegisteredKind { name: K::NAME, read: read::<K>, schema: K::Config::json_schema });
        self
    }

    pub(super) fn find(&self, name: &str) -> Option<RegisteredKind> {
        self.0.iter().find(|kind| kind.name == name).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RegisteredKind> {
        self.0.iter()
    }

    /// Their names, for people.
    pub(super) fn names(&self) -> String {
        self.0.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
    }
}

fn read<K: SinkKind>(
    reader: &mut ConfigReader,
    key: &str,
    surroundings: &BuildContext,
) -> Option<Arc<dyn SinkFactory>> {
    let config: K::Config = reader.read(key);
    let mut findings = Diagnostics::default();
    let factory = K::check(config, surroundings, &mut findings);
    if factory.is_none() && findings.is_good() {
        findings.refuse("", format!("the kind `{}` refuses this table and does not say why", K::NAME));
    }
    reader.accepted(key, &findings, factory)
}
