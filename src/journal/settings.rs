//! Defines the settings that open a journal.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{FileCompression, RotateConfig};
use super::name_template::Stems;

/// The fewest ids that are worth a log of their own.
pub(crate) const FEWEST_IDS: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct JournalSettings {
    /// The configuration table, such as `sinks.file`. Errors name its options.
    pub(crate) section: String,
    /// Created with mode 0700 if it is missing.
    pub(crate) directory: PathBuf,
    /// The names of its files. A file with any other name is never touched.
    pub(crate) stems: Stems,
    pub(crate) compression: FileCompression,
    pub(crate) rotation: RotateConfig,
    /// How many ids of the newest events are recorded at least.
    pub(crate) ids: usize,
    /// The most files that are open at once, at least 1.
    pub(crate) max_open: usize,
    /// The most bytes that all files together may hold. At the limit nothing more is written.
    pub(crate) max_total: Option<u64>,
    /// How long a finished file may stay in the directory. Beyond that nothing more is written.
    pub(crate) max_age: Option<Duration>,
    /// A replay writes. It ends at an error, and not all of its files may be moved away.
    pub(crate) is_replay: bool,
}
