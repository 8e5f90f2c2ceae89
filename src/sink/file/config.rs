//! `[sinks.<name>]` with `kind = "file"`.

use std::num::NonZeroU32;
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
    /// A template whose braces match, with known placeholders only.
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

/// What is wrong with a setting: its key, seen from the table it stands in, and what is allowed.
pub type Problem = (&'static str, String);

/// Checks a file sink's table; `partitions` is `event.partitions`.
///
/// # Errors
/// Every mistake, each with its key inside the table and what is allowed.
pub fn check(config: &FileConfig, partitions: Option<NonZeroU32>) -> Result<FileSettings, Vec<Problem>> {
    let mut problems = Vec::new();
    if let Err(message) = check_name(&config.name, partitions.is_some()) {
        problems.push(("name", message));
    }
    if config.max_open == 0 {
        problems.push(("max_open", "must be at least 1".to_owned()));
    }
    config.rotate.check(config.max_total, &mut problems);
    match &config.directory {
        Some(directory) if problems.is_empty() => Ok(FileSettings {
            directory: directory.clone(),
            name: config.name.clone(),
            format: config.format,
            compression: config.compression,
            rotate: config.rotate,
            max_open: usize::try_from(config.max_open).unwrap_or(usize::MAX),
            max_total: config.max_total.map(|size| size.0),
            max_age: config.max_age.map(|age| age.0),
        }),
        Some(_) => Err(problems),
        None => {
            problems.push(("directory", "is missing".to_owned()));
            Err(problems)
        }
    }
}

impl RotateConfig {
    /// Checks the size and age at which files are finished, and their size altogether.
    pub(crate) fn check(&self, max_total: Option<Size>, problems: &mut Vec<Problem>) {
        if self.size.0 == 0 {
            problems.push(("rotate.size", "must be more than 0".to_owned()));
        }
        if self.age.0.is_zero() {
            problems.push(("rotate.age", "must be more than 0s".to_owned()));
        }
        if let Some(total) = max_total.filter(|&total| total < self.size) {
            problems.push(("max_total", format!("{total} is less than rotate.size, {}", self.size)));
        }
    }
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
    if found.contains(&"partition") && !partitioned {
        return Err("{partition} needs event.partitions, the same number in every sink".to_owned());
    }
    Ok(())
}
