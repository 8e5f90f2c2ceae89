//! Turns a file that is no longer written into one that readers may take.
//!
//! Without compression, the file is renamed. With compression, there are several steps, and each step is
//! durable before the next one begins:
//!
//! * Write and sync the `.tmp` file.
//! * Rename it to `.ready`.
//! * Remove the `.open` file.
//! * Rename `.ready` to the finished name.
//!
//! At every moment there is one complete copy, and readers can never take a second one. [`super::recovery`]
//! can continue from every step. If there is no room to compress, the file is finished uncompressed, which
//! needs no room. Otherwise no file could be moved away to make room.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::write::GzEncoder;

use super::chunk::chunk_of;
use super::config::FileCompression;
use super::disk::{Disk, DiskFile};
use super::error::{JournalError, is_no_room};
use super::name::Base;

const ZSTD_LEVEL: i32 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) base: Base,
    pub(crate) len: u64,
}

/// A file that is being finished, and where.
#[derive(Clone, Copy)]
pub(super) struct Finishing<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) directory: &'a Path,
    pub(super) base: &'a Base,
    pub(super) compression: FileCompression,
}

impl Finishing<'_> {
    /// Finishes the file, from the step that an earlier try has reached. Removes it if it is empty. Stops once
    /// `cancel` is set; a later call continues.
    pub(super) fn finish(self, cancel: &AtomicBool) -> Result<(), JournalError> {
        let ready = self.directory.join(self.base.ready(self.compression));
        if self.exists(&ready)? {
            return self.publish();
        }
        let open = self.directory.join(self.base.open());
        if !self.exists(&open)? {
            // An earlier try renamed or removed the file and then failed to make that durable.
            return sync(self.disk, self.directory);
        }
        let source = self.disk.open(&open).map_err(JournalError::io("open", &open))?;
        let len = source.len().map_err(JournalError::io("read", &open))?;
        if len == 0 {
            return remove(self.disk, self.directory, &open);
        }
        if self.compression == FileCompression::None {
            return self.finish_plain();
        }
        self.finish_compressed(FinishSource { file: source.as_ref(), offset: 0, len, cancel })
    }

    fn finish_compressed(self, source: FinishSource<'_>) -> Result<(), JournalError> {
        self.free_name(self.compression)?;
        let temporary = self.directory.join(self.base.temporary(self.compression));
        let cancel = source.cancel;
        match self.write_compressed(source, &temporary) {
            Ok(()) => {
                self.rename(&temporary, &self.directory.join(self.base.ready(self.compression)))?;
                self.publish()
            }
            Err(cause) => {
                // The partial file would take the room that is missing. If it can't be removed now, the next
                // try or the next open removes it.
                drop(self.disk.remove(&temporary));
                if is_no_room(&cause) && !cancel.load(Ordering::Relaxed) {
                    tracing::info!(
                        file = self.base.finished(FileCompression::None),
                        "no room to compress it: finished as it is"
                    );
                    return self.finish_plain();
                }
                Err(JournalError::io("write", &temporary)(cause))
            }
        }
    }

    fn finish_plain(self) -> Result<(), JournalError> {
        let finished = self.free_name(FileCompression::None)?;
        self.rename(&self.directory.join(self.base.open()), &finished)
    }

    /// Gives a complete `.ready` file its finished name, so that readers may take it.
    pub(super) fn publish(self) -> Result<(), JournalError> {
        let finished = self.free_name(self.compression)?;
        let open = self.directory.join(self.base.open());
        if self.exists(&open)? {
            self.disk.remove(&open).map_err(JournalError::io("remove", &open))?;
        }
        sync(self.disk, self.directory)?;
        self.rename(&self.directory.join(self.base.ready(self.compression)), &finished)
    }

    /// Returns the path of the finished file, which must not exist: renaming would overwrite it.
    fn free_name(self, compression: FileCompression) -> Result<PathBuf, JournalError> {
        let path = self.directory.join(self.base.finished(compression));
        if self.exists(&path)? { Err(JournalError::Exists { path }) } else { Ok(path) }
    }

    fn exists(self, path: &Path) -> Result<bool, JournalError> {
        self.disk.exists(path).map_err(JournalError::io("look for", path))
    }

    fn rename(self, from: &Path, to: &Path) -> Result<(), JournalError> {
        self.disk.rename(from, to).map_err(JournalError::io("rename", from))?;
        sync(self.disk, self.directory)
    }

    fn write_compressed(self, source: FinishSource<'_>, target: &Path) -> io::Result<()> {
        if self.disk.exists(target)? {
            self.disk.remove(target)?; // left by a failed try
        }
        let target = BufWriter::with_capacity(chunk_of(source.len), FinishTarget(self.disk.create(target)?));
        let target = match self.compression {
            FileCompression::None => copy(source, target)?,
            FileCompression::Gzip => {
                copy(source, GzEncoder::new(target, flate2::Compression::default()))?.finish()?
            }
            FileCompression::Zstd => {
                let mut encoder = zstd::Encoder::new(target, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                // Put the size into the frame header: readers that decompress in one call need it there.
                encoder.set_pledged_src_size(Some(source.len))?;
                copy(source, encoder)?.finish()?
            }
        };
        target.into_inner().map_err(|error| error.into_error())?.0.sync()
    }
}

pub(super) fn remove(disk: &dyn Disk, directory: &Path, path: &Path) -> Result<(), JournalError> {
    disk.remove(path).map_err(JournalError::io("remove", path))?;
    sync(disk, directory)
}

pub(super) fn sync(disk: &dyn Disk, directory: &Path) -> Result<(), JournalError> {
    disk.sync_directory(directory).map_err(JournalError::io("sync", directory))
}

fn copy<W: Write>(source: FinishSource<'_>, mut writer: W) -> io::Result<W> {
    io::copy(&mut BufReader::with_capacity(chunk_of(source.len), source), &mut writer)?;
    Ok(writer)
}

struct FinishSource<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    /// Bytes that the writer appends beyond this length are not read.
    len: u64,
    cancel: &'a AtomicBool,
}

impl Read for FinishSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other("the bridge is stopping"));
        }
        let rest = usize::try_from(self.len - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..rest], self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

struct FinishTarget(Arc<dyn DiskFile>);

impl Write for FinishTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
