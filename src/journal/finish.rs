//! From a file that is no longer written to one that readers may take.
//!
//! Uncompressed it is renamed. Compressed, in steps each of which is durable before the next: the `.tmp`
//! file is written and synced; renamed to `.ready`; the `.open` file is removed; `.ready` is renamed to the
//! finished name. So at no time two complete copies exist of which a reader could take the second later,
//! and at every time one complete copy exists ([`super::recovery`] goes on from any step). Where there is no room
//! for compressing, a file is finished as it is, which takes none: else nothing could be moved away to make some.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::write::GzEncoder;

use super::config::FileCompression;
use super::disk::{Disk, DiskFile};
use super::error::{JournalError, is_no_room};
use super::name::Base;

const CHUNK: usize = 256 << 10;
const ZSTD_LEVEL: i32 = 3;

/// A file that is no longer written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) base: Base,
    pub(crate) len: u64,
}

/// Finishes the file `base`, from whatever step an earlier try has come to; one without content is removed.
/// Given up, to be done again later, once `cancel` is set.
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
        // Renamed or removed by an earlier try, which then failed to make that durable.
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
            // Left there it would take the very room that is wanting. What can't be removed now is removed by the
            // next try, or by the next opening.
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

/// Renaming would overwrite it.
pub(super) fn refuse_existing(disk: &dyn Disk, finished: &Path) -> Result<(), JournalError> {
    match disk.exists(finished).map_err(JournalError::io("look for", finished))? {
        true => Err(JournalError::Exists { path: finished.to_owned() }),
        false => Ok(()),
    }
}

/// Gives a file that is ready to readers.
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

/// Removes a file, durably.
pub(super) fn remove(disk: &dyn Disk, directory: &Path, path: &Path) -> Result<(), JournalError> {
    disk.remove(path).map_err(JournalError::io("remove", path))?;
    disk.sync_directory(directory).map_err(JournalError::io("sync", directory))
}

/// Renames a file, durably.
fn rename(disk: &dyn Disk, directory: &Path, from: &Path, to: &Path) -> Result<(), JournalError> {
    disk.rename(from, to).map_err(JournalError::io("rename", from))?;
    disk.sync_directory(directory).map_err(JournalError::io("sync", directory))
}

fn write_compressed(
    disk: &dyn Disk,
    mut source: FinishSource<'_>,
    target: &Path,
    compression: FileCompression,
) -> io::Result<()> {
    if disk.exists(target)? {
        disk.remove(target)?; // left by a try that failed
    }
    let target = BufWriter::with_capacity(CHUNK, FinishTarget(disk.create(target)?));
    let target = match compression {
        FileCompression::None => copy(&mut source, target)?,
        FileCompression::Gzip => {
            copy(&mut source, GzEncoder::new(target, flate2::Compression::default()))?.finish()?
        }
        FileCompression::Zstd => {
            let mut encoder = zstd::Encoder::new(target, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            // In the frame's header, where readers that take it all at once look for it.
            encoder.set_pledged_src_size(Some(source.len))?;
            copy(&mut source, encoder)?.finish()?
        }
    };
    target.into_inner().map_err(|error| error.into_error())?.0.sync()
}

fn copy<W: Write>(reader: &mut FinishSource<'_>, mut writer: W) -> io::Result<W> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(writer),
            n => writer.write_all(&chunk[..n])?,
        }
    }
}

struct FinishSource<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    /// What the writer appends behind this is not read.
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
