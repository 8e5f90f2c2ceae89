//! `[sinks.<name>]` with `kind = "file"`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostics;
use crate::journal::Rotation;
pub use crate::journal::config::{FileCompression, RotateConfig};
use crate::journal::name::Template;
use crate::units::{Period, Size};

/// JSON lines in a directory.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// Where the files go; made, with mode 0700, if it is missing. Required.
    #[schemars(example = &"/var/lib/atdata-bridge/events")]
    pub directory: Option<PathBuf>,
    /// What the names begin with. `{connection_id}`, `{partition}`, `{date}` and `{hour}` (of the event, in
    /// UTC) are filled in; the time of opening and `.jsonl` are appended. Must hold `{connection_id}`, so
    /// that no two processes write to one file; `{partition}` needs `event.partitions`.
    pub name: String,
    /// `body`: the event as it came, one line each. `envelope`: an object with id, key, partition,
    /// timestamp and body.
    pub format: Format,
    /// How finished files are compressed; where a full disk has no room for it, they are not.
    pub compression: FileCompression,
    /// When a file is finished and the next one begun; earlier when the disk is full.
    pub rotate: RotateConfig,
    /// The most files open at once, when the name has `{partition}`.
    #[schemars(range(min = 1))]
    pub max_open: u32,
    /// Hold, rather than fill the disk, when all files of this sink together reach this size. Nothing is
    /// ever deleted: move finished files away. Unset: no limit.
    #[schemars(example = &"100GiB")]
    pub max_total: Option<Size>,
    /// Hold when a finished file has lain here for so long without being moved away. Unset: no limit.
    #[schemars(example = &"7days")]
    pub max_age: Option<Period>,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            directory: None,
            name: "{connection_id}".to_owned(),
            format: Format::default(),
            compression: FileCompression::default(),
            rotate: RotateConfig::default(),
            max_open: 64,
            max_total: None,
            max_age: None,
        }
    }
}

/// What a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The body.
    #[default]
    Body,
    /// The body in an envelope.
    Envelope,
}

/// The checked settings of one file sink.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// Where the files go.
    pub directory: PathBuf,
    /// What their names begin with.
    pub name: Template,
    /// What a line is.
    pub format: Format,
    /// How finished files are compressed.
    pub compression: FileCompression,
    /// When a file is finished.
    pub rotation: Rotation,
    /// At least 1.
    pub max_open: usize,
    /// Bytes.
    pub max_total: Option<u64>,
    /// Since a file was finished.
    pub max_age: Option<Duration>,
}

/// Checks a file sink's table; `partitions` is `event.partitions`. `None` once something is wrong.
pub fn check(
    config: &FileConfig,
    partitions: Option<NonZeroU32>,
    findings: &mut Diagnostics,
) -> Option<FileSettings> {
    let directory = config.directory.as_deref();
    let directory = findings.required_path("directory", directory, "where the files go");
    let name = Template::parse(&config.name).map_err(|message| findings.refuse("name", message)).ok();
    if partitions.is_none() && name.as_ref().is_some_and(Template::has_partition) {
        findings.refuse("name", "`{partition}` needs a fixed number of partitions: set event.partitions");
    }
    if config.max_open == 0 {
        findings.refuse("max_open", "must be at least 1");
    }
    if config.max_age.is_some_and(|age| age < Period::secs(1)) {
        findings.refuse("max_age", "is too short: at least `1s`; unset it for no limit");
    }
    let rotation = config.rotate.check(findings);
    config.rotate.check_total(config.max_total, findings);
    Some(FileSettings {
        directory: directory?,
        name: name?,
        format: config.format,
        compression: config.compression,
        rotation,
        max_open: usize::try_from(config.max_open).unwrap_or(usize::MAX),
        max_total: config.max_total.map(|size| size.0),
        max_age: config.max_age.map(|age| age.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: FileConfig, partitions: Option<u32>) -> Vec<String> {
        let mut findings = Diagnostics::default();
        check(&config, partitions.and_then(NonZeroU32::new), &mut findings);
        findings.keys().into_iter().map(str::to_owned).collect()
    }

    fn good() -> FileConfig {
        FileConfig { directory: Some("/data".into()), ..FileConfig::default() }
    }

    #[test]
    fn the_defaults_need_a_directory_only() {
        assert_eq!(problems(FileConfig::default(), None), ["directory"]);
        assert_eq!(problems(good(), None), [""; 0]);
    }

    #[test]
    fn a_partition_in_the_name_needs_a_number_of_partitions() {
        let config = FileConfig { name: "{connection_id}-{partition}".to_owned(), ..good() };
        assert_eq!(problems(config.clone(), None), ["name"]);
        assert_eq!(problems(config, Some(16)), [""; 0]);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let config = FileConfig {
            directory: None,
            name: "a/b".to_owned(),
            max_open: 0,
            max_total: Some(Size(10)),
            max_age: Some(Period::millis(1)),
            rotate: RotateConfig { size: Size(100), age: Period::millis(10) },
            ..FileConfig::default()
        };
        let expected = ["directory", "name", "max_open", "max_age", "rotate.age", "max_total"];
        assert_eq!(problems(config, None), expected);
    }
}
