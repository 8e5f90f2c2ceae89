//! Names the type of each section, and defines those that belong to no component: `[event]`, `[log]`,
//! `[shutdown]`.

use std::num::NonZeroU32;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::dead_letter::config::DeadLettersConfig;
use crate::source::config::SourceConfig;
use crate::telemetry::http::config::AdminConfig;
use crate::units::Period;

/// Generates the schema of one table.
pub(super) type TableSchema = fn(&mut SchemaGenerator) -> Schema;

/// The schemas of the tables at the top, in the order of the reference. Each table in `sinks` has that of its
/// kind.
pub(super) const TABLES: [(&str, Option<TableSchema>); 7] = [
    ("source", Some(SourceConfig::json_schema)),
    ("event", Some(EventConfig::json_schema)),
    ("sinks", None),
    ("dead_letters", Some(DeadLettersConfig::json_schema)),
    ("admin", Some(AdminConfig::json_schema)),
    ("log", Some(LogConfig::json_schema)),
    ("shutdown", Some(ShutdownConfig::json_schema)),
];

/// Makes a generator that writes the schema of a type where the type is used.
pub(super) fn generator(settings: SchemaSettings) -> SchemaGenerator {
    settings.with(|settings| settings.inline_subschemas = true).into_generator()
}

/// The key of an event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventConfig {
    /// JSON pointers (RFC 6901) to the MD5, tried in order: the first that leads to anything decides. A
    /// body that is a bare MD5 or a JSON string is its own key.
    #[schemars(inner(regex(pattern = "^/")), length(min = 1))]
    pub keys: Vec<String>,
    /// How many partitions all sinks divide the keys into: `murmur2(key)` modulo this number, as Kafka's
    /// Java client counts. Needed for `{partition}` in names.
    #[schemars(example = 12)]
    pub partitions: Option<NonZeroU32>,
    /// What becomes of an event without a usable key. `dead_letter`: it is kept with the dead letters.
    /// `digest`: its key is the MD5 of its whole body.
    pub unusable_key: UnusableKey,
}

impl Default for EventConfig {
    fn default() -> Self {
        let keys = ["/md5_email", "/md5", "/email_md5"].map(str::to_owned).into();
        Self { keys, partitions: None, unusable_key: UnusableKey::default() }
    }
}

/// What becomes of an event without a usable key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnusableKey {
    /// It is kept with the dead letters.
    #[default]
    DeadLetter,
    /// Its key is the MD5 of its body.
    Digest,
}

/// What is logged, on standard error.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or several directives as in
    /// `info,atdata_bridge::source=debug`.
    pub filter: String,
    /// `text` for people, `json` for machines: one object a line.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::default() }
    }
}

/// What a line of the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: the time, the level and the message.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What the bridge does when it is asked to stop.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// How long the first signal to stop may take: take no more events, settle and acknowledge the rest.
    /// Afterwards, or at a second signal, the rest is left to the broker, which sends it again. Keep it
    /// below Kubernetes' `terminationGracePeriodSeconds`.
    pub drain_timeout: Period,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { drain_timeout: Period::secs(25) }
    }
}
