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
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::write::GzEncoder;

use super::config::FileCompression;
use super::disk::{Disk, DiskFile};
use super::error::{JournalError, is_no_room};
use super::name::Base;

const CHUNK: usize = 256 << 10;
const ZSTD_LEVEL: i32 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) base: Base,
    pub(crate) len: u64,
}

/// Finishes the file `base`, from the step that an earlier try has reached. Removes it if it is empty. Stops
/// once `cancel` is set; a later call continues.
pub(super) fn finish(
    disk: &dyn Disk,
    directory: &Path,
    base: &Base,
    compression: FileCompression,
    cancel: &AtomicBool,
) -> Result<(), JournalError> {
    let exists = |path: &Path| disk.exists(path).map_err(JournalError::io("look for", path));
    let ready = directory.join(base.ready(compression));
    if exists(&ready)? {
        return publish(disk, directory, base, compression);
    }
    let open = directory.join(base.open());
    if !exists(&open)? {
        // An earlier try renamed or removed the file and then failed to make that durable.
        return disk.sync_directory(directory).map_err(JournalError::io("sync", directory));
    }
    let source = disk.open(&open).map_err(JournalError::io("open", &open))?;
    let len = source.len().map_err(JournalError::io("read", &open))?;
    if len == 0 {
        return remove(disk, directory, &open);
    }
    if compression == FileCompression::None {
        return finish_plain(disk, directory, base);
    }
    refuse_existing(disk, &directory.join(base.finished(compression)))?;
    let temporary = directory.join(base.temporary(compression));
    let source = FinishSource { file: source.as_ref(), offset: 0, len, cancel };
    match write_compressed(disk, source, &temporary, compression) {
        Ok(()) => {
            rename(disk, directory, &temporary, &ready)?;
            publish(disk, directory, base, compression)
        }
        Err(cause) => {
            // The partial file would take the room that is missing. If it can't be removed now, the next try
            // or the next open removes it.
            drop(disk.remove(&temporary));
            if is_no_room(&cause) && !cancel.load(Ordering::Relaxed) {
                tracing::info!(
                    file = base.finished(FileCompression::None),
                    "no room to compress it: finished as it is"
                );
                return finish_plain(disk, directory, base);
            }
            Err(JournalError::io("write", &temporary)(cause))
        }
    }
}

fn finish_plain(disk: &dyn Disk, directory: &Path, base: &Base) -> Result<(), JournalError> {
    let finished = directory.join(base.finished(FileCompression::None));
    refuse_existing(disk, &finished)?;
    rename(disk, directory, &directory.join(base.open()), &finished)
}

/// Renaming would overwrite an existing file.
pub(super) fn refuse_existing(disk: &dyn Disk, finished: &Path) -> Result<(), JournalError> {
    match disk.exists(finished).map_err(JournalError::io("look for", finished))? {
        true => Err(JournalError::Exists { path: finished.to_owned() }),
        false => Ok(()),
    }
}

/// Gives a complete `.ready` file its finished name, so that readers may take it.
pub(super) fn publish(
    disk: &dyn Disk,
    directory: &Path,
    base: &Base,
    compression: FileCompression,
) -> Result<(), JournalError> {
    let finished = directory.join(base.finished(compression));
    refuse_existing(disk, &finished)?;
    let open = directory.join(base.open());
    if disk.exists(&open).map_err(JournalError::io("look for", &open))? {
        disk.remove(&open).map_err(JournalError::io("remove", &open))?;
    }
    disk.sync_directory(directory).map_err(JournalError::io("sync", directory))?;
    rename(disk, directory, &directory.join(base.ready(compression)), &finished)
}

pub(super) fn remove(disk: &dyn Disk, directory: &Path, path: &Path) -> Result<(), JournalError> {
    disk.remove(path).map_err(JournalError::io("remove", path))?;
    disk.sync_directory(directory).map_err(JournalError::io("sync", directory))
}

fn rename(disk: &dyn Disk, directory: &Path, from: &Path, to: &Path) -> Result<(), JournalError> {
    disk.rename(from, to).map_err(JournalError::io("rename", from))?;
    disk.sync_directory(directory).map_err(JournalError::io("sync", directory))
}

fn write_compressed(
    disk: &dyn Disk,
    source: FinishSource<'_>,
    target: &Path,
    compression: FileCompression,
) -> io::Result<()> {
    if disk.exists(target)? {
        disk.remove(target)?; // left by a failed try
    }
    let target = BufWriter::with_capacity(CHUNK, FinishTarget(disk.create(target)?));
    let target = match compression {
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

fn copy<W: Write>(source: FinishSource<'_>, mut writer: W) -> io::Result<W> {
    io::copy(&mut BufReader::with_capacity(CHUNK, source), &mut writer)?;
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

struct FinishTarget(Box<dyn DiskFile>);

impl Write for FinishTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
