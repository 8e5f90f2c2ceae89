//! Whether a journal could be opened, found out without leaving anything behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;

use super::JournalSettings;
use super::disk::{Disk, Locking, OsDisk};
use super::store::holdings;
use super::trouble::Trouble;
use crate::units::Size;

/// Looks at the directory, writes and removes a file there, and tries the lock. Returns lines worth
/// knowing; those that begin with `warning: ` more so.
pub(crate) fn probe(settings: &JournalSettings) -> Result<Vec<String>, Trouble> {
    let directory = settings.directory.as_path();
    let disk = OsDisk;
    if !disk.exists(directory).map_err(Trouble::io("look for", directory))? {
        let above = directory.ancestors().skip(1).find(|path| path.exists()).unwrap_or(Path::new("."));
        write_and_remove(disk, above)?;
        return Ok(vec![format!("{} does not exist yet and can be made", directory.display())]);
    }
    let seen = holdings(&disk, settings)?;
    write_and_remove(disk, directory)?;
    let mut lines =
        vec![format!("{} can be written; it holds {} of these files", directory.display(), Size(seen.total))];
    let mode = fs::metadata(directory).map_err(Trouble::io("look at", directory))?.permissions().mode();
    if mode & 0o077 != 0 {
        lines.push(format!(
            "warning: {} is open to other users (mode {:03o}): the files name people, so chmod 700",
            directory.display(),
            mode & 0o777
        ));
    }
    lines.extend(lock_held(disk, &directory.join(settings.stems.lock_name()))?);
    Ok(lines)
}

fn write_and_remove(disk: OsDisk, directory: &Path) -> Result<(), Trouble> {
    let path = directory.join(format!(".probe-{}-{}", std::process::id(), Timestamp::now().as_nanosecond()));
    let mut file = disk.create(&path).map_err(Trouble::io("create", &path))?;
    let written = file.append(b"probe\n").and_then(|()| file.sync());
    disk.remove(&path).map_err(Trouble::io("remove", &path))?;
    written.map_err(Trouble::io("write", &path))
}

/// A warning only: most often it is the bridge itself that runs beside `check`.
fn lock_held(disk: OsDisk, path: &Path) -> Result<Option<String>, Trouble> {
    if !disk.exists(path).map_err(Trouble::io("look for", path))? {
        return Ok(None);
    }
    match disk.lock(path).map_err(Trouble::io("lock", path))? {
        Locking::Locked(_) => Ok(None),
        Locking::HeldBy(holder) => {
            let held = Trouble::Locked { path: path.to_owned(), holder };
            Ok(Some(format!("warning: {held}")))
        }
    }
}
