//! Defines the settings of a file sink, once they are checked.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{FileCompression, Format};
use crate::journal::Rotation;
use crate::journal::name::Template;

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
