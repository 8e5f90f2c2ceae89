//! Checks `[sinks.<name>]`: one table for each sink, read by the type of its kind.

use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::ids;
use super::reader::{Reader, join};
use super::settings::{SinkKind, SinkSettings};
use crate::sink::file::config::{FileConfig, FileSettings, RotateConfig};
use crate::units::Size;

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
    Kind { name: "file", read: file, schema: FileConfig::json_schema },
    Kind { name: "stdout", read: stdout, schema: StdoutConfig::json_schema },
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

fn stdout(reader: &mut Reader, key: &str, _: Option<NonZeroU32>) -> Option<SinkKind> {
    reader.read::<StdoutConfig>(key);
    Some(SinkKind::Stdout)
}

fn file(reader: &mut Reader, key: &str, partitions: Option<NonZeroU32>) -> Option<SinkKind> {
    let raw: FileConfig = reader.read(key);
    if let Err(message) = check_name(&raw.name, partitions.is_some()) {
        reader.refuse(&join(key, "name"), message);
    }
    if raw.max_open == 0 {
        reader.refuse(&join(key, "max_open"), "must be at least 1");
    }
    check_rotate(reader, key, raw.rotate, raw.max_total);
    let directory = directory(reader, key, raw.directory)?;
    Some(SinkKind::File(FileSettings {
        directory,
        name: raw.name,
        format: raw.format,
        compression: raw.compression,
        rotate: raw.rotate,
        max_open: usize::try_from(raw.max_open).unwrap_or(usize::MAX),
        max_total: raw.max_total.map(|size| size.0),
        max_age: raw.max_age.map(|age| age.0),
    }))
}

/// Checks the size and age at which the files of `key` are finished, and their size altogether.
pub(super) fn check_rotate(reader: &mut Reader, key: &str, rotate: RotateConfig, max_total: Option<Size>) {
    let (size, age) = (join(key, "rotate.size"), join(key, "rotate.age"));
    if rotate.size.0 == 0 {
        reader.refuse(&size, "must be more than 0");
    }
    if rotate.age.0.is_zero() {
        reader.refuse(&age, "must be more than 0s");
    }
    if let Some(total) = max_total {
        reader.in_order((&size, rotate.size), (&join(key, "max_total"), total));
    }
}

/// A directory that must be given.
pub(super) fn directory(reader: &mut Reader, key: &str, directory: Option<PathBuf>) -> Option<PathBuf> {
    let key = join(key, "directory");
    match directory {
        Some(path) if path.as_os_str().is_empty() => reader.refuse(&key, "is empty"),
        Some(path) => return Some(path),
        None => reader.missing(&key),
    }
    None
}

/// Checks what a file's name is made of.
fn check_name(name: &str, partitioned: bool) -> Result<(), String> {
    const KNOWN: [&str; 4] = ["connection_id", "partition", "date", "hour"];
    let mut found = Vec::new();
    for (n, piece) in name.split('{').enumerate() {
        let (placeholder, literal) = match piece.split_once('}') {
            Some((placeholder, literal)) if n > 0 => (Some(placeholder), literal),
            None if n == 0 => (None, piece),
            _ => return Err("has a brace without its other half".to_owned()),
        };
        if let Some(unknown) = placeholder.filter(|placeholder| !KNOWN.contains(placeholder)) {
            return Err(format!("{{{unknown}}} is not known; known are {{{}}}", KNOWN.join("}, {")));
        }
        if literal.contains(['}', '/', '\\']) || literal.chars().any(char::is_control) {
            return Err("is no file's name: braces that don't match, / and \\ are not allowed".to_owned());
        }
        found.extend(placeholder);
    }
    if !found.contains(&"connection_id") {
        return Err("must hold {connection_id}, so that no two processes write to one file".to_owned());
    }
    if found.contains(&"partition") && !partitioned {
        return Err("{partition} needs event.partitions, the same number in every sink".to_owned());
    }
    Ok(())
}
