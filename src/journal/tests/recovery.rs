//! Tests what recovery must not trust: zero pages after a power cut, names that exist, a clock that was set
//! back.

use jiff::ToSpan;

use super::crashes::survive;
use super::*;
use crate::journal::disk::Disk;
use crate::journal::line_file::UNSYNCED;

/// Some pages written since the last sync are zeros, also in front of pages that are intact.
#[test]
fn pages_of_zeros_are_not_published_and_nothing_durable_is_cut_off_for_them() {
    for name in ["{connection_id}", "{connection_id}-{partition}"] {
        let zeros = |zeros: usize| {
            let is_zero = move |page: usize| zeros >> (page % 3) & 1 == 1;
            move |disk: &MemoryDisk| disk.crash_leaving(|n| n, is_zero)
        };
        survive(FileCompression::None, name, false, &(1..8).map(zeros).collect::<Vec<_>>());
        let crashes: [fn(&MemoryDisk); 2] = [
            |disk| disk.crash_leaving(|n| n, |page| page % 2 == 0),
            |disk| disk.crash_leaving(|n| n - n / 4, |page| page == 1),
        ];
        survive(FileCompression::Zstd, name, false, &crashes);
    }
}

#[test]
fn a_zero_is_looked_for_only_where_nothing_was_synced() {
    let line = |byte: u8, len: usize| [vec![byte; len - 1], vec![b'\n']].concat();
    let path = Path::new(DIRECTORY).join(base(0).open());
    for (before, zeros, behind, kept) in [
        (100, 0, 50, 150),
        (100, 10, 50, 100),
        (100, 10, UNSYNCED - 60, 100),
        // Bytes so far from the end were synced, so the journal must not remove them.
        (100, 10, UNSYNCED, 110 + UNSYNCED),
        (UNSYNCED, 2, 1, UNSYNCED),
    ] {
        let disk = MemoryDisk::default();
        let mut content = line(b'a', before);
        if zeros > 0 {
            content.extend(line(0, zeros));
        }
        content.extend(line(b'b', behind));
        disk.put(&path, &content);
        let mut process = TestProcess::new(&disk, settings(FileCompression::None, "{connection_id}"));
        process.open().unwrap();
        assert_eq!(disk.files()[&base(0).open()].len(), kept, "{before} {zeros} {behind}");
    }
}

/// Otherwise zeros could stand before the bytes that recovery checks.
#[test]
fn no_more_than_recovery_looks_at_is_ever_waiting_for_a_sync() {
    let disk = MemoryDisk::default();
    let mut process = TestProcess::new(&disk, settings(FileCompression::None, "{connection_id}"));
    process.open().unwrap();
    let syncs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    disk.fail(move |op, path| {
        let counts = op == Op::Sync && path.to_str().unwrap().ends_with(".open");
        counted.fetch_add(usize::from(counts), std::sync::atomic::Ordering::Relaxed);
        None
    });
    for (bytes, expected) in [(UNSYNCED, 1), (UNSYNCED + 1, 2), (3 * UNSYNCED, 3)] {
        syncs.store(0, std::sync::atomic::Ordering::Relaxed);
        let group = one_line(FileSlot::default(), bytes);
        process.journal().commit(&group, now()).unwrap();
        assert_eq!(syncs.load(std::sync::atomic::Ordering::Relaxed), expected, "{bytes}");
    }
}

#[test]
fn a_name_that_is_taken_holds_before_anything_is_written_or_overwritten() {
    for (unfinished, finished) in [
        (base(0).open(), base(0).finished(FileCompression::None)),
        (base(0).open(), base(0).finished(FileCompression::Gzip)),
        (base(0).ready(FileCompression::Gzip), base(0).finished(FileCompression::Gzip)),
    ] {
        let disk = MemoryDisk::default();
        let path = |name: &str| Path::new(DIRECTORY).join(name);
        disk.put(&path(&unfinished), b"line 0 of a file\n");
        disk.put(&path(&finished), b"kept");
        let before = disk.files();
        let mut process = TestProcess::new(&disk, settings(FileCompression::Gzip, "{connection_id}"));
        let error = process.open().unwrap_err();
        assert!(error.needs_operator() && error.to_string().contains(&finished), "{error}");
        assert_eq!(disk.files(), before);
        disk.remove(&path(&finished)).unwrap();
        process.open().unwrap();
    }
}

/// Finishing without compression removed the compressed try, and a crash undid the removal.
#[test]
fn a_compressed_try_beside_a_finished_file_is_no_double() {
    let disk = MemoryDisk::default();
    disk.put(&Path::new(DIRECTORY).join(base(0).finished(FileCompression::None)), b"line 0 of a file\n");
    disk.put(&Path::new(DIRECTORY).join(base(0).temporary(FileCompression::Gzip)), b"half");
    let mut process = TestProcess::new(&disk, settings(FileCompression::Gzip, "{connection_id}"));
    process.open().unwrap();
    assert_eq!(disk.files().into_keys().collect::<Vec<_>>(), [base(0).finished(FileCompression::None)]);
}

/// Earlier names are known from the files and from the note in the lock file, which stays after the files are
/// gone.
#[test]
fn names_go_on_behind_the_last_one_when_the_clock_was_set_back() {
    for (taken_away, note_lost) in [(false, false), (true, false), (false, true)] {
        let disk = MemoryDisk::default();
        let mut process =
            TestProcess::new(&disk, settings(FileCompression::None, "{connection_id}-{partition}"));
        let mut last = String::new();
        for hours in [0, -1, -100_000, 1, -2] {
            process.clock = now() + hours.hours();
            for _ in 0..2 {
                assert!(process.write(1));
                process.close();
                let names: Vec<_> = disk.files().into_keys().collect();
                let newest = names.iter().filter_map(|name| name.splitn(3, '-').nth(2)).max().unwrap();
                assert!(newest > last.as_str(), "{newest} sorts before {last}");
                last = newest.to_owned();
                if taken_away {
                    names.iter().for_each(|name| disk.remove(&Path::new(DIRECTORY).join(name)).unwrap());
                }
            }
            if note_lost {
                disk.crash(|_| 0);
            }
            process = process.successor();
        }
    }
}

/// Two processes with one connection id can hold the lock in turn, for example while a disk fails.
#[test]
fn lines_of_a_process_that_held_the_lock_in_between_are_kept() {
    let disk = MemoryDisk::default();
    let settings = settings(FileCompression::None, "{connection_id}");
    let mut first = TestProcess::new(&disk, settings.clone());
    assert!(first.write(3));
    first.journal = None;
    let mut second = TestProcess::new(&disk, settings);
    second.next = first.next;
    assert!(second.write(2));
    second.journal = None;
    first.next = second.next;
    assert!(first.write(1));
    first.close();
    let (lines, others) = first.finished();
    assert_eq!((lines, others), ((0..6).map(|n| (n, 1)).collect(), Vec::new()));
    assert_eq!(first.recorded(), (0..6).collect());
}
