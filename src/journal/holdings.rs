//! Adds up the files that lie in the directory of a journal.

use std::io;

use jiff::Timestamp;

use super::disk::Disk;
use super::name::{FileNumber, FileState, parse};
use super::settings::JournalSettings;

/// What a look at the directory shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// The bytes of all files.
    pub(super) total: u64,
    /// When the oldest finished file was finished.
    pub(super) oldest: Option<Timestamp>,
    /// How many files are finished.
    pub(super) finished: usize,
    /// The bytes of these.
    pub(super) finished_bytes: u64,
    /// The newest of all names.
    pub(super) newest: Option<FileNumber>,
}

impl Holdings {
    /// Looks at the directory.
    pub(super) fn of(disk: &dyn Disk, settings: &JournalSettings) -> io::Result<Self> {
        let mut seen = Self::default();
        for entry in disk.list(&settings.directory)? {
            let Some(parsed) = parse(&entry.name, &settings.stems) else { continue };
            seen.total += entry.len;
            seen.newest = seen.newest.max(Some(parsed.opening));
            if parsed.state == FileState::Finished {
                seen.finished += 1;
                seen.finished_bytes += entry.len;
                seen.oldest = Some(seen.oldest.map_or(entry.modified, |oldest| oldest.min(entry.modified)));
            }
        }
        Ok(seen)
    }
}
