//! Checks `[sinks.<name>]`: one table for each sink, read by the type of its kind.

use std::num::NonZeroU32;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::ids;
use super::reader::{Reader, join};
use super::settings::{SinkKind, SinkSettings};
use crate::sink::file;
use crate::sink::file::config::FileConfig;

/// A kind of sink: how its table is read and described.
pub(super) struct Kind {
    /// The value of `kind`, and the name that implies it.
    pub(super) name: &'static str,
    /// Reads and checks the table `key`; `None` once a mistake is reported.
    read: fn(reader: &mut Reader, key: &str, partitions: Option<NonZeroU32>) -> Option<SinkKind>,
    /// The keys of its table.
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// Every kind there is.
pub(super) const KINDS: [Kind; 2] = [
    Kind { name: "file", read: read_file, schema: FileConfig::json_schema },
    Kind { name: "stdout", read: read_stdout, schema: StdoutConfig::json_schema },
];

/// Reads and checks all sinks.
pub(super) fn check(reader: &mut Reader, partitions: Option<NonZeroU32>) -> Vec<SinkSettings> {
    let names = reader.names("sinks");
    if names.is_empty() {
        reader.refuse("sinks", "no sink: add a table such as [sinks.file]");
    }
    names.into_iter().filter_map(|name| sink(reader, name, partitions)).collect()
}

fn sink(reader: &mut Reader, name: String, partitions: Option<NonZeroU32>) -> Option<SinkSettings> {
    let key = join("sinks", &name);
    if let Err(message) = ids::check_sink_name(&name) {
        reader.refuse(&key, message);
        return None;
    }
    let given = reader.take_text(&key, "kind");
    let kind = given.as_deref().unwrap_or(&name);
    let Some(kind) = KINDS.iter().find(|known| known.name == kind) else {
        let known = KINDS.map(|kind| kind.name).join(", ");
        match given {
            Some(kind) => {
                reader.refuse(&join(&key, "kind"), format!("`{kind}` is not a kind of sink: {known}"))
            }
            None => {
                reader.refuse(&key, format!("`{name}` is not a kind of sink: set `kind` to one of {known}"))
            }
        }
        return None;
    };
    reader.note(&join(&key, "kind"), kind.name.into());
    let kind = (kind.read)(reader, &key, partitions)?;
    Some(SinkSettings { name, kind })
}

/// Events on standard output, one line each, for looking. Has no keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct StdoutConfig {}

fn read_stdout(reader: &mut Reader, key: &str, _: Option<NonZeroU32>) -> Option<SinkKind> {
    reader.read::<StdoutConfig>(key);
    Some(SinkKind::Stdout)
}

fn read_file(reader: &mut Reader, key: &str, partitions: Option<NonZeroU32>) -> Option<SinkKind> {
    let raw: FileConfig = reader.read(key);
    directory(reader, key, raw.directory.as_deref());
    if !raw.name.contains("{connection_id}") {
        let message = "must hold {connection_id}, so that no two processes write to one file";
        reader.refuse(&join(key, "name"), message);
    }
    accepted(reader, key, file::config::check(&raw, partitions)).map(SinkKind::File)
}

/// Reports that a directory is missing.
pub(super) fn directory(reader: &mut Reader, key: &str, directory: Option<&Path>) {
    let key = join(key, "directory");
    match directory {
        Some(path) if path.as_os_str().is_empty() => reader.refuse(&key, "is empty"),
        Some(_) => (),
        None => reader.missing(&key),
    }
}

/// Reports what a component found wrong with its table `key`.
pub(super) fn accepted<T>(
    reader: &mut Reader,
    key: &str,
    checked: Result<T, Vec<(&'static str, String)>>,
) -> Option<T> {
    let report = |problems: Vec<(&'static str, String)>| {
        problems.into_iter().for_each(|(name, message)| reader.refuse(&join(key, name), message));
    };
    checked.map_err(report).ok()
}
