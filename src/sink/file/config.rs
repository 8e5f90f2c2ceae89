//! Defines the table `[sinks.<name>]` with `kind = "file"`, as the user writes it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::journal::config::{FileCompression, RotateConfig};
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

/// What a line of a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The body of the event, and nothing else.
    #[default]
    Body,
    /// The body in an envelope.
    Envelope,
}
