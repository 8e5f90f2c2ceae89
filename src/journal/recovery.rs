//! Repairs the files of an earlier run before anything is written. Finishing that was interrupted is
//! completed or started again, and files being written are cut back to the end of the last complete group.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use jiff::Timestamp;

use super::chunk::chunk_of;
use super::config::FileCompression;
use super::disk::{DirEntry, Disk, DiskFile};
use super::error::JournalError;
use super::finish::{Finishing, remove, sync};
use super::id_log::IdLog;
use super::line_file::UNSYNCED;
use super::name::{Base, FileState, Parsed, parse};
use super::name_template::Stems;
use super::settings::JournalSettings;
use super::synced_lengths::SyncedLengths;

/// A repaired file that was being written.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) base: Base,
    pub(super) stem: String,
    pub(super) opened: Timestamp,
    pub(super) len: u64,
}

/// Repairs the files of a journal and their id log. Returns the files that were being written, oldest first.
pub(super) fn recover(
    disk: &dyn Disk,
    settings: &JournalSettings,
    lengths: &SyncedLengths,
) -> Result<(Vec<Left>, IdLog), JournalError> {
    let JournalSettings { directory, stems, .. } = settings;
    let entries = disk.list(directory).map_err(JournalError::io("list", directory))?;
    let mut open = complete_interrupted(disk, directory, &entries, stems)?;
    let log_path = IdLog::path(settings);
    // What a recovery that failed has found may be wrong: its last group need not be complete any more.
    let is_repeated = lengths.recovering();
    let trusts_lengths = lengths.synced(&log_path).is_some() || !is_repeated;
    lengths.retain(|_| trusts_lengths);
    lengths.retain(|path| path == log_path || open.keys().any(|base| directory.join(base.open()) == path));
    let mut id_log = IdLog::open(disk, settings, lengths, |base| open.contains_key(base))?;
    let mut left = Vec::new();
    while let Some((base, parsed)) = open.pop_first() {
        let len = repair(disk, directory, &base, (lengths, id_log.end(&base)))?;
        if len > 0 {
            left.push(Left { base, stem: parsed.stem, opened: parsed.opening.at, len });
        }
    }
    // An earlier process may have died between creating a file and syncing the directory.
    sync(disk, directory)?;
    id_log.set_ends(left.iter().map(|file: &Left| (file.base.clone(), file.len)));
    lengths.recovered();
    Ok((left, id_log))
}

/// Completes interrupted finishing. Returns the files that are still open.
fn complete_interrupted(
    disk: &dyn Disk,
    directory: &Path,
    entries: &[DirEntry],
    stems: &Stems,
) -> Result<BTreeMap<Base, Parsed>, JournalError> {
    let mut open = BTreeMap::new();
    let mut ready: Vec<(Base, FileCompression)> = Vec::new();
    refuse_doubles(directory, entries, stems)?;
    for entry in entries {
        let Some(parsed) = parse(&entry.name, stems) else { continue };
        match parsed.state {
            FileState::Finished => {}
            FileState::Ready(compression) => ready.push((parsed.base, compression)),
            FileState::Open => {
                open.insert(parsed.base.clone(), parsed);
            }
            FileState::Temporary => remove(disk, directory, &directory.join(&entry.name))?,
        }
    }
    for (base, compression) in ready {
        Finishing { disk, directory, base: &base, compression }.publish()?;
        open.remove(&base);
    }
    Ok(open)
}

/// Refuses an unfinished file if a finished file of that name exists, for example because somebody copied it
/// back. Nothing is overwritten, and the error comes before the unfinished file grows.
pub(super) fn refuse_doubles(
    directory: &Path,
    entries: &[DirEntry],
    stems: &Stems,
) -> Result<(), JournalError> {
    let (mut finished, mut unfinished) = (HashMap::new(), Vec::new());
    for entry in entries {
        match parse(&entry.name, stems) {
            Some(Parsed { base, state: FileState::Finished, .. }) => drop(finished.insert(base, entry)),
            Some(Parsed { base, state: FileState::Open | FileState::Ready(_), .. }) => unfinished.push(base),
            _ => {}
        }
    }
    match unfinished.iter().find_map(|base| finished.get(base)) {
        Some(double) => Err(JournalError::Exists { path: directory.join(&double.name) }),
        None => Ok(()),
    }
}

/// Cuts a file back to the last complete line of what is known to be durable: from this process, or `recorded`
/// in the id log. If nothing is known, it keeps all up to the first zero byte. Returns the new length. Removes
/// an empty file.
fn repair(
    disk: &dyn Disk,
    directory: &Path,
    base: &Base,
    (lengths, recorded): (&SyncedLengths, Option<u64>),
) -> Result<u64, JournalError> {
    let path = directory.join(base.open());
    let file = disk.open(&path).map_err(JournalError::io("open", &path))?;
    let len = file.len().map_err(JournalError::io("read", &path))?;
    // A group leaves no more bytes than this: whatever wrote more did not know the log.
    let recorded = recorded.filter(|end| len.saturating_sub(*end) <= UNSYNCED as u64);
    let bound = match lengths.synced(&path).or(recorded) {
        Some(durable) => durable.min(len),
        None => first_zero(file.as_ref(), len).map_err(JournalError::io("read", &path))?.unwrap_or(len),
    };
    let keep = last_line_end(file.as_ref(), bound).map_err(JournalError::io("read", &path))?;
    if keep < len {
        tracing::warn!(
            file = %path.display(),
            bytes = len - keep,
            "cut off what was written but never confirmed; the broker still has it"
        );
        file.truncate(keep).map_err(JournalError::io("truncate", &path))?;
    }
    // Always sync: the bytes that a dead process wrote may not be on the disk yet, and new lines follow them
    // now.
    file.sync().map_err(JournalError::io("sync", &path))?;
    if keep == 0 {
        remove(disk, directory, &path)?;
        lengths.forget(&path);
    } else {
        lengths.remember(&path, keep);
    }
    Ok(keep)
}

/// Finds the first zero byte among the bytes that an earlier process may have written without syncing. After
/// a power cut, the file may have its full length while some of its pages are missing. Earlier bytes were
/// synced and are not checked, so nothing that was acknowledged is ever cut off.
fn first_zero(file: &dyn DiskFile, len: u64) -> std::io::Result<Option<u64>> {
    let mut chunk = vec![0; chunk_of(len)];
    let mut start = len.saturating_sub(UNSYNCED as u64);
    while start < len {
        let filled = fill(file, &mut chunk, start, len)?;
        if let Some(at) = memchr::memchr(0, &chunk[..filled]) {
            return Ok(Some(start + at as u64));
        }
        if filled == 0 {
            break;
        }
        start += filled as u64;
    }
    Ok(None)
}

/// The length of the file up to and including the last line feed before `end`.
fn last_line_end(file: &dyn DiskFile, mut end: u64) -> std::io::Result<u64> {
    let mut chunk = vec![0; chunk_of(end)];
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        let filled = fill(file, &mut chunk, start, end)?;
        if let Some(at) = memchr::memrchr(b'\n', &chunk[..filled]) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Reads from `start` until `end`, the end of the chunk or the end of the file. Returns the number of bytes.
fn fill(file: &dyn DiskFile, chunk: &mut [u8], start: u64, end: u64) -> std::io::Result<usize> {
    let wanted = usize::try_from(end - start).unwrap_or(usize::MAX).min(chunk.len());
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut chunk[filled..wanted], start + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
