//! Appends lines to one open file and syncs it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunk::chunk_of;
use super::disk::{Disk, DiskFile};
use super::error::JournalError;

/// The most bytes written to a file between two syncs. Recovery checks this many bytes at the end of a file.
/// Few groups have more for one file, so a sync inside a group happens only in rare cases.
pub(super) const UNSYNCED: usize = 8 << 20;

/// A file that lines are appended to. It knows how much of it is durable.
pub(super) struct LineFile {
    pub(super) path: PathBuf,
    /// `None` while the file is closed to stay within `max_open`.
    pub(super) handle: Option<Arc<dyn DiskFile>>,
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
        let handle = self.opened(disk).map_err(JournalError::io("open", &self.path))?;
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
        self.opened(disk)?.truncate(self.synced)?;
        self.written = self.synced;
        self.cut = true;
        Ok(())
    }

    /// Makes an earlier cut durable, if there was one.
    pub(super) fn settle_cut(&mut self, disk: &dyn Disk) -> Result<(), JournalError> {
        if self.cut {
            self.opened(disk).map_err(JournalError::io("open", &self.path))?;
            self.sync()?;
            self.cut = false;
        }
        Ok(())
    }

    fn opened(&mut self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(handle) = &self.handle {
            return Ok(Arc::clone(handle));
        }
        Ok(Arc::clone(self.handle.insert(disk.open(&self.path)?)))
    }

    /// Returns what another thread needs to sync the file, unless it is closed.
    pub(super) fn to_sync(&self) -> Option<FileToSync> {
        let handle = Arc::clone(self.handle.as_ref()?);
        Some(FileToSync { handle, path: self.path.clone() })
    }

    /// Returns once every written byte is durable and the path still names this file.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.to_sync().map_or(Ok(()), |file| file.sync())
    }
}

/// Writes the bytes of a file from `start` to `end` again. A sync that fails may leave bytes in the cache that no later
/// one writes, and a reader can't tell.
pub(super) fn write_again(disk: &dyn Disk, path: &Path, start: u64, end: u64) -> Result<(), JournalError> {
    let file = disk.open(path).map_err(JournalError::io("open", path))?;
    let mut chunk = vec![0; chunk_of(end.saturating_sub(start))];
    let mut at = start;
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(chunk.len());
        let read = file.read_at(&mut chunk[..most], at).map_err(JournalError::io("read", path))?;
        if read == 0 {
            break;
        }
        disk.write_again(path, &chunk[..read], at).map_err(JournalError::io("write", path))?;
        at += read as u64;
    }
    Ok(())
}

/// An open file that any thread can sync.
#[derive(Clone)]
pub(super) struct FileToSync {
    handle: Arc<dyn DiskFile>,
    path: PathBuf,
}

impl FileToSync {
    /// Returns once every written byte is durable and the path still names this file.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.handle.sync().map_err(JournalError::io("sync", &self.path))?;
        match self.handle.is_at(&self.path).map_err(JournalError::io("look for", &self.path))? {
            true => Ok(()),
            false => Err(JournalError::Moved { path: self.path.clone() }),
        }
    }
}
