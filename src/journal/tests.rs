//! Tests the journal on a disk that fails and crashes between any two steps.

mod crashes;
mod full_disk;
mod id_log;
mod recovery;
mod rotation;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use proptest::prelude::*;

use super::config::FileCompression;
use super::finish::{Finishing, Unfinished};
use super::group::Group;
use super::id_log::recorded_ids;
use super::name::{Base, FileNumber};
use super::name_template::{FileSlot, NameTemplate};
use super::testing::{self, MemoryDisk, Op};
use super::{Journal, JournalError, JournalSettings, SyncedLengths};

const DIRECTORY: &str = "/data";

fn settings(compression: FileCompression, name: &str) -> JournalSettings {
    JournalSettings {
        stems: NameTemplate::parse(name).unwrap().bind("b1"),
        compression,
        ..testing::settings()
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_795_262_400).unwrap()
}

fn base(counter: u32) -> Base {
    Base::new("b1", FileNumber { at: now(), counter })
}

/// A group of one line of `bytes` bytes.
fn one_line(slot: FileSlot, bytes: usize) -> Group<()> {
    let mut group = Group::default();
    let write = |lines: &mut Vec<u8>| {
        lines.resize(bytes, b'x');
        Ok::<(), ()>(())
    };
    group.append(slot, (), [""; 0], write).unwrap();
    group
}

fn finish(
    disk: &MemoryDisk,
    base: &Base,
    compression: FileCompression,
    cancelled: bool,
) -> Result<(), JournalError> {
    let finishing = Finishing { disk, directory: Path::new(DIRECTORY), base, compression };
    finishing.finish(&AtomicBool::new(cancelled))
}

/// A process with its journal. It writes numbered lines and remembers which are durable.
struct TestProcess {
    disk: MemoryDisk,
    settings: JournalSettings,
    lengths: SyncedLengths,
    journal: Option<Journal>,
    next: u32,
    durable: Vec<u32>,
    clock: Timestamp,
}

impl TestProcess {
    fn new(disk: &MemoryDisk, settings: JournalSettings) -> Self {
        let (disk, lengths) = (disk.clone(), SyncedLengths::default());
        Self { disk, settings, lengths, journal: None, next: 0, durable: Vec::new(), clock: now() }
    }

    /// Starts another process after this one has died. Only the disk is left.
    fn successor(self) -> Self {
        self.successor_on(&self.disk)
    }

    /// Does the same on a copy of this one's disk.
    fn successor_on(&self, disk: &MemoryDisk) -> Self {
        let process = Self::new(disk, self.settings.clone());
        Self { next: self.next, durable: self.durable.clone(), clock: self.clock, ..process }
    }

    fn open(&mut self) -> Result<(), JournalError> {
        if self.journal.is_none() {
            let disk = Arc::new(self.disk.clone());
            self.journal =
                Some(Journal::open(disk, self.settings.clone(), self.lengths.clone(), self.clock)?);
        }
        Ok(())
    }

    /// Returns the journal, which must be open.
    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    /// Returns the numbers of the lines that the id log has.
    fn recorded(&self) -> BTreeSet<u32> {
        let ids = recorded_ids(&self.disk, &self.settings, usize::MAX).unwrap();
        ids.iter().map(|id| std::str::from_utf8(id).unwrap().parse().unwrap()).collect()
    }

    /// Writes those of the last lines again that the id log does not have, as a bridge does after a crash.
    fn redeliver(&mut self) {
        self.open().unwrap();
        let recorded = self.recorded();
        let window = u32::try_from(testing::WINDOW).unwrap();
        for n in self.next.saturating_sub(window)..self.next {
            if !recorded.contains(&n) {
                assert!(!self.durable.contains(&n), "line {n} is durable, and its id is not in the log");
                assert!(self.write_group(n..n + 1), "line {n}");
            }
        }
    }

    /// Writes `count` lines in one group, to one file or several. Returns true if they are durable.
    fn write(&mut self, count: u32) -> bool {
        let lines = self.next..self.next + count;
        let is_durable = self.write_group(lines.clone());
        if is_durable {
            self.durable.extend(lines);
            self.next += count;
        }
        is_durable
    }

    fn write_group(&mut self, lines: Range<u32>) -> bool {
        if self.open().is_err() {
            return false;
        }
        let mut group = Group::default();
        for n in lines {
            let slot = self.settings.stems.slot(|| 0, || n % 3);
            let write = |lines: &mut Vec<u8>| {
                lines.extend_from_slice(format!("line {n} of a file\n").as_bytes());
                Ok::<(), ()>(())
            };
            group.append(slot, n, [n.to_string()], write).unwrap();
        }
        match self.journal.as_mut().unwrap().commit(&group, self.clock) {
            Ok(()) => return true,
            Err(failure) if failure.is_broken => self.journal = None,
            Err(_) => {}
        }
        false
    }

    fn finish(&self, files: Vec<Unfinished>) {
        for Unfinished { base, .. } in files {
            // A file that fails is finished later.
            finish(&self.disk, &base, self.settings.compression, false).ok();
        }
    }

    fn rotate(&mut self) {
        let files = self.journal.as_mut().map(|journal| journal.rotate(self.clock, 8));
        self.finish(files.unwrap_or_default());
    }

    fn close(&mut self) {
        let files = self.journal.as_mut().map(|journal| journal.take_all(self.clock));
        self.finish(files.unwrap_or_default());
        self.journal = None;
    }

    /// What a reader sees who takes every finished file, and the names of all other files.
    fn finished(&self) -> (BTreeMap<u32, usize>, Vec<String>) {
        let mut lines = BTreeMap::new();
        let mut others = Vec::new();
        for (name, content) in self.disk.files() {
            let plain = match name.rsplit_once('.').unwrap().1 {
                "jsonl" => content,
                "zst" => zstd::decode_all(content.as_slice()).unwrap(),
                "gz" => {
                    let mut plain = Vec::new();
                    let mut decoder = flate2::read::GzDecoder::new(content.as_slice());
                    io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
                    plain
                }
                _ => {
                    others.push(name);
                    continue;
                }
            };
            for line in std::str::from_utf8(&plain).unwrap().split_inclusive('\n') {
                let n = line.strip_prefix("line ").unwrap().strip_suffix(" of a file\n").unwrap();
                *lines.entry(n.parse().unwrap()).or_default() += 1;
            }
        }
        (lines, others)
    }
}

/// Fails one disk operation of a life that goes on, for each operation in turn. Without a crash, no line may
/// double.
#[test]
fn no_error_loses_or_doubles_a_line() {
    for (compression, kind) in [
        (FileCompression::None, io::ErrorKind::Other),
        (FileCompression::Zstd, io::ErrorKind::Other),
        (FileCompression::None, io::ErrorKind::StorageFull),
        (FileCompression::Gzip, io::ErrorKind::StorageFull),
    ] {
        for duration in [1, 2, 3, 7] {
            for fail_from in 0..120 {
                let disk = MemoryDisk::default().without_threads();
                let mut process =
                    TestProcess::new(&disk, settings(compression, "{connection_id}-{partition}"));
                let mut seen = 0;
                disk.fail(move |_, _| {
                    seen += 1;
                    let failing = (fail_from..fail_from + duration).contains(&seen);
                    failing.then(|| kind.into())
                });
                for count in [2, 1, 5, 3, 4] {
                    // Try again until it is durable, as a sink worker does.
                    let tries = (0..20).take_while(|_| !process.write(count)).count();
                    assert!(tries < 20, "{fail_from} for {duration}");
                    process.rotate();
                }
                disk.heal();
                // The next open finishes, at the latest, what could not be finished before.
                process.close();
                process.open().unwrap();
                process.rotate();
                process.close();
                let (lines, others) = process.finished();
                assert_eq!(others, [""; 0], "{fail_from} for {duration}");
                assert_eq!(lines, (0..15).map(|n| (n, 1)).collect(), "{fail_from} for {duration}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Causes errors and crashes at random while the writer tries again, as a sink worker does.
    #[test]
    fn a_bad_disk_loses_and_doubles_nothing(
        seed: u64,
        groups in prop::collection::vec((1u32..6, 0u8..10), 1..25),
        name in prop::sample::select(vec!["{connection_id}", "{connection_id}-{partition}"]),
    ) {
        let disk = MemoryDisk::default().without_threads();
        let mut process = TestProcess::new(&disk, settings(FileCompression::Zstd, name));
        let mut random = fastrand::Rng::with_seed(seed);
        for (count, what) in groups {
            let mut rng = random.fork();
            let odds = if what < 5 { 0 } else { 1 + usize::from(what) };
            disk.fail(move |_, _| (rng.usize(0..40) < odds).then(|| io::Error::other("injected")));
            for _ in 0..4 {
                if process.write(count) {
                    break;
                }
            }
            process.rotate();
            if what == 3 || what == 8 {
                disk.crash_at(random.usize(0..8));
                process.write(count);
                process.rotate();
                let mut pages = random.fork();
                disk.crash_leaving(|n| random.usize(0..=n), |_| pages.u8(0..4) == 0);
                process = process.successor();
                process.next += 6; // more than any group that was tried
                process.redeliver();
            }
        }
        disk.heal();
        for _ in 0..2 {
            process.open().unwrap();
            process.rotate();
            process.close();
        }
        let (lines, others) = process.finished();
        prop_assert_eq!(others, [""; 0]);
        process.durable.extend(lines.keys());
        for n in &process.durable {
            prop_assert_eq!(lines.get(n), Some(&1), "line {}", n);
        }
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let disk = MemoryDisk::default();
    let time = "20261121T120000000Z-000000";
    let foreign: Vec<String> = ["b2", "b1-x", "b"]
        .iter()
        .flat_map(|stem| ["open", "zst.tmp", "zst.ready"].map(|end| format!("{stem}-{time}.jsonl.{end}")))
        .collect();
    for name in &foreign {
        disk.put(&Path::new(DIRECTORY).join(name), b"torn");
    }
    let mut process = TestProcess::new(&disk, settings(FileCompression::Zstd, "{connection_id}"));
    assert!(process.write(1));
    process.close();
    for name in &foreign {
        assert_eq!(disk.files().get(name).map(Vec::as_slice), Some(b"torn" as &[u8]), "{name}");
    }
}

#[test]
fn a_long_torn_tail_is_cut_back_to_the_last_line_and_a_file_without_one_removed() {
    let disk = MemoryDisk::default();
    let path = |n: u32| Path::new(DIRECTORY).join(base(n).open());
    let torn = [b"line 0 of a file\n", vec![b'x'; 200_000].as_slice()].concat();
    disk.put(&path(0), &torn);
    disk.put(&path(1), &vec![b'x'; 70_000]);
    let mut process = TestProcess::new(&disk, settings(FileCompression::None, "{connection_id}"));
    process.open().unwrap();
    let files: Vec<_> = disk.files().into_values().collect();
    assert_eq!(files, [b"line 0 of a file\n"]);
}

#[test]
fn a_finished_file_is_never_overwritten_even_when_the_clock_stands_still() {
    let disk = MemoryDisk::default();
    let taken = base(0).finished(FileCompression::Gzip);
    disk.put(&Path::new(DIRECTORY).join(&taken), b"kept");
    let mut process = TestProcess::new(&disk, settings(FileCompression::None, "{connection_id}"));
    for _ in 0..3 {
        assert!(process.write(4));
        process.rotate();
    }
    assert_eq!(disk.files().len(), 4);
    assert_eq!(disk.files()[&taken], b"kept");
}

#[test]
fn a_group_is_refused_whole_when_one_of_its_files_fails() {
    let disk = MemoryDisk::default();
    let mut process = TestProcess::new(&disk, settings(FileCompression::None, "{connection_id}-{partition}"));
    assert!(process.write(3));
    let before = disk.files();
    disk.fail(|op, path| {
        let second = path.to_str().unwrap().contains("b1-2-");
        (op == Op::Sync && second).then(|| io::Error::other("injected"))
    });
    assert!(!process.write(3));
    assert_eq!(disk.files(), before);
}
