//! Tests when files are finished, and how many are open.

use std::time::Duration;

use jiff::ToSpan;

use super::*;

#[test]
fn with_no_room_to_finish_a_file_grows_on_and_loses_nothing() {
    let disk = MemoryDisk::default();
    let mut process = TestProcess::new(&disk, settings(FileCompression::Zstd, "{connection_id}"));
    for _ in 0..5 {
        assert!(process.write(5));
        assert!(process.journal().rotate(now(), 0).is_empty());
    }
    assert_eq!(disk.files().len(), 1);
    process.rotate();
    assert_eq!(process.finished(), ((0..25).map(|n| (n, 1)).collect(), Vec::new()));
}

#[test]
fn an_old_file_is_due_and_the_next_one_is_told() {
    let disk = MemoryDisk::default();
    let mut process = TestProcess::new(&disk, settings(FileCompression::None, "{connection_id}"));
    assert!(process.write(1));
    let journal = process.journal();
    assert_eq!(journal.next_rotation(now() + 1.hour() - 5.seconds()), Some(Duration::from_secs(5)));
    assert!(journal.rotate(now() + 3599.seconds(), 8).is_empty());
    assert_eq!(journal.rotate(now() + 1.hour(), 8).len(), 1);
    assert_eq!(journal.next_rotation(now()), None);
}

#[test]
fn no_more_files_are_open_than_may_be() {
    let disk = MemoryDisk::default();
    let mut process = TestProcess::new(&disk, settings(FileCompression::None, "{connection_id}-{partition}"));
    for _ in 0..4 {
        assert!(process.write(3));
        assert!(process.journal().open_files() <= 2);
    }
}
