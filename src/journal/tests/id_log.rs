//! Tests when recovery trusts the id log, and that the log stays small.

use super::*;
use crate::journal::disk::Disk;
use crate::journal::line_file::UNSYNCED;
use crate::journal::testing::WINDOW;

const LOG: &str = "/data/.b1.ids";
const OLD_LOG: &str = "/data/.b1.ids.old";

fn process_on(disk: &MemoryDisk) -> TestProcess {
    let mut settings = settings(FileCompression::None, "{connection_id}");
    settings.rotation.size = crate::units::Size(1 << 30);
    TestProcess::new(disk, settings)
}

/// Returns the content of the only file.
fn lines(disk: &MemoryDisk) -> String {
    let mut files = disk.files();
    assert_eq!(files.len(), 1, "{files:?}");
    String::from_utf8(files.pop_first().unwrap().1).unwrap()
}

fn log(disk: &MemoryDisk) -> Vec<u8> {
    disk.content(Path::new(LOG))
}

#[test]
fn a_group_without_a_record_is_cut_off_and_one_with_a_record_is_kept() {
    for (remembers, kept) in [(2, 3), (3, 6)] {
        let disk = MemoryDisk::default();
        let mut process = process_on(&disk);
        let mut logs = vec![];
        for count in [1, 2, 3] {
            assert!(process.write(count));
            logs.push(log(&disk));
        }
        disk.put(Path::new(LOG), &logs[remembers - 1]);
        let mut process = process.successor();
        process.open().unwrap();
        assert_eq!(lines(&disk).lines().count(), kept);
        assert_eq!(process.recorded(), (0..u32::try_from(kept).unwrap()).collect());
    }
}

#[test]
fn the_last_record_does_not_count_if_a_byte_of_its_lines_is_wrong() {
    let disk = MemoryDisk::default();
    let mut process = process_on(&disk);
    assert!(process.write(2) && process.write(2));
    let name = disk.files().into_keys().next().unwrap();
    disk.put(&Path::new(DIRECTORY).join(name), lines(&disk).replace("line 3", "line 7").as_bytes());
    let mut process = process.successor();
    process.open().unwrap();
    assert_eq!(lines(&disk), "line 0 of a file\nline 1 of a file\n");
    assert_eq!(process.recorded(), BTreeSet::from([0, 1]));
}

/// The broker may know that the last group is durable, so no failure may cut it off.
#[test]
fn recoveries_that_fail_cut_no_durable_group_off() {
    for ops in [&[Op::Sync][..], &[Op::Open], &[Op::SyncDirectory]] {
        let disk = MemoryDisk::default();
        let mut process = process_on(&disk);
        assert!(process.write(2) && process.write(3));
        let mut process = process.successor();
        disk.fail_all(ops);
        (0..3).for_each(|_| drop(process.open().unwrap_err()));
        disk.heal();
        process.open().unwrap();
        assert_eq!((lines(&disk).lines().count(), process.recorded()), (5, (0..5).collect()), "{ops:?}");
    }
}

/// The last group may be in the cache only: Linux forgets that it was to be written when a sync fails.
#[test]
fn what_a_recovery_counts_is_durable_also_after_a_sync_that_failed() {
    for is_other_process in [false, true] {
        let disk = MemoryDisk::default();
        let mut process = process_on(&disk);
        assert!(process.write(2));
        disk.fail_all(&[Op::Sync, Op::Truncate]);
        assert!(!process.write(3));
        let mut process = process.successor();
        disk.fail_all(&[Op::Sync]);
        process.open().unwrap_err();
        disk.heal();
        if is_other_process {
            process = process.successor();
        }
        process.open().unwrap();
        let recorded = process.recorded();
        disk.crash(|_| 0);
        let mut process = process.successor();
        process.open().unwrap();
        assert_eq!(lines(&disk).lines().count(), recorded.len());
        assert_eq!(process.recorded(), recorded);
    }
}

/// The file has another length than the log says, so a crash in the next group must not leave a part of it.
#[test]
fn what_recovery_has_found_is_in_the_log_before_the_next_group() {
    let disk = MemoryDisk::default();
    let mut process = process_on(&disk);
    assert!(process.write(2));
    let foreign = Path::new(DIRECTORY).join(base(7).open());
    disk.put(&foreign, b"line 100 of a file\n");
    let mut process = process.successor();
    // The newest file of its stem is the one that goes on.
    assert!(process.write(1));
    let name = disk.files().into_keys().next_back().unwrap();
    let path = Path::new(DIRECTORY).join(name);
    disk.put(&path, &[disk.content(&path), b"line 101 of a file\n".to_vec()].concat());
    let mut process = process.successor();
    process.open().unwrap();
    assert!(!String::from_utf8(disk.content(&path)).unwrap().contains("101"));
}

#[test]
fn a_log_that_is_removed_at_any_time_holds_nothing_for_long() {
    for (writes, reopened) in [(1, false), (1, true), (WINDOW, false), (WINDOW, true)] {
        let disk = MemoryDisk::default();
        let mut process = process_on(&disk);
        assert!((0..writes).all(|_| process.write(1)));
        if reopened {
            process = process.successor();
            process.open().unwrap();
        }
        disk.remove(Path::new(LOG)).unwrap();
        let tries = (0..5).take_while(|_| !process.write(1)).count();
        assert!(tries < 5, "after {writes} groups, reopened: {reopened}");
    }
}

#[test]
fn groups_that_fail_push_no_id_out() {
    let disk = MemoryDisk::default();
    let mut process = process_on(&disk);
    assert!(process.write(3));
    disk.fail(|op, path| {
        let is_file = path.to_str().unwrap().ends_with(".open");
        (op == Op::Sync && is_file).then(|| io::Error::other("injected"))
    });
    assert!(!(0..20).any(|_| process.write(5)));
    disk.heal();
    assert_eq!(process.recorded(), BTreeSet::from([0, 1, 2]));
}

/// Whoever moves files between directories must lose no line.
#[test]
fn lines_are_kept_in_a_file_that_the_log_does_not_name() {
    let disk = MemoryDisk::default();
    let mut process = process_on(&disk);
    assert!(process.write(2));
    let foreign = Path::new(DIRECTORY).join(base(7).open());
    disk.put(&foreign, b"line 100 of a file\nline 101 of a file\nli");
    let mut process = process.successor();
    process.open().unwrap();
    assert_eq!(disk.content(&foreign), b"line 100 of a file\nline 101 of a file\n");
    process.close();
    let expected = [0, 1, 100, 101].map(|n| (n, 1)).into();
    assert_eq!(process.finished(), (expected, Vec::new()));
}

#[test]
fn a_log_that_is_damaged_or_gone_cuts_nothing_off_and_begins_anew() {
    let damage = |at: usize| {
        move |disk: &MemoryDisk| {
            let mut content = log(disk);
            content[at] ^= 1;
            disk.put(Path::new(LOG), &content);
        }
    };
    let remove = |disk: &MemoryDisk| disk.remove(Path::new(LOG)).unwrap();
    for harm in [&damage(0) as &dyn Fn(&MemoryDisk), &damage(200), &remove] {
        let disk = MemoryDisk::default();
        let mut process = process_on(&disk);
        assert!((0..3).all(|_| process.write(2)));
        harm(&disk);
        let mut process = process.successor();
        process.open().unwrap();
        assert_eq!(lines(&disk).lines().count(), 6);
        assert_eq!(process.recorded(), BTreeSet::new());
        assert!(process.write(2));
        let mut process = process.successor();
        process.open().unwrap();
        assert_eq!(process.recorded(), BTreeSet::from([6, 7]));
        assert_eq!(lines(&disk).lines().count(), 8);
    }
}

/// As after a restored backup, or a version that writes no log.
#[test]
fn more_than_a_group_is_never_cut_off() {
    for (bytes, is_kept) in [(UNSYNCED, false), (UNSYNCED + 1, true)] {
        let disk = MemoryDisk::default();
        let mut process = process_on(&disk);
        assert!(process.write(1));
        let stale = log(&disk);
        process.journal().commit(&one_line(FileSlot::default(), bytes - 1), now()).unwrap();
        let name = disk.files().into_keys().next().unwrap();
        let path = Path::new(DIRECTORY).join(name);
        disk.put(&path, &[disk.content(&path), b"\n".to_vec()].concat());
        disk.put(Path::new(LOG), &stale);
        let mut process = process.successor();
        process.open().unwrap();
        assert_eq!(lines(&disk).lines().count() == 2, is_kept, "{bytes}");
    }
}

#[test]
fn the_log_stays_small_and_has_the_newest_ids_in_their_order() {
    let disk = MemoryDisk::default();
    let mut process = process_on(&disk);
    for _ in 0..500 {
        assert!(process.write(3));
        let bytes = log(&disk).len() + disk.content(Path::new(OLD_LOG)).len();
        assert!(bytes < 4000, "{bytes}");
        let recorded = process.recorded();
        let newest: Vec<_> = (0..process.next).rev().take(WINDOW).collect();
        assert!(newest.iter().all(|n| recorded.contains(n)));
        let three: Vec<_> = (process.next - 3..process.next).map(|n| n.to_string()).collect();
        assert_eq!(recorded_ids(&disk, &process.settings, 3).unwrap(), three);
    }
}
