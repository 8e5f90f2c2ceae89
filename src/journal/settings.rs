//! Says what a journal is opened with.

use std::path::PathBuf;
use std::time::Duration;

use super::config::FileCompression;
use super::name::Stems;
use super::rotation::Rotation;

/// What a journal is opened with.
#[derive(Clone, Debug)]
pub(crate) struct JournalSettings {
    /// The table of its options, such as `sinks.file`: what is in trouble names them.
    pub(crate) section: String,
    /// Made, with mode 0700, if it is missing.
    pub(crate) directory: PathBuf,
    /// What its files are called; a file with another name is never touched.
    pub(crate) stems: Stems,
    /// How finished files are compressed.
    pub(crate) compression: FileCompression,
    /// When a file is finished.
    pub(crate) rotation: Rotation,
    /// The most files open at once, at least 1.
    pub(crate) max_open: usize,
    /// Nothing is written once all files together hold so many bytes.
    pub(crate) max_total: Option<u64>,
    /// Nothing is written once a finished file has lain in the directory for so long.
    pub(crate) max_age: Option<Duration>,
}
