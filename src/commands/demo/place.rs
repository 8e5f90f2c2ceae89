//! Chooses the directories for the files of a demo.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// There is no usable directory for the files.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("cannot use {}: {cause}; name another --directory", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{} is not empty, and old files would be counted with the new: name another --directory", .0.display())]
    Used(PathBuf),
    #[error("{} is no UTF-8: name another --directory", .0.display())]
    NotText(PathBuf),
}

/// A directory for the events and one for the dead letters. They are removed when dropped, unless the user
/// named the directory.
#[derive(Debug)]
pub(super) struct DemoDirectory {
    root: PathBuf,
    temporary: bool,
}

impl DemoDirectory {
    /// Uses `named`, or creates a directory in the system's directory for temporary files.
    pub(super) fn new(named: Option<&Path>) -> Result<Self, PlaceError> {
        let place = match named {
            Some(root) => Self { root: std::path::absolute(root).map_err(fails(root))?, temporary: false },
            None => Self::temporary()?,
        };
        if place.root.to_str().is_none() {
            return Err(PlaceError::NotText(place.root.clone()));
        }
        for directory in [place.events(), place.dead_letters()] {
            let mut entries =
                private().recursive(true).create(&directory).and_then(|()| fs::read_dir(&directory));
            if entries.as_mut().map(|entries| entries.next().is_some()).unwrap_or(false) {
                return Err(PlaceError::Used(directory));
            }
            entries.map_err(fails(&directory))?;
        }
        Ok(place)
    }

    fn temporary() -> Result<Self, PlaceError> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("atdata-bridge-demo-{}-{}", std::process::id(), since.subsec_nanos());
        let root = std::env::temp_dir().join(name);
        private().create(&root).map_err(fails(&root))?;
        Ok(Self { root, temporary: true })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn events(&self) -> PathBuf {
        self.root.join("events")
    }

    pub(super) fn dead_letters(&self) -> PathBuf {
        self.root.join("dead-letters")
    }
}

impl Drop for DemoDirectory {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.root)
        {
            tracing::warn!("cannot remove {}: {error}", self.root.display());
        }
    }
}

fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn fails(path: &Path) -> impl Fn(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |cause| PlaceError::Io { path: path.clone(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_its_own_is_private_and_vanishes() {
        use std::os::unix::fs::PermissionsExt;
        let place = DemoDirectory::new(None).unwrap();
        let (root, events) = (place.root().to_owned(), place.events());
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(events.join("x"), "x").unwrap();
        drop(place);
        assert!(!root.exists());
    }

    #[test]
    fn a_named_place_stays_and_serves_once() {
        let directory = tempfile::tempdir().unwrap();
        let events = DemoDirectory::new(Some(directory.path())).unwrap().events();
        fs::write(events.join("x"), "x").unwrap();
        let error = DemoDirectory::new(Some(directory.path())).unwrap_err();
        assert!(matches!(error, PlaceError::Used(used) if used == events));
    }

    #[test]
    fn what_is_no_directory_is_one_clear_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DemoDirectory::new(Some(file.path())).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot use {}/events: ", file.path().display())), "{error}");
    }
}
