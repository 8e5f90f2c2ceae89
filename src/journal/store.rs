//! Writes a group to the open files as a whole or not at all.

mod rotate;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::config::FileCompression;
use super::disk::{Disk, Lock, Locking};
use super::error::JournalError;
use super::finish::{Unfinished, sync};
use super::group::Group;
use super::id_log::IdLog;
use super::id_record::{Extent, IdList, checksum};
use super::line_file::LineFile;
use super::name::{Base, FileNumber};
use super::name_template::FileSlot;
use super::quota::Quota;
use super::recovery::{Left, recover};
use super::settings::JournalSettings;
use super::sync_threads::SyncThreads;
use super::synced_lengths::SyncedLengths;

/// Bytes that compression may add to incompressible data, beyond 1/64 of its size.
const OVERHEAD: u64 = 64 << 10;

/// Why a group is not durable. The files hold nothing of it, at the latest after the next open.
#[derive(Debug)]
pub(crate) struct CommitError {
    pub(crate) error: JournalError,
    /// The journal must be opened again. Otherwise everything is as before, and the group may be tried again.
    pub(crate) is_broken: bool,
}

/// A file that is being written: when it was opened, and when it was last used.
struct OpenFile {
    base: Base,
    lines: LineFile,
    opened: Timestamp,
    /// The number of the wave in which it was last written.
    wave: u64,
}

/// The files being written. Every method blocks on the disk.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    lengths: SyncedLengths,
    quota: Quota,
    /// The files being written; the keys are their stems.
    files: HashMap<String, OpenFile>,
    /// Names for files that will be created; the keys are their stems. The id log has them.
    named: HashMap<String, Base>,
    id_log: IdLog,
    sync_threads: SyncThreads,
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
                return Err(JournalError::locked(lock_path, holder, settings));
            }
        };
        let held_last = lock.hold(lengths.holder());
        if !matches!(held_last, Ok(true)) {
            lengths.forget_all();
        }
        held_last.map_err(JournalError::io("write", &lock_path))?;
        let (left, id_log) = recover(disk.as_ref(), settings, &lengths)?;
        let quota = Quota::look(disk.as_ref(), settings, now)?;
        // The note also covers names whose files were moved away since.
        let noted = lock.note().ok().and_then(|note| FileNumber::parse(&note));
        let mut journal = Self {
            disk,
            settings: settings.clone(),
            lengths,
            files: HashMap::new(),
            named: HashMap::new(),
            id_log,
            sync_threads: SyncThreads::default(),
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
            let lines = LineFile::new(self.settings.directory.join(base.open()), len);
            let file = OpenFile { base, lines, opened, wave: 0 };
            if let Some(older) = self.files.insert(stem, file) {
                self.lengths.forget(&older.lines.path);
                self.leftovers.push(Unfinished { base: older.base, len: older.lines.synced });
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
            .and_then(|()| self.name_new_files(&parts, now))
            .and_then(|()| self.write(&parts, &group.ids, now));
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
            self.files.get(stem).map_or(0, |file| file.lines.synced) + lines.len() as u64
        };
        let unfinished = self.files.values().map(|file| file.lines.synced);
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
        self.finishing > 0
            || !self.leftovers.is_empty()
            || self.files.values().any(|file| file.lines.synced > 0)
    }

    /// Chooses names for the files that the group will create, and makes the id log ready.
    fn name_new_files(&mut self, parts: &[(String, &[u8])], now: Timestamp) -> Result<(), JournalError> {
        let mut new = Vec::new();
        for (stem, _) in parts {
            if !self.files.contains_key(stem) && !self.named.contains_key(stem) {
                new.push((stem.clone(), self.next_base(stem, now)?));
            }
        }
        let bases: Vec<_> = new.iter().map(|(_, base)| base.clone()).collect();
        self.id_log.prepare(self.disk.as_ref(), &bases)?;
        self.named.extend(new);
        Ok(())
    }

    /// Writes and syncs the parts in waves of at most `max_open` files, and the record of the group together
    /// with the last wave.
    fn write(&mut self, parts: &[(String, &[u8])], ids: &IdList, now: Timestamp) -> Result<(), JournalError> {
        let waves = parts.chunks(self.settings.max_open);
        let last = waves.len().saturating_sub(1);
        for (n, wave) in waves.enumerate() {
            self.wave += 1;
            for (stem, lines) in wave {
                self.append(stem, lines, now)?;
            }
            if n == last {
                self.record(parts, ids)?;
            }
            let files = wave.iter().filter_map(|(stem, _)| self.files.get(stem)).map(|file| &file.lines);
            let files = files.chain(self.id_log.file()).filter_map(LineFile::to_sync);
            self.sync_threads.sync_all(self.disk.as_ref(), &files.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Records where the group's lines are, and the ids of its events. A record that is durable promises that
    /// the names of its files are.
    fn record(&mut self, parts: &[(String, &[u8])], ids: &IdList) -> Result<(), JournalError> {
        if self.directory_dirty {
            sync(self.disk.as_ref(), &self.settings.directory)?;
            self.directory_dirty = false;
        }
        let extent = |(stem, lines): &(String, &[u8])| {
            let file = self.files.get(stem)?;
            let (start, end) = (file.lines.synced, file.lines.written);
            Some(Extent { file: file.base.clone(), start, end, crc: checksum(lines) })
        };
        let extents = parts.iter().filter_map(extent).collect();
        self.id_log.append(self.disk.as_ref(), extents, ids)
    }

    fn append(&mut self, stem: &str, lines: &[u8], now: Timestamp) -> Result<(), JournalError> {
        if self.files.get(stem).is_none_or(|file| file.lines.handle.is_none()) {
            self.make_room();
        }
        if !self.files.contains_key(stem) {
            let file = self.create(stem, now)?;
            self.files.insert(stem.to_owned(), file);
        }
        let Some(file) = self.files.get_mut(stem) else { return Ok(()) };
        file.wave = self.wave;
        file.lines.append(self.disk.as_ref(), lines)
    }

    /// Closes the file written least recently if `max_open` files are open.
    fn make_room(&mut self) {
        let open = self.files.values().filter(|file| file.lines.handle.is_some()).count();
        if open >= self.settings.max_open {
            let open = self.files.values_mut().filter(|file| file.lines.handle.is_some());
            if let Some(oldest) = open.min_by_key(|file| file.wave) {
                oldest.lines.handle = None;
            }
        }
    }

    fn create(&mut self, stem: &str, now: Timestamp) -> Result<OpenFile, JournalError> {
        let base = match self.named.get(stem) {
            Some(base) => base.clone(),
            None => self.next_base(stem, now)?,
        };
        let lines = LineFile::create(self.disk.as_ref(), self.settings.directory.join(base.open()))?;
        self.named.remove(stem);
        self.directory_dirty = true;
        self.lengths.remember(&lines.path, 0);
        Ok(OpenFile { base, lines, opened: now, wave: 0 })
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
        for file in self.files.values_mut().map(|file| &mut file.lines).filter(|file| file.is_dirty()) {
            file.settle();
            self.lengths.remember(&file.path, file.synced);
        }
        self.id_log.settle();
    }

    /// Cuts every file back to its durable length.
    fn take_back(&mut self, error: JournalError) -> CommitError {
        let mut is_broken = error.needs_opening();
        let mut cut_back = |file: &mut LineFile| {
            if let Err(error) = file.cut_back(self.disk.as_ref()) {
                let path = file.path.display();
                tracing::warn!(file = %path, %error, "could not cut back; will be done at the next opening");
                is_broken = true;
            }
        };
        self.id_log.take_back().into_iter().for_each(&mut cut_back);
        let files = self.files.values_mut().map(|file| &mut file.lines);
        files.filter(|file| file.is_dirty()).for_each(cut_back);
        // If the directory is gone, only opening the journal again creates and locks it.
        is_broken |= !matches!(self.disk.exists(&self.settings.directory), Ok(true));
        CommitError { error, is_broken }
    }

    #[cfg(test)]
    pub(super) fn open_files(&self) -> usize {
        self.files.values().filter(|file| file.lines.handle.is_some()).count()
    }
}
