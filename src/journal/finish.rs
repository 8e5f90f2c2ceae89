//! From a file that is no longer written to one that readers may take.
//!
//! Uncompressed it is renamed. Compressed, in steps each of which is durable before the next: the `.tmp`
//! file is written and synced; renamed to `.ready`; the `.open` file is removed; `.ready` is renamed to the
//! finished name. So at no time two complete copies exist of which a reader could take the second later,
//! and at every time one complete copy exists ([`super::recovery`] goes on from any step).

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::write::GzEncoder;

use super::config::Compression;
use super::disk::{Disk, DiskFile};
use super::name::Base;
use super::trouble::Trouble;

const CHUNK: usize = 256 << 10;
const ZSTD_LEVEL: i32 = 3;

/// Finishes the file `base`, from whatever step an earlier try has come to; one without content is removed.
/// Given up, to be done again later, once `cancel` is set.
pub(super) fn finish(
    disk: &dyn Disk,
    directory: &Path,
    base: &Base,
    compression: Compression,
    cancel: &AtomicBool,
) -> Result<(), Trouble> {
    let exists = |path: &Path| disk.exists(path).map_err(Trouble::io("look for", path));
    let ready = directory.join(base.ready(compression));
    if exists(&ready)? {
        return publish(disk, directory, base, compression);
    }
    let open = directory.join(base.open());
    if !exists(&open)? {
        // Renamed or removed by an earlier try, which then failed to make that durable.
        return disk.sync_directory(directory).map_err(Trouble::io("sync", directory));
    }
    let source = disk.open(&open).map_err(Trouble::io("open", &open))?;
    if source.len().map_err(Trouble::io("read", &open))? == 0 {
        return remove(disk, directory, &open);
    }
    let finished = directory.join(base.finished(compression));
    if exists(&finished)? {
        return Err(Trouble::Exists { path: finished });
    }
    if compression == Compression::None {
        return rename(disk, directory, &open, &finished);
    }
    let temporary = directory.join(base.temporary(compression));
    let written = write_compressed(disk, source.as_ref(), &temporary, compression, cancel);
    written.map_err(Trouble::io("write", &temporary))?;
    rename(disk, directory, &temporary, &ready)?;
    publish(disk, directory, base, compression)
}

/// Gives a file that is ready to readers.
pub(super) fn publish(
    disk: &dyn Disk,
    directory: &Path,
    base: &Base,
    compression: Compression,
) -> Result<(), Trouble> {
    let open = directory.join(base.open());
    if disk.exists(&open).map_err(Trouble::io("look for", &open))? {
        disk.remove(&open).map_err(Trouble::io("remove", &open))?;
    }
    disk.sync_directory(directory).map_err(Trouble::io("sync", directory))?;
    let finished = directory.join(base.finished(compression));
    rename(disk, directory, &directory.join(base.ready(compression)), &finished)
}

/// Removes a file, durably.
pub(super) fn remove(disk: &dyn Disk, directory: &Path, path: &Path) -> Result<(), Trouble> {
    disk.remove(path).map_err(Trouble::io("remove", path))?;
    disk.sync_directory(directory).map_err(Trouble::io("sync", directory))
}

/// Renames a file, durably.
fn rename(disk: &dyn Disk, directory: &Path, from: &Path, to: &Path) -> Result<(), Trouble> {
    disk.rename(from, to).map_err(Trouble::io("rename", from))?;
    disk.sync_directory(directory).map_err(Trouble::io("sync", directory))
}

fn write_compressed(
    disk: &dyn Disk,
    source: &dyn DiskFile,
    target: &Path,
    compression: Compression,
    cancel: &AtomicBool,
) -> io::Result<()> {
    if disk.exists(target)? {
        disk.remove(target)?; // left by a try that failed
    }
    let mut reader = Source { file: source, offset: 0, cancel };
    let target = BufWriter::with_capacity(CHUNK, Target(disk.create(target)?));
    let target = match compression {
        Compression::None => copy(&mut reader, target)?,
        Compression::Gzip => {
            copy(&mut reader, GzEncoder::new(target, flate2::Compression::default()))?.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(target, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            copy(&mut reader, encoder)?.finish()?
        }
    };
    target.into_inner().map_err(|error| error.into_error())?.0.sync()
}

fn copy<W: Write>(reader: &mut Source<'_>, mut writer: W) -> io::Result<W> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(writer),
            n => writer.write_all(&chunk[..n])?,
        }
    }
}

struct Source<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    cancel: &'a AtomicBool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other("the bridge is stopping"));
        }
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

struct Target(Box<dyn DiskFile>);

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
