//! Counts the files in the directory of a journal.

use std::io;

use jiff::Timestamp;

use super::disk::Disk;
use super::name::{FileNumber, FileState, parse};
use super::settings::JournalSettings;

/// The files in the directory at the time of one listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Bytes of all files, finished or not.
    pub(super) total: u64,
    /// When the oldest finished file was last written.
    pub(super) oldest: Option<Timestamp>,
    pub(super) finished: usize,
    pub(super) finished_bytes: u64,
    /// The newest number in any file name.
    pub(super) newest: Option<FileNumber>,
}

impl Holdings {
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
