//! Checks whether a journal could be opened, and leaves no files behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use jiff::Timestamp;

use super::disk::{Disk, DiskFile, Locking, OsDisk};
use super::error::JournalError;
use super::file_system;
use super::name::{Base, FileNumber};
use super::name_template::FileSlot;
use super::quota::Quota;
use super::recovery::refuse_doubles;
use super::settings::JournalSettings;
use crate::finding::{Finding, codes};
use crate::units::Size;

/// How many syncs are measured, unless they take longer than [`LONG_ENOUGH`] together.
const SYNCS: usize = 5;
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// Lists the directory, writes and removes a file there, and tries the lock. Returns what it found, for
/// people.
pub(crate) fn probe(settings: &JournalSettings) -> Result<Vec<Finding>, JournalError> {
    look(settings, OsDisk).map_err(|error| error.explained(&OsDisk, settings))
}

fn look(settings: &JournalSettings, disk: OsDisk) -> Result<Vec<Finding>, JournalError> {
    let directory = settings.directory.as_path();
    let above = nearest(disk, directory)?;
    name_fits(disk, above, settings)?;
    if above != directory {
        let syncs = write_and_remove(disk, above)?;
        let message = format!("{} does not exist yet and can be made", directory.display());
        let mut found = vec![Finding::detail(codes::FILES_DIRECTORY_TO_BE_MADE, message)];
        found.extend(of_file_system(disk, above, settings, syncs)?);
        return Ok(found);
    }
    let entries = disk.list(directory).map_err(JournalError::io("list", directory))?;
    refuse_doubles(directory, &entries, &settings.stems)?;
    let quota = Quota::look(&disk, settings, Timestamp::now())?;
    let syncs = write_and_remove(disk, directory)?;
    quota.check(1, Timestamp::now(), settings)?;
    let held = Size(quota.known.total);
    let message = format!("{} can be written; it holds {held} of these files", directory.display());
    let mut found = vec![Finding::detail(codes::FILES_DIRECTORY, message)];
    found.extend(
        open_to_others(directory)?.map(|warning| Finding::warning(codes::FILES_OPEN_TO_OTHERS, warning)),
    );
    found.extend(lock_held(disk, settings)?);
    found.extend(of_file_system(disk, directory, settings, syncs)?);
    Ok(found)
}

fn nearest(disk: OsDisk, path: &Path) -> Result<&Path, JournalError> {
    for above in path.ancestors() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match disk.exists(above) {
            Ok(true) if above.is_dir() => return Ok(above),
            // Use the same error as opening the journal: a file is in the place of the directory.
            Ok(true) => return Err(JournalError::io("make", path)(io::ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() != io::ErrorKind::NotADirectory => {
                return Err(JournalError::io("look for", above)(error));
            }
            _ => {}
        }
    }
    Ok(Path::new("."))
}

pub(super) fn open_to_others(directory: &Path) -> Result<Option<String>, JournalError> {
    let mode = fs::metadata(directory).map_err(JournalError::io("look at", directory))?.permissions().mode();
    let warning = || {
        let (directory, mode) = (directory.display(), mode & 0o777);
        format!("{directory} is open to other users (mode {mode:03o}): the files name people, so chmod 700")
    };
    Ok((mode & 0o077 != 0).then(warning))
}

/// Checks the longest name that a file gets before it is finished.
fn name_fits(disk: OsDisk, directory: &Path, settings: &JournalSettings) -> Result<(), JournalError> {
    let opening = FileNumber { at: Timestamp::now(), ..FileNumber::FIRST };
    let stem = settings.stems.stem(FileSlot::default());
    for name in Base::new(&stem, opening).names() {
        let path = directory.join(name);
        disk.exists(&path).map_err(JournalError::io("look for", &path))?;
    }
    Ok(())
}

/// Writes a file in `directory` and removes it. Returns how long its syncs took.
fn write_and_remove(disk: OsDisk, directory: &Path) -> Result<Vec<Duration>, JournalError> {
    let path = directory.join(format!(".probe-{}-{}", std::process::id(), Timestamp::now().as_nanosecond()));
    let file = disk.create(&path).map_err(JournalError::io("create", &path))?;
    let synced = timed_syncs(file.as_ref());
    disk.remove(&path).map_err(JournalError::io("remove", &path))?;
    synced.map_err(JournalError::io("write", &path))
}

/// Writes and syncs a few times, but not for long.
fn timed_syncs(file: &dyn DiskFile) -> io::Result<Vec<Duration>> {
    let began = Instant::now();
    let mut syncs = Vec::new();
    while syncs.is_empty() || (syncs.len() < SYNCS && began.elapsed() < LONG_ENOUGH) {
        file.append(b"probe\n")?;
        let begin = Instant::now();
        file.sync()?;
        syncs.push(begin.elapsed());
    }
    Ok(syncs)
}

fn of_file_system(
    disk: OsDisk,
    directory: &Path,
    settings: &JournalSettings,
    syncs: Vec<Duration>,
) -> Result<Vec<Finding>, JournalError> {
    let room = disk.room(directory).map_err(JournalError::io("look at", directory))?;
    let of_room = file_system::of_room(directory, room, settings.rotation.size.0, &settings.section);
    let of_type = file_system::of_type(directory);
    Ok(of_type.into_iter().chain([of_room]).chain(file_system::of_syncs(directory, syncs)).collect())
}

/// Returns only a warning, because the lock holder is usually the bridge itself, running beside `check`.
fn lock_held(disk: OsDisk, settings: &JournalSettings) -> Result<Option<Finding>, JournalError> {
    let path = &settings.directory.join(settings.stems.lock_name());
    if !disk.exists(path).map_err(JournalError::io("look for", path))? {
        return Ok(None);
    }
    match disk.lock(path).map_err(JournalError::io("lock", path))? {
        Locking::Locked(_) => Ok(None),
        Locking::HeldBy(holder) => {
            let held = JournalError::locked(path.clone(), holder, settings);
            Ok(Some(Finding::warning(codes::FILES_LOCKED, held.to_string())))
        }
    }
}
