//! The files being written: a group goes in as a whole or not at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::config::FileCompression;
use super::disk::{Disk, Lock, Locking};
use super::error::JournalError;
use super::finish::Unfinished;
use super::group::Group;
use super::holdings::Holdings;
use super::line_file::{LineFile, sync_all};
use super::name::{Base, FileNumber, FileSlot};
use super::quota::Quota;
use super::recovery::{Left, recover};
use super::settings::JournalSettings;
use super::synced_lengths::SyncedLengths;

/// What compressing may add to what can't be compressed, beyond a 64th of it.
const OVERHEAD: u64 = 64 << 10;
/// The most files written but not finished, open or not: a bound for templates with the time in them.
const MAX_UNFINISHED: usize = 8192;

/// Why a group is not durable. In every case nothing of it is left in the files, now or after the next
/// opening.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Everything is as it was before; the group may be tried again.
    TakenBack(JournalError),
    /// The journal must be opened anew.
    Broken(JournalError),
}

impl CommitError {
    /// The cause.
    pub(crate) fn error(&self) -> &JournalError {
        match self {
            Self::TakenBack(trouble) | Self::Broken(trouble) => trouble,
        }
    }
}

/// The files being written. Every method blocks on the disk.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    memory: SyncedLengths,
    quota: Quota,
    /// By stem.
    files: HashMap<String, LineFile>,
    /// Finished being written before they were known here: left by an earlier opening.
    leftovers: Vec<Unfinished>,
    /// The largest of the files that are being finished, in bytes; 0 when none is.
    finishing: u64,
    /// A group found no room: files are finished before they are due, so that there is something to move away.
    pressed: bool,
    /// Creations that may not be durable yet.
    directory_dirty: bool,
    /// The newest given away, by earlier processes too: names never go back.
    last: FileNumber,
    /// Counts the waves of writing, to tell which file was written least recently.
    wave: u64,
    lock: Box<dyn Lock>,
}

impl Journal {
    /// Makes the directory, locks the names, and repairs what an earlier opening left.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        settings: JournalSettings,
        memory: SyncedLengths,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let opened = Self::opened(Arc::clone(&disk), &settings, memory, now);
        opened.map_err(|trouble| trouble.explained(disk.as_ref(), &settings))
    }

    fn opened(
        disk: Arc<dyn Disk>,
        settings: &JournalSettings,
        memory: SyncedLengths,
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
        let left = recover(disk.as_ref(), directory, &settings.stems, &memory)?;
        let seen = look(disk.as_ref(), settings)?;
        // The note remembers names whose files were moved away since.
        let noted = lock.note().ok().and_then(|note| FileNumber::parse(&note));
        let mut journal = Self {
            quota: Quota::new(settings.max_total, settings.max_age, seen, now),
            disk,
            settings: settings.clone(),
            memory,
            files: HashMap::new(),
            leftovers: Vec::new(),
            finishing: 0,
            pressed: false,
            directory_dirty: false,
            last: FileNumber::FIRST
                .max(noted.unwrap_or(FileNumber::FIRST))
                .max(seen.newest.unwrap_or(FileNumber::FIRST)),
            wave: 0,
            lock,
        };
        journal.adopt(left);
        Ok(journal)
    }

    /// The newest file of each stem is written on; older ones are only to be finished.
    fn adopt(&mut self, left: Vec<Left>) {
        for Left { base, stem, opened, len } in left {
            let path = self.settings.directory.join(base.open());
            let file = LineFile::new(base, path, len, opened);
            if let Some(older) = self.files.insert(stem, file) {
                self.memory.forget(&older.path);
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

    /// The largest of the files that were taken out and are not finished yet has so many bytes.
    pub(crate) fn finishing(&mut self, largest: u64) {
        self.finishing = largest;
    }

    /// Appends a group and makes it durable. Returns only when every line is on the disk, or none is
    /// answered for.
    pub(crate) fn commit<T>(&mut self, group: &Group<T>, now: Timestamp) -> Result<(), CommitError> {
        let outcome = self.put(group, now);
        outcome.map_err(|failure| {
            self.pressed |= failure.error().wants_room();
            match failure {
                CommitError::TakenBack(trouble) => CommitError::TakenBack(self.explained(trouble)),
                CommitError::Broken(trouble) => CommitError::Broken(self.explained(trouble)),
            }
        })
    }

    fn explained(&self, trouble: JournalError) -> JournalError {
        trouble.explained(self.disk.as_ref(), &self.settings)
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
                self.quota.add(group.bytes() as u64);
                Ok(())
            }
            Err(trouble) => Err(self.take_back(trouble)),
        }
    }

    fn stem(&self, slot: FileSlot) -> String {
        self.settings.stems.stem(slot)
    }

    fn within_limits(&mut self, more: u64, now: Timestamp) -> Result<(), JournalError> {
        if self.quota.exceeded(more, now).is_some() && self.quota.may_look(now) {
            let seen = look(self.disk.as_ref(), &self.settings)?;
            self.quota.look(seen, now);
        }
        self.quota.check(more, now, &self.settings)
    }

    /// The last of the room is for compressing: without it no file could ever be finished, and so nothing be
    /// moved away. One file at a time is compressed, at worst to its own size.
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

    /// Whether a file is being finished, or will be since room is wanted.
    fn may_make_room(&self) -> bool {
        self.finishing > 0 || !self.leftovers.is_empty() || self.files.values().any(|file| file.synced > 0)
    }

    /// Writes and syncs the parts, no more files at once than may be open.
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
            let directory = &self.settings.directory;
            self.disk.sync_directory(directory).map_err(JournalError::io("sync", directory))?;
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

    /// Closes the file written least recently, when as many are open as may be.
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
        self.memory.remember(&path, 0);
        Ok(LineFile { handle: Some(handle), ..LineFile::new(base, path, 0, now) })
    }

    /// A name that sorts behind every earlier one and that no file has, in whatever state.
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

    /// Everything written is durable.
    fn settle(&mut self) {
        for file in self.files.values_mut().filter(|file| file.is_dirty()) {
            file.synced = file.written;
            file.cut = false;
            self.memory.remember(&file.path, file.synced);
        }
    }

    /// Cuts every file back to what was durable before.
    fn take_back(&mut self, trouble: JournalError) -> CommitError {
        let mut broken = matches!(trouble, JournalError::Moved { .. });
        for file in self.files.values_mut().filter(|file| file.is_dirty()) {
            if let Err(error) = file.cut_back(self.disk.as_ref()) {
                let path = file.path.display();
                tracing::warn!(file = %path, %error, "could not cut back; will be done at the next opening");
                broken = true;
            }
        }
        // A directory that is gone is made anew, and locked, by opening.
        broken |= !matches!(self.disk.exists(&self.settings.directory), Ok(true));
        if broken { CommitError::Broken(trouble) } else { CommitError::TakenBack(trouble) }
    }

    /// Takes out the files that are due, `room` at most, least recently written first where there are too
    /// many; what is left grows on until there is room.
    pub(crate) fn rotate(&mut self, now: Timestamp, room: usize) -> Vec<Unfinished> {
        let mut taken: Vec<Unfinished> = self.leftovers.drain(..room.min(self.leftovers.len())).collect();
        let rotation = self.settings.rotation;
        // Where room is wanted, small files would not make much.
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

    /// Takes out every file: for a clean end.
    pub(crate) fn take_all(&mut self, now: Timestamp) -> Vec<Unfinished> {
        let mut taken = std::mem::take(&mut self.leftovers);
        let stems: Vec<String> = self.files.keys().cloned().collect();
        taken.extend(stems.iter().filter_map(|stem| self.take_out(stem, now)));
        taken
    }

    fn take_out(&mut self, stem: &str, now: Timestamp) -> Option<Unfinished> {
        if let Err(trouble) = self.files.get_mut(stem)?.settle_cut(self.disk.as_ref()) {
            tracing::warn!("{trouble}; the file is finished later");
            return None;
        }
        let file = self.files.remove(stem)?;
        self.memory.forget(&file.path);
        self.quota.finished(now);
        Some(Unfinished { base: file.base, len: file.synced })
    }

    /// How many files are open.
    #[cfg(test)]
    pub(super) fn open_files(&self) -> usize {
        self.files.values().filter(|file| file.handle.is_some()).count()
    }

    /// How long until a file is due by its age; `None` when there is none.
    pub(crate) fn next_rotation(&self, now: Timestamp) -> Option<Duration> {
        let remaining = |file: &LineFile| self.settings.rotation.remaining(file.opened, now);
        self.files.values().map(remaining).min()
    }
}

fn look(disk: &dyn Disk, settings: &JournalSettings) -> Result<Holdings, JournalError> {
    Holdings::of(disk, settings).map_err(JournalError::io("list", &settings.directory))
}
