//! Defines the checked settings of a file sink.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{FileCompression, Format};
use crate::journal::Rotation;
use crate::journal::name_template::NameTemplate;

/// The checked settings of one file sink.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// The directory that the files are written to.
    pub directory: PathBuf,
    /// The template for the beginning of the file names.
    pub name: NameTemplate,
    /// The format of a line: the body or an envelope.
    pub format: Format,
    /// The compression that is applied to finished files.
    pub compression: FileCompression,
    /// The size and the age at which a file is finished.
    pub rotation: Rotation,
    /// The most files open at once; at least 1.
    pub max_open: usize,
    /// The largest total size of all files, in bytes; `None` for no limit.
    pub max_total: Option<u64>,
    /// How long a finished file may stay in the directory; `None` for no limit.
    pub max_age: Option<Duration>,
}
