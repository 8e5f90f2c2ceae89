//! Defines the checked settings of a file sink.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{FileCompression, Format, RotateConfig};
use crate::journal::name_template::NameTemplate;

#[derive(Clone, Debug)]
pub struct FileSettings {
    pub directory: PathBuf,
    /// The template for the beginning of the file names.
    pub name: NameTemplate,
    pub format: Format,
    pub compression: FileCompression,
    pub rotation: RotateConfig,
    /// `source.prefetch`: how many events the broker sends again at most.
    pub prefetch: usize,
    /// The most files open at once; at least 1.
    pub max_open: usize,
    /// The largest total size of all files, in bytes; `None` for no limit.
    pub max_total: Option<u64>,
    /// How long a finished file may stay in the directory; `None` for no limit.
    pub max_age: Option<Duration>,
}
