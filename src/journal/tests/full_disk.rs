//! Tests the journal on a full disk: the work that makes room continues, and failed tries leave nothing
//! behind.

use jiff::ToSpan;

use super::*;
use crate::journal::disk::Disk;
use crate::units::Size;

/// Takes every finished file away, as a reader does. Returns the lines.
fn take_finished(process: &TestProcess) -> BTreeMap<u32, usize> {
    let (lines, others) = process.finished();
    for name in process.disk.files().into_keys().filter(|name| !others.contains(name)) {
        process.disk.remove(&Path::new(DIRECTORY).join(name)).unwrap();
    }
    lines
}

#[test]
fn without_room_to_compress_it_a_file_is_finished_as_it_is() {
    for compression in [FileCompression::Zstd, FileCompression::Gzip] {
        for room in 0..60 {
            let disk = MemoryDisk::default();
            let mut process = TestProcess::new(&disk, settings(compression, "{connection_id}"));
            assert!(process.write(5));
            disk.leave_room(room);
            process.rotate();
            let (lines, others) = process.finished();
            assert_eq!((lines, others), ((0..5).map(|n| (n, 1)).collect(), Vec::new()), "with {room} bytes");
            assert_eq!(disk.files().len(), 1, "with {room} bytes");
        }
    }
}

#[test]
fn a_try_to_compress_that_fails_leaves_nothing_behind() {
    for op in [Op::Create, Op::Append, Op::Sync] {
        let disk = MemoryDisk::default();
        let mut process = TestProcess::new(&disk, settings(FileCompression::Gzip, "{connection_id}"));
        assert!(process.write(5));
        let taken = process.journal().rotate(now(), 8);
        let base = &taken[0].base;
        disk.fail(move |failing, path| {
            let temporary = path.to_str().unwrap().ends_with(".tmp");
            (failing == op && temporary).then(|| io::Error::other("injected"))
        });
        finish(&disk, base, FileCompression::Gzip, false).unwrap_err();
        assert_eq!(disk.files().into_keys().collect::<Vec<_>>(), [base.open()], "{op:?}");
        disk.heal();
        finish(&disk, base, FileCompression::Gzip, false).unwrap();
        assert_eq!(process.finished().0.len(), 5);
    }
}

#[test]
fn a_stop_in_the_middle_of_compressing_leaves_nothing_behind_and_publishes_nothing() {
    let disk = MemoryDisk::default();
    let mut process = TestProcess::new(&disk, settings(FileCompression::Zstd, "{connection_id}"));
    assert!(process.write(5));
    let taken = process.journal().rotate(now(), 8);
    disk.leave_room(0);
    finish(&disk, &taken[0].base, FileCompression::Zstd, true).unwrap_err();
    assert_eq!(disk.files().into_keys().collect::<Vec<_>>(), [taken[0].base.open()]);
}

/// Fills the disk with files that are far from due. They are finished early, with the reserve.
fn survive_a_small_disk(compression: FileCompression, partitions: bool) {
    let disk = MemoryDisk::default();
    let name = if partitions { "{connection_id}-{partition}" } else { "{connection_id}" };
    let mut settings = settings(compression, name);
    settings.rotation.size = Size(1 << 30);
    let mut process = TestProcess::new(&disk, settings);
    disk.leave_room(100_000);
    let (mut taken, mut refused) = (BTreeMap::new(), 0);
    while process.next < 20_000 {
        if !process.write(50) {
            refused += 1;
            assert!(refused < 1000, "nothing moves at {}", process.next);
        }
        process.rotate();
        assert!(disk.files().keys().all(|name| !name.ends_with(".tmp")));
        if refused % 3 == 2 {
            taken.extend(take_finished(&process));
        }
    }
    process.close();
    taken.extend(take_finished(&process));
    assert!(refused > 2, "the disk was never full");
    assert_eq!(taken, (0..20_000).map(|n| (n, 1)).collect());
    assert!(disk.files().is_empty());
}

#[test]
fn a_reader_who_takes_finished_files_keeps_a_full_disk_going() {
    for compression in [FileCompression::None, FileCompression::Gzip, FileCompression::Zstd] {
        for partitions in [false, true] {
            survive_a_small_disk(compression, partitions);
        }
    }
}

#[test]
fn the_reserve_is_kept_and_it_says_whether_room_is_being_made() {
    let disk = MemoryDisk::default();
    let mut process = TestProcess::new(&disk, settings(FileCompression::Gzip, "{connection_id}"));
    assert!(process.write(100));
    disk.leave_room(66_000);
    let group = one_line(FileSlot::default(), 500);
    let said = |process: &mut TestProcess, group: &Group<()>| {
        let failure = process.journal().commit(group, now()).unwrap_err();
        assert!(!failure.is_broken && matches!(failure.error, JournalError::Reserve { .. }), "{failure:?}");
        (failure.error.needs_operator(), failure.error.to_string())
    };
    let (held, text) = said(&mut process, &group);
    assert!(!held && text.contains("being finished to make room"), "{text}");
    assert!(process.disk.files().keys().all(|name| name.ends_with(".open")));
    process.rotate();
    // The file was finished and compressed. The room is still too small, and no other file can be finished.
    disk.leave_room(60_000);
    let (held, text) = said(&mut process, &group);
    assert!(held && text.contains("make room on its file system: 1 finished file of"), "{text}");
    disk.heal();
    process.journal().commit(&group, now()).unwrap();
}

/// Finishing the largest file makes enough room. Finishing small files does not.
#[test]
fn where_room_is_wanted_large_files_are_finished_before_they_are_due() {
    let disk = MemoryDisk::default();
    let mut settings = settings(FileCompression::None, "{connection_id}-{partition}");
    (settings.rotation.size, settings.max_total) = (Size(1 << 20), Some(1000));
    let mut process = TestProcess::new(&disk, settings);
    let write = |process: &mut TestProcess, partition: u32, bytes: usize| {
        process.open().unwrap();
        let group = one_line(process.settings.stems.slot(|| 0, || partition), bytes);
        process.journal().commit(&group, now())
    };
    for (partition, bytes) in [(0, 500), (1, 250), (2, 100)] {
        write(&mut process, partition, bytes).unwrap();
    }
    assert!(process.journal().rotate(now(), 8).is_empty());
    let failure = write(&mut process, 0, 300).unwrap_err();
    let text = failure.error.to_string();
    assert!(text.contains("sinks.file.max_total is 1000B: no finished file is in /data, or raise"), "{text}");
    process.rotate();
    let ended = |ending: &str| disk.files().keys().filter(|name| name.ends_with(ending)).count();
    assert_eq!((ended(".jsonl"), ended(".open")), (2, 1));
    let later = now() + 2.seconds();
    let text = process.journal().commit(&one_line(FileSlot::default(), 300), later).unwrap_err();
    let text = text.error.to_string();
    assert!(text.contains("2 finished files of 750B in /data can be moved away"), "{text}");
    // The largest remaining file is due now.
    assert_eq!(process.journal().rotate(now(), 8).len(), 1);
}
