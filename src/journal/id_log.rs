//! Records beside the files which events they hold, and how far each file was written. The ids can't stand in
//! the files, because finished files are taken away.
//!
//! Each group gets a record ([`super::id_record`]), which is synced together with the group's lines. After a
//! crash the last record tells whether the last group is complete. If it is not, none of its lines was
//! reported as durable, and recovery cuts all of them off. If it is, recovery writes it again, since a sync that
//! failed may have left it in the cache only. So the log has the id of an event exactly if its line is in the files.
//! The exception is a group of more than `UNSYNCED` bytes without a record: its whole lines are kept, since a log
//! that is older than the files looks the same.
//!
//! A file is named in the log, durably, before it is created. Nothing but an incomplete line is cut off from a
//! file that the log does not name: somebody else may have put it there.
//!
//! The log has two files. Once the current one holds as many ids as are wanted, it becomes the old one, whose
//! ids still count. A new one begins with the lengths of all files that are not finished. No id is needed longer: the
//! broker sends again only what it has not been told, at most `source.prefetch` events.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::CrcReader;

use super::disk::{Disk, DiskFile};
use super::error::JournalError;
use super::finish::{remove, sync};
use super::group::KEPT_CAPACITY;
use super::id_record::{Extent, IdList, Record, append_line, parse_line};
use super::line_file::{LineFile, write_again};
use super::name::Base;
use super::settings::JournalSettings;
use super::synced_lengths::SyncedLengths;

/// A log file of so many bytes gets no more records, whatever they hold.
const BYTES: u64 = 16 << 20;
/// A log file that names so many files gets no more records.
const FILES: usize = 16_384;

/// The log of a journal's groups. Every method blocks on the disk.
pub(super) struct IdLog {
    paths: LogPaths,
    lengths: SyncedLengths,
    /// `None` until the next record begins a new file.
    current: Option<LineFile>,
    /// The name of the current file is durable.
    is_named: bool,
    /// Ids in the current file.
    ids: usize,
    /// A file with so many ids gets no more records.
    most_ids: usize,
    /// The durable length of each file that is not finished.
    ends: HashMap<Base, u64>,
    /// What the record of the current group says, and how many ids it has, until the group is durable or taken back.
    pending: (Vec<Extent>, usize),
    /// Files whose length is not what the log says, since recovery knows better.
    corrected: Vec<Extent>,
    /// The line of the last record; the next one uses its memory.
    line: Vec<u8>,
}

struct LogPaths {
    directory: PathBuf,
    current: PathBuf,
    old: PathBuf,
}

impl LogPaths {
    fn new(settings: &JournalSettings) -> Self {
        let [current, old] = settings.stems.id_log_names().map(|name| settings.directory.join(name));
        Self { directory: settings.directory.clone(), current, old }
    }
}

impl IdLog {
    /// Opens the log of an earlier run, and drops the record of a group that is not complete. `is_open` tells
    /// which files are not finished yet.
    pub(super) fn open(
        disk: &dyn Disk,
        settings: &JournalSettings,
        lengths: &SyncedLengths,
        is_open: impl Fn(&Base) -> bool,
    ) -> Result<Self, JournalError> {
        let paths = LogPaths::new(settings);
        let mut log = Self {
            lengths: lengths.clone(),
            current: None,
            is_named: false,
            ids: 0,
            most_ids: settings.ids,
            ends: HashMap::new(),
            pending: (Vec::new(), 0),
            corrected: Vec::new(),
            line: Vec::new(),
            paths,
        };
        let path = &log.paths.current;
        let Some(mut content) = LogContent::read(disk, path, lengths)? else { return Ok(log) };
        if content.is_damaged {
            let path = path.display();
            tracing::warn!(
                "{path} is damaged and begins anew: events may be in the files twice after a crash"
            );
            content = LogContent { len: content.len, ..LogContent::default() };
        }
        content.settle_last(disk, &log.paths, is_open, lengths.synced(path).is_some())?;
        log.current = Some(content.cut(disk, path)?);
        (log.ids, log.ends) = (content.ids, content.ends);
        Ok(log)
    }

    /// Returns the path of the file that gets the records.
    pub(super) fn path(settings: &JournalSettings) -> PathBuf {
        LogPaths::new(settings).current
    }

    /// Returns the durable length of a file that is not finished; `None` if the log does not name it.
    pub(super) fn end(&self, file: &Base) -> Option<u64> {
        self.ends.get(file).copied()
    }

    /// Replaces the lengths by those that recovery found, once every file is repaired.
    pub(super) fn set_ends(&mut self, ends: impl Iterator<Item = (Base, u64)>) {
        let before = std::mem::replace(&mut self.ends, ends.collect());
        let differs = |(file, len): &(&Base, &u64)| before.get(*file) != Some(*len);
        let corrected = self.ends.iter().filter(differs);
        self.corrected = corrected.map(|(file, len)| Extent::empty(file.clone(), *len)).collect();
        if let Some(file) = &self.current {
            self.lengths.remember(&file.path, file.synced);
        }
    }

    /// Makes the log ready for the record of a group, and names files, durably, that will be created for it.
    /// Call it before the group's first line is written.
    pub(super) fn prepare(&mut self, disk: &dyn Disk, new: &[Base]) -> Result<(), JournalError> {
        if self.is_full() {
            self.put_aside(disk)?;
        }
        let mut names = self.corrected.clone();
        names.extend(new.iter().map(|file| Extent::empty(file.clone(), 0)));
        let file = match &mut self.current {
            Some(file) => file,
            none => {
                let file = LineFile::create(disk, self.paths.current.clone())?;
                self.lengths.remember(&file.path, 0);
                self.is_named = false;
                none.insert(file)
            }
        };
        if !self.is_named {
            sync(disk, &self.paths.directory)?;
            self.is_named = true;
        }
        if file.written == 0 {
            names.extend(self.ends.iter().map(|(file, len)| Extent::empty(file.clone(), *len)));
        } else if names.is_empty() {
            return Ok(());
        }
        self.append(disk, names, &IdList::default())?;
        if let Some(file) = &self.current {
            file.sync()?;
        }
        self.settle();
        self.corrected.clear();
        Ok(())
    }

    /// Appends the record of a group. It is durable once [`Self::file`] is synced.
    pub(super) fn append(
        &mut self,
        disk: &dyn Disk,
        files: Vec<Extent>,
        ids: &IdList,
    ) -> Result<(), JournalError> {
        let Some(file) = &mut self.current else { return Ok(()) };
        self.line.clear();
        self.line.shrink_to(KEPT_CAPACITY);
        append_line(&mut self.line, &files, ids);
        self.pending = (files, ids.len());
        file.append(disk, &self.line)
    }

    fn is_full(&self) -> bool {
        self.ids >= self.most_ids
            || self.ends.len() >= FILES
            || self.current.as_ref().is_some_and(|file| file.synced >= BYTES)
    }

    /// Makes the current file the old one.
    fn put_aside(&mut self, disk: &dyn Disk) -> Result<(), JournalError> {
        let LogPaths { directory, current, old } = &self.paths;
        if let Some(file) = &mut self.current {
            file.settle_cut(disk)?;
            if disk.exists(old).map_err(JournalError::io("look for", old))? {
                remove(disk, directory, old)?;
            }
            disk.rename(current, old).map_err(JournalError::io("rename", current))?;
            self.current = None;
            self.ids = 0;
            self.lengths.forget(current);
        }
        let mut unfinished = HashMap::new();
        for (file, len) in &self.ends {
            let path = directory.join(file.open());
            if disk.exists(&path).map_err(JournalError::io("look for", &path))? {
                unfinished.insert(file.clone(), *len);
            }
        }
        self.ends = unfinished;
        Ok(())
    }

    /// The file to sync, if a record was appended to it since the last sync.
    pub(super) fn file(&self) -> Option<&LineFile> {
        self.current.as_ref().filter(|file| file.is_dirty())
    }

    /// Notes that the last record is durable, and the lines of its group.
    pub(super) fn settle(&mut self) {
        let (files, ids) = std::mem::take(&mut self.pending);
        self.ends.extend(files.into_iter().map(|extent| (extent.file, extent.end)));
        self.ids += ids;
        if let Some(file) = &mut self.current {
            file.settle();
            self.lengths.remember(&file.path, file.synced);
        }
    }

    /// Forgets the record of a group that is not durable. Returns the file to cut back.
    pub(super) fn take_back(&mut self) -> Option<&mut LineFile> {
        self.pending = (Vec::new(), 0);
        self.current.as_mut().filter(|file| file.is_dirty())
    }

    /// Makes an earlier cut durable. Otherwise a crash could bring back the record of a group whose files are
    /// gone by then.
    pub(super) fn settle_cut(&mut self, disk: &dyn Disk) -> Result<(), JournalError> {
        self.current.as_mut().map_or(Ok(()), |file| file.settle_cut(disk))
    }
}

/// Returns the newest ids in the log, at most `most`, the newest last. Call it while no group is being written.
pub(super) fn recorded_ids(
    disk: &dyn Disk,
    settings: &JournalSettings,
    most: usize,
) -> Result<Vec<Bytes>, JournalError> {
    let paths = LogPaths::new(settings);
    let mut newest = VecDeque::new();
    for path in [&paths.old, &paths.current] {
        let take = |_: u64, record: Record| {
            newest.extend(record.ids.into_iter().map(Bytes::from));
            let surplus = newest.len().saturating_sub(most);
            newest.drain(..surplus);
        };
        read_records(disk, path, u64::MAX, take)?;
    }
    Ok(newest.into())
}

/// What the current file of the log says.
#[derive(Default)]
struct LogContent {
    len: u64,
    /// Bytes of the valid records.
    valid: u64,
    ids: usize,
    ends: HashMap<Base, u64>,
    /// The last record, and where its line begins.
    last: Option<(u64, Record)>,
    /// A valid record stands behind an invalid one. No crash leaves that, because each is synced by itself.
    is_damaged: bool,
}

impl LogContent {
    fn read(disk: &dyn Disk, path: &Path, lengths: &SyncedLengths) -> Result<Option<Self>, JournalError> {
        let mut content = Self::default();
        let bound = lengths.synced(path).unwrap_or(u64::MAX);
        let take = |at: u64, record: Record| {
            content.ids += record.ids.len();
            content.ends.extend(record.files.iter().map(|extent| (extent.file.clone(), extent.end)));
            content.last = Some((at, record));
        };
        let Some(found) = read_records(disk, path, bound, take)? else { return Ok(None) };
        (content.len, content.valid, content.is_damaged) = found;
        Ok(Some(content))
    }

    /// Drops the last record if the lines of its group are not all there. Otherwise writes it and them again, unless
    /// they are known to be durable.
    fn settle_last(
        &mut self,
        disk: &dyn Disk,
        LogPaths { directory, current, .. }: &LogPaths,
        is_open: impl Fn(&Base) -> bool,
        is_durable: bool,
    ) -> Result<(), JournalError> {
        let Some((at, record)) = &self.last else { return Ok(()) };
        // Files are finished only once their groups are durable.
        let open: Vec<_> = record.files.iter().filter(|extent| is_open(&extent.file)).collect();
        for extent in &open {
            if !holds(disk, directory, extent)? {
                self.valid = *at;
                self.ids -= record.ids.len();
                self.ends.extend(record.files.iter().map(|extent| (extent.file.clone(), extent.start)));
                return Ok(());
            }
        }
        if is_durable {
            return Ok(());
        }
        for extent in open {
            write_again(disk, &directory.join(extent.file.open()), extent.start, extent.end)?;
        }
        write_again(disk, current, *at, self.valid)
    }

    /// Cuts the file back to its valid records, durably. Returns it, ready for the next record.
    fn cut(&self, disk: &dyn Disk, path: &Path) -> Result<LineFile, JournalError> {
        let file = disk.open(path).map_err(JournalError::io("open", path))?;
        if self.valid < self.len {
            file.truncate(self.valid).map_err(JournalError::io("truncate", path))?;
        }
        // Always sync: the last record of a dead process may not be on the disk yet.
        file.sync().map_err(JournalError::io("sync", path))?;
        Ok(LineFile::new(path.to_owned(), self.valid))
    }
}

/// Returns whether the file has the lines that its record names.
fn holds(disk: &dyn Disk, directory: &Path, extent: &Extent) -> Result<bool, JournalError> {
    let path = directory.join(extent.file.open());
    let file = disk.open(&path).map_err(JournalError::io("open", &path))?;
    let Some(len) = extent.end.checked_sub(extent.start) else { return Ok(false) };
    let reader = FileReader { file: file.as_ref(), offset: extent.start }.take(len);
    let mut lines = CrcReader::new(BufReader::new(reader));
    let read = io::copy(&mut lines, &mut io::sink()).map_err(JournalError::io("read", &path))?;
    Ok(read == len && lines.crc().sum() == extent.crc)
}

/// Reads the valid records of a file of the log, up to the length `bound`. `take` gets each with the place
/// where its line begins. Returns the length of the file, the length of its valid records, and whether it is
/// damaged; `None` if there is no file.
fn read_records(
    disk: &dyn Disk,
    path: &Path,
    bound: u64,
    mut take: impl FnMut(u64, Record),
) -> Result<Option<(u64, u64, bool)>, JournalError> {
    if !disk.exists(path).map_err(JournalError::io("look for", path))? {
        return Ok(None);
    }
    let file = disk.open(path).map_err(JournalError::io("open", path))?;
    let len = file.len().map_err(JournalError::io("read", path))?;
    let mut lines = BufReader::new(FileReader { file: file.as_ref(), offset: 0 }.take(bound));
    let (mut at, mut valid, mut is_damaged) = (0, 0, false);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).map_err(JournalError::io("read", path))?;
        if read == 0 {
            return Ok(Some((len, valid, is_damaged)));
        }
        let end = at + read as u64;
        match parse_line(&line) {
            Some(record) if valid == at => {
                take(at, record);
                valid = end;
            }
            Some(_) => is_damaged = true,
            None => {}
        }
        at = end;
    }
}

struct FileReader<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}
