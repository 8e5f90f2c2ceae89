//! `[sinks.<name>]` with `kind = "file"`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Period, Size};

/// JSON lines in a directory.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// Where the files go; made, with mode 0700, if it is missing. Required.
    #[schemars(example = &"/var/lib/atdata-bridge/events")]
    pub directory: Option<PathBuf>,
    /// What the names begin with. `{connection_id}`, `{partition}`, `{date}` and `{hour}` (UTC) stand for
    /// the event's; the time of opening and `.jsonl` are appended. Must hold `{connection_id}`, so
    /// that no two processes write to one file; `{partition}` needs `event.partitions`.
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

/// The checked settings of one file sink.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// Where the files go.
    pub directory: PathBuf,
    /// A template whose braces match, with known placeholders only, `{connection_id}` among them.
    pub name: String,
    /// What a line is.
    pub format: Format,
    /// How finished files are compressed.
    pub compression: Compression,
    /// Both more than zero.
    pub rotate: RotateConfig,
    /// At least 1.
    pub max_open: usize,
    /// Bytes; `None` is no limit.
    pub max_total: Option<u64>,
    /// `None` is no limit.
    pub max_age: Option<Duration>,
}
