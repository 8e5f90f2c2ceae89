//! Appends lines to one open file and syncs it.

use std::io;
use std::path::PathBuf;
use std::thread::{self, ScopedJoinHandle};

use super::disk::{Disk, DiskFile};
use super::error::JournalError;

/// The most bytes written to a file between two syncs. Recovery checks this many bytes at the end of a file.
/// A group of the file sink is smaller, so a sync inside a group happens only in rare cases.
pub(super) const UNSYNCED: usize = 8 << 20;
const PARALLEL_SYNCS: usize = 16;

/// A file that lines are appended to. It knows how much of it is durable.
pub(super) struct LineFile {
    pub(super) path: PathBuf,
    /// `None` while the file is closed to stay within `max_open`.
    pub(super) handle: Option<Box<dyn DiskFile>>,
    /// Bytes that are durable and reported as durable.
    pub(super) synced: u64,
    pub(super) written: u64,
    /// The file was cut back and not synced since. Until the next sync, a crash may bring the removed lines
    /// back. So the file must not be finished, and its lines must not be written to another file.
    pub(super) cut: bool,
}

impl LineFile {
    /// Creates the state of a file with `len` durable bytes. Does not open it yet.
    pub(super) fn new(path: PathBuf, len: u64) -> Self {
        Self { path, handle: None, synced: len, written: len, cut: false }
    }

    /// Creates the file, which must not exist. Its name is durable once the directory is synced.
    pub(super) fn create(disk: &dyn Disk, path: PathBuf) -> Result<Self, JournalError> {
        let handle = disk.create(&path).map_err(JournalError::io("create", &path))?;
        Ok(Self { handle: Some(handle), ..Self::new(path, 0) })
    }

    /// Appends `lines`. Syncs only if more than [`UNSYNCED`] bytes would wait for a sync. After an error, any
    /// part of `lines` may be in the file.
    pub(super) fn append(&mut self, disk: &dyn Disk, lines: &[u8]) -> Result<(), JournalError> {
        // Before the cut is durable, a crash could mix removed bytes with new ones.
        self.settle_cut(disk)?;
        self.written += lines.len() as u64;
        let handle = match &mut self.handle {
            Some(handle) => handle,
            none => none.insert(disk.open(&self.path).map_err(JournalError::io("open", &self.path))?),
        };
        for (n, chunk) in lines.chunks(UNSYNCED).enumerate() {
            if n > 0 {
                handle.sync().map_err(JournalError::io("sync", &self.path))?;
            }
            handle.append(chunk).map_err(JournalError::io("write", &self.path))?;
        }
        Ok(())
    }

    /// Returns whether the file may hold bytes that were not reported as durable.
    pub(super) fn is_dirty(&self) -> bool {
        self.written != self.synced
    }

    /// Notes that every written byte is durable.
    pub(super) fn settle(&mut self) {
        self.synced = self.written;
        self.cut = false;
    }

    /// Removes all bytes that were not reported as durable.
    pub(super) fn cut_back(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let handle = match &mut self.handle {
            Some(handle) => handle,
            none => none.insert(disk.open(&self.path)?),
        };
        handle.truncate(self.synced)?;
        self.written = self.synced;
        self.cut = true;
        Ok(())
    }

    /// Makes an earlier cut durable, if there was one.
    pub(super) fn settle_cut(&mut self, disk: &dyn Disk) -> Result<(), JournalError> {
        if self.cut {
            if self.handle.is_none() {
                self.handle = Some(disk.open(&self.path).map_err(JournalError::io("open", &self.path))?);
            }
            self.sync()?;
            self.cut = false;
        }
        Ok(())
    }

    /// Returns once every written byte is durable and the path still names this file.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        let Some(handle) = &self.handle else { return Ok(()) };
        handle.sync().map_err(JournalError::io("sync", &self.path))?;
        match handle.is_at(&self.path).map_err(JournalError::io("look for", &self.path))? {
            true => Ok(()),
            false => Err(JournalError::Moved { path: self.path.clone() }),
        }
    }
}

/// Syncs the files in parallel. The disk then flushes its cache about once for all files, not once for each.
pub(super) fn sync_all(files: &[&LineFile]) -> Result<(), JournalError> {
    let sync_each = |files: &[&LineFile]| files.iter().try_for_each(|file| file.sync());
    let mut shares = files.chunks(files.len().div_ceil(PARALLEL_SYNCS).max(1));
    let Some(own) = shares.next() else { return Ok(()) };
    thread::scope(|scope| {
        let start = |share| (share, thread::Builder::new().spawn_scoped(scope, move || sync_each(share)));
        let threads: Vec<_> = shares.map(start).collect();
        let mut outcome = sync_each(own);
        for (share, thread) in threads {
            outcome = outcome.and(match thread.map(ScopedJoinHandle::join) {
                Ok(Ok(synced)) => synced,
                // No thread could be started, or it panicked: sync on this thread.
                _ => sync_each(share),
            });
        }
        outcome
    })
}
