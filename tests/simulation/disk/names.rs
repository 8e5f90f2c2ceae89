//! Simulates the names of files: those that processes see, and those that are on the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use crate::files;

/// The names, each with the number of its content.
#[derive(Default)]
pub struct Names {
    now: BTreeMap<PathBuf, usize>,
    /// Those that are surely on the disk.
    durable: BTreeMap<PathBuf, usize>,
    /// The changes that may not be on the disk, the oldest first.
    waiting: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf, usize),
}

impl Change {
    fn is_in(&self, directory: &Path) -> bool {
        let (Self::Create(path, _) | Self::Rename(path, ..) | Self::Remove(path, _)) = self;
        path.parent() == Some(directory)
    }

    /// Changes the names, unless an earlier change is missing.
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(path, content) => {
                names.entry(path.clone()).or_insert(*content);
            }
            Self::Rename(from, to, content) => {
                if names.get(from) == Some(content) {
                    names.remove(from);
                    names.insert(to.clone(), *content);
                }
            }
            Self::Remove(path, content) => {
                if names.get(path) == Some(content) {
                    names.remove(path);
                }
            }
        }
    }
}

fn in_directory<'a>(
    names: &'a BTreeMap<PathBuf, usize>,
    directory: &'a Path,
) -> impl Iterator<Item = (String, usize)> + 'a {
    let inside = names.iter().filter(move |(path, _)| path.parent() == Some(directory));
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    inside.map(move |(path, content)| (name(path), *content))
}

impl Names {
    pub fn now<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = (String, usize)> + 'a {
        in_directory(&self.now, directory)
    }

    pub fn durable<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = (String, usize)> + 'a {
        in_directory(&self.durable, directory)
    }

    /// The contents that have a name.
    pub fn contents(&self) -> impl Iterator<Item = usize> {
        self.now.values().copied()
    }

    /// The contents that readers may take.
    pub fn published(&self) -> impl Iterator<Item = usize> {
        let is_published =
            |path: &Path| path.file_name().is_some_and(|name| files::is_published(&name.to_string_lossy()));
        self.now.iter().filter(move |(path, _)| is_published(path)).map(|(_, content)| *content)
    }

    pub fn find(&self, path: &Path) -> Option<usize> {
        self.now.get(path).copied()
    }

    pub fn create(&mut self, path: &Path, content: usize) {
        self.change(Change::Create(path.to_owned(), content));
    }

    pub fn rename(&mut self, from: &Path, to: &Path, content: usize) {
        self.change(Change::Rename(from.to_owned(), to.to_owned(), content));
    }

    pub fn remove(&mut self, path: &Path, content: usize) {
        self.change(Change::Remove(path.to_owned(), content));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.waiting.push(change);
    }

    /// Makes the changes of a directory durable.
    pub fn sync(&mut self, directory: &Path) {
        let durable = &mut self.durable;
        self.waiting.retain(|change| {
            let is_inside = change.is_in(directory);
            if is_inside {
                change.apply(durable);
            }
            !is_inside
        });
    }

    /// Keeps the first of the changes that were not synced, or any of them.
    pub fn power_cut(&mut self, random: &mut Rng) {
        let waiting = std::mem::take(&mut self.waiting);
        let kept = random.usize(0..=waiting.len());
        let is_in_order = random.bool();
        for (nth, change) in waiting.iter().enumerate() {
            if if is_in_order { nth < kept } else { random.bool() } {
                change.apply(&mut self.durable);
            }
        }
        self.now.clone_from(&self.durable);
    }
}
