//! Writes a group to the open files as a whole or not at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::config::FileCompression;
use super::disk::{Disk, Lock, Locking};
use super::error::JournalError;
use super::finish::{Unfinished, sync};
use super::group::Group;
use super::line_file::{LineFile, sync_all};
use super::name::{Base, FileNumber};
use super::name_template::FileSlot;
use super::quota::Quota;
use super::recovery::{Left, recover};
use super::settings::JournalSettings;
use super::synced_lengths::SyncedLengths;

/// Bytes that compression may add to incompressible data, beyond 1/64 of its size.
const OVERHEAD: u64 = 64 << 10;
/// The most unfinished files, open or closed. This bounds templates that contain the time.
const MAX_UNFINISHED: usize = 8192;

/// Why a group is not durable. The files hold nothing of it, at the latest after the next open.
#[derive(Debug)]
pub(crate) struct CommitError {
    pub(crate) error: JournalError,
    /// The journal must be opened again. Otherwise everything is as before, and the group may be tried again.
    pub(crate) is_broken: bool,
}

/// The files being written. Every method blocks on the disk.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    lengths: SyncedLengths,
    quota: Quota,
    /// The files being written; the keys are their stems.
    files: HashMap<String, LineFile>,
    /// Files left by an earlier run. They are only finished, not written to.
    leftovers: Vec<Unfinished>,
    /// Bytes of the largest file that is being finished; 0 if there is none.
    finishing: u64,
    /// A group found no room. Files are then finished before they are due, so that they can be moved away.
    pressed: bool,
    /// A file was created and the directory was not synced since.
    directory_dirty: bool,
    /// The newest number used, also by earlier processes. Numbers never go back.
    last: FileNumber,
    /// Counts the waves of writing, to find the file that was written least recently.
    wave: u64,
    lock: Box<dyn Lock>,
}

impl Journal {
    /// Makes the directory, locks the names, and repairs the files of an earlier run.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        settings: JournalSettings,
        lengths: SyncedLengths,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let opened = Self::opened(Arc::clone(&disk), &settings, lengths, now);
        opened.map_err(|error| error.explained(disk.as_ref(), &settings))
    }

    fn opened(
        disk: Arc<dyn Disk>,
        settings: &JournalSettings,
        lengths: SyncedLengths,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let directory = settings.directory.as_path();
        disk.make_directory(directory).map_err(JournalError::io("make", directory))?;
        let lock_path = directory.join(settings.stems.lock_name());
        let lock = match disk.lock(&lock_path).map_err(JournalError::io("lock", &lock_path))? {
            Locking::Locked(lock) => lock,
            Locking::HeldBy(holder) => {
                return Err(JournalError::Locked {
                    path: lock_path,
                    holder,
                    section: settings.section.clone(),
                });
            }
        };
        let left = recover(disk.as_ref(), directory, &settings.stems, &lengths)?;
        let quota = Quota::look(disk.as_ref(), settings, now)?;
        // The note also covers names whose files were moved away since.
        let noted = lock.note().ok().and_then(|note| FileNumber::parse(&note));
        let mut journal = Self {
            disk,
            settings: settings.clone(),
            lengths,
            files: HashMap::new(),
            leftovers: Vec::new(),
            finishing: 0,
            pressed: false,
            directory_dirty: false,
            last: noted.max(quota.known.newest).unwrap_or(FileNumber::FIRST),
            quota,
            wave: 0,
            lock,
        };
        journal.adopt(left);
        Ok(journal)
    }

    /// Continues the newest file of each stem. Older files are only finished.
    fn adopt(&mut self, left: Vec<Left>) {
        for Left { base, stem, opened, len } in left {
            let path = self.settings.directory.join(base.open());
            let file = LineFile::new(base, path, len, opened);
            if let Some(older) = self.files.insert(stem, file) {
                self.lengths.forget(&older.path);
                self.leftovers.push(Unfinished { base: older.base, len: older.synced });
            }
        }
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    pub(crate) fn settings(&self) -> &JournalSettings {
        &self.settings
    }

    /// Sets the bytes of the largest file that was taken out and is not finished yet.
    pub(crate) fn finishing(&mut self, largest: u64) {
        self.finishing = largest;
    }

    /// Appends a group and makes it durable. Returns `Ok` only when every line is on the disk. After an error
    /// no line is reported as durable.
    pub(crate) fn commit<T>(&mut self, group: &Group<T>, now: Timestamp) -> Result<(), CommitError> {
        self.put(group, now).map_err(|CommitError { error, is_broken }| {
            self.pressed |= error.wants_room();
            let error = error.explained(self.disk.as_ref(), &self.settings);
            CommitError { error, is_broken }
        })
    }

    fn put<T>(&mut self, group: &Group<T>, now: Timestamp) -> Result<(), CommitError> {
        let parts: Vec<(String, &[u8])> =
            group.parts().map(|(slot, lines)| (self.stem(slot), lines)).collect();
        let written = self
            .within_limits(group.bytes() as u64, now)
            .and_then(|()| self.within_reserve(&parts))
            .and_then(|()| self.write(&parts, now));
        match written {
            Ok(()) => {
                self.settle();
                self.quota.appended(group.bytes() as u64);
                Ok(())
            }
            Err(error) => Err(self.take_back(error)),
        }
    }

    fn stem(&self, slot: FileSlot) -> String {
        self.settings.stems.stem(slot)
    }

    fn within_limits(&mut self, more: u64, now: Timestamp) -> Result<(), JournalError> {
        if self.quota.check(more, now, &self.settings).is_err() && self.quota.may_look(now) {
            self.quota = Quota::look(self.disk.as_ref(), &self.settings, now)?;
        }
        self.quota.check(more, now, &self.settings)
    }

    /// Keeps the last room for compression. Without it no file could be finished, and so none could be moved
    /// away. One file at a time is compressed, in the worst case to its own size.
    fn within_reserve(&self, parts: &[(String, &[u8])]) -> Result<(), JournalError> {
        if self.settings.compression == FileCompression::None {
            return Ok(());
        }
        let grown = |(stem, lines): &(String, &[u8])| {
            self.files.get(stem).map_or(0, |file| file.synced) + lines.len() as u64
        };
        let unfinished = self.files.values().map(|file| file.synced);
        let left = self.leftovers.iter().map(|file| file.len);
        let largest =
            unfinished.chain(left).chain(parts.iter().map(grown)).max().unwrap_or(0).max(self.finishing);
        let more: u64 = parts.iter().map(|(_, lines)| lines.len() as u64).sum();
        let needed = largest + largest / 64 + OVERHEAD;
        let directory = &self.settings.directory;
        let room = self.disk.room(directory).map_err(JournalError::io("look at", directory))?;
        if room >= needed + more {
            return Ok(());
        }
        let advice = match self.may_make_room() {
            true => "they are being finished to make room",
            false => "make room on its file system: {movable}",
        };
        let (directory, advice) = (directory.clone(), advice.to_owned());
        Err(JournalError::Reserve { directory, room, needed, finishing: self.may_make_room(), advice })
    }

    /// Returns whether a file is being finished or will be finished because room is needed.
    fn may_make_room(&self) -> bool {
        self.finishing > 0 || !self.leftovers.is_empty() || self.files.values().any(|file| file.synced > 0)
    }

    /// Writes and syncs the parts in waves of at most `max_open` files.
    fn write(&mut self, parts: &[(String, &[u8])], now: Timestamp) -> Result<(), JournalError> {
        for wave in parts.chunks(self.settings.max_open) {
            self.wave += 1;
            for (stem, lines) in wave {
                self.append(stem, lines, now)?;
            }
            let written: Vec<&LineFile> = wave.iter().filter_map(|(stem, _)| self.files.get(stem)).collect();
            sync_all(&written)?;
        }
        if self.directory_dirty {
            sync(self.disk.as_ref(), &self.settings.directory)?;
            self.directory_dirty = false;
        }
        Ok(())
    }

    fn append(&mut self, stem: &str, lines: &[u8], now: Timestamp) -> Result<(), JournalError> {
        if self.files.get(stem).is_none_or(|file| file.handle.is_none()) {
            self.make_room();
        }
        if !self.files.contains_key(stem) {
            let file = self.create(stem, now)?;
            self.files.insert(stem.to_owned(), file);
        }
        let Some(file) = self.files.get_mut(stem) else { return Ok(()) };
        file.wave = self.wave;
        file.append(self.disk.as_ref(), lines)
    }

    /// Closes the file written least recently if `max_open` files are open.
    fn make_room(&mut self) {
        let open = self.files.values().filter(|file| file.handle.is_some()).count();
        if open >= self.settings.max_open {
            let open = self.files.values_mut().filter(|file| file.handle.is_some());
            if let Some(oldest) = open.min_by_key(|file| file.wave) {
                oldest.handle = None;
            }
        }
    }

    fn create(&mut self, stem: &str, now: Timestamp) -> Result<LineFile, JournalError> {
        let base = self.next_base(stem, now)?;
        let path = self.settings.directory.join(base.open());
        let handle = self.disk.create(&path).map_err(JournalError::io("create", &path))?;
        self.directory_dirty = true;
        self.lengths.remember(&path, 0);
        Ok(LineFile { handle: Some(handle), ..LineFile::new(base, path, 0, now) })
    }

    /// Returns a name that sorts after every earlier one and that no file has, in any state.
    fn next_base(&mut self, stem: &str, now: Timestamp) -> Result<Base, JournalError> {
        loop {
            self.last = self.last.next(now);
            let base = Base::new(stem, self.last);
            let mut free = true;
            for name in base.names() {
                let path = self.settings.directory.join(name);
                free &= !self.disk.exists(&path).map_err(JournalError::io("look for", &path))?;
            }
            if free {
                if let Err(error) = self.lock.set_note(&self.last.to_string()) {
                    tracing::debug!(%error, "the newest name can't be noted in the lock file");
                }
                return Ok(base);
            }
        }
    }

    /// Notes that everything written is durable.
    fn settle(&mut self) {
        for file in self.files.values_mut().filter(|file| file.is_dirty()) {
            file.synced = file.written;
            file.cut = false;
            self.lengths.remember(&file.path, file.synced);
        }
    }

    /// Cuts every file back to its durable length.
    fn take_back(&mut self, error: JournalError) -> CommitError {
        let mut is_broken = matches!(error, JournalError::Moved { .. });
        for file in self.files.values_mut().filter(|file| file.is_dirty()) {
            if let Err(error) = file.cut_back(self.disk.as_ref()) {
                let path = file.path.display();
                tracing::warn!(file = %path, %error, "could not cut back; will be done at the next opening");
                is_broken = true;
            }
        }
        // If the directory is gone, only opening the journal again creates and locks it.
        is_broken |= !matches!(self.disk.exists(&self.settings.directory), Ok(true));
        CommitError { error, is_broken }
    }

    /// Takes out the files that are due, at most `room`, least recently written first. Files that exceed
    /// `room` keep growing until a later call.
    pub(crate) fn rotate(&mut self, now: Timestamp, room: usize) -> Vec<Unfinished> {
        let mut taken: Vec<Unfinished> = self.leftovers.drain(..room.min(self.leftovers.len())).collect();
        let rotation = self.settings.rotation;
        // If the disk has no room, small files are not worth finishing early.
        let large = self.files.values().map(|file| file.synced).max().unwrap_or(0).div_ceil(2).max(1);
        let pressed = std::mem::take(&mut self.pressed);
        let is_due = |file: &LineFile| {
            rotation.is_due(file.synced, file.opened, now) || (pressed && file.synced >= large)
        };
        let mut due: Vec<(u64, String)> = self
            .files
            .iter()
            .filter(|(_, file)| is_due(file))
            .map(|(stem, file)| (file.wave, stem.clone()))
            .collect();
        if self.files.len() > MAX_UNFINISHED {
            let oldest = self.files.iter().min_by_key(|(_, file)| file.wave);
            due.extend(oldest.map(|(stem, file)| (file.wave, stem.clone())));
        }
        due.sort_unstable();
        for (_, stem) in due.into_iter().take(room - taken.len()) {
            taken.extend(self.take_out(&stem, now));
        }
        taken
    }

    /// Takes out every file, for a clean end.
    pub(crate) fn take_all(&mut self, now: Timestamp) -> Vec<Unfinished> {
        let mut taken = std::mem::take(&mut self.leftovers);
        let stems: Vec<String> = self.files.keys().cloned().collect();
        taken.extend(stems.iter().filter_map(|stem| self.take_out(stem, now)));
        taken
    }

    fn take_out(&mut self, stem: &str, now: Timestamp) -> Option<Unfinished> {
        if let Err(error) = self.files.get_mut(stem)?.settle_cut(self.disk.as_ref()) {
            tracing::warn!("{error}; the file is finished later");
            return None;
        }
        let file = self.files.remove(stem)?;
        self.lengths.forget(&file.path);
        self.quota.finished(now);
        Some(Unfinished { base: file.base, len: file.synced })
    }

    #[cfg(test)]
    pub(super) fn open_files(&self) -> usize {
        self.files.values().filter(|file| file.handle.is_some()).count()
    }

    /// How long until a file is due by its age; `None` if there is none.
    pub(crate) fn next_rotation(&self, now: Timestamp) -> Option<Duration> {
        let remaining = |file: &LineFile| self.settings.rotation.remaining(file.opened, now);
        self.files.values().map(remaining).min()
    }
}
