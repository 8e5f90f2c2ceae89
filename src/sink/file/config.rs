//! `[sinks.<name>]` with `kind = "file"`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Period, Size};

/// JSON lines in a directory.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// Where the files go; made, with mode 0700, if it is missing.
    pub directory: Option<PathBuf>,
    /// What the names begin with. `{connection_id}`, `{partition}`, `{date}` and `{hour}` (UTC) stand for
    /// the event's; the time of opening and `.jsonl` are appended. Must hold `{connection_id}` when
    /// replicas share the directory.
    pub name: String,
    /// `body`: the event as it came, one line each. `envelope`: an object with id, key, partition,
    /// timestamp and body.
    pub format: Format,
    /// How finished files are compressed.
    pub compression: Compression,
    /// When a file is finished and the next one begun.
    pub rotate: RotateConfig,
    /// The most files open at once, when the name has `{partition}`.
    pub max_open: u32,
    /// Hold, rather than fill the disk, when all files of this sink together reach this size. Nothing is
    /// ever deleted: move finished files away. Unset: no limit.
    pub max_total: Option<Size>,
    /// Hold when a finished file has lain here for so long without being moved away. Unset: no limit.
    pub max_age: Option<Period>,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            directory: None,
            name: "{connection_id}".to_owned(),
            format: Format::default(),
            compression: Compression::default(),
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

/// How a finished file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all: `.jsonl`.
    #[default]
    None,
    /// `.jsonl.zst`, one frame.
    Zstd,
    /// `.jsonl.gz`, one member.
    Gzip,
}

/// When a file is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateConfig {
    /// At this size, before compression.
    pub size: Size,
    /// At this age, also when nothing more is written.
    pub age: Period,
}

impl Default for RotateConfig {
    fn default() -> Self {
        Self { size: Size::mib(128), age: Period::secs(3600) }
    }
}
