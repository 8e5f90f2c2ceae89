//! Tests the file sink on a disk that fails or is full, and with a directory that is removed.

use super::*;
use crate::journal::testing::{MemoryDisk, Op};

fn sink_on(disk: &MemoryDisk) -> FileSink {
    let settings = checked(&config(Path::new("/data")), None);
    FileSink::on(Arc::new(disk.clone()), settings, context("b1"))
}

fn numbers_on(disk: &MemoryDisk) -> Vec<u64> {
    disk.files().values().flat_map(|content| numbers(content)).collect()
}

fn is_retry(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Retry(_))
}

#[tokio::test]
async fn what_failed_is_retried_with_all_behind_it_and_appears_once() {
    for ops in [&[Op::Append] as &[Op], &[Op::Sync], &[Op::SyncDirectory], &[Op::Create]] {
        let disk = MemoryDisk::default();
        let mut sink = sink_on(&disk);
        let mut connection = sink.open().await.unwrap();
        disk.fail_all(ops);
        let outcome = hand_over(&mut connection, &numbered(0..3)).await;
        assert!(outcome.values().all(is_retry), "{outcome:?}");
        disk.heal();
        hand_over_durably(&mut connection, &numbered(0..6)).await;
        disk.fail_all(ops);
        let creates_nothing = ops == [Op::SyncDirectory] || ops == [Op::Create];
        if !creates_nothing {
            let outcome = hand_over(&mut connection, &numbered(6..9)).await;
            assert!(outcome.values().all(is_retry), "{outcome:?}");
        }
        disk.heal();
        hand_over_durably(&mut connection, &numbered(6..9)).await;
        connection.0.close().await.unwrap();
        assert_eq!(numbers_on(&disk), (0..9).collect::<Vec<_>>(), "{ops:?}");
    }
}

#[tokio::test]
async fn nothing_submitted_behind_a_failure_overtakes_it() {
    let disk = MemoryDisk::default();
    let mut sink = sink_on(&disk);
    let (mut submit, mut verdicts) = sink.open().await.unwrap();
    let (entered, entering) = std::sync::mpsc::sync_channel(1);
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    disk.fail(move |op, _| {
        if op != Op::Sync {
            return None;
        }
        entered.send(()).ok()?;
        released.recv().err()?;
        Some(std::io::Error::other("injected"))
    });
    assert_eq!(submit.submit(&numbered(0..2)).unwrap(), 2);
    entering.recv().unwrap();
    // While the first group is about to fail, a second one collects.
    assert_eq!(submit.submit(&numbered(2..4)).unwrap(), 2);
    drop(release);
    let mut retried = Vec::new();
    while retried.len() < 4 {
        for (DeliveryId(id), verdict) in verdicts.next().await.unwrap() {
            assert!(is_retry(&verdict), "{id} overtook: {verdict:?}");
            retried.push(id);
        }
    }
    retried.sort_unstable();
    assert_eq!(retried, [0, 1, 2, 3]);
    drop(entering);
    hand_over_durably(&mut (submit, verdicts), &numbered(0..4)).await;
    assert_eq!(numbers_on(&disk), [0, 1, 2, 3]);
}

#[tokio::test]
async fn until_a_failure_has_been_taken_note_of_nothing_more_is_accepted() {
    let disk = MemoryDisk::default();
    let mut sink = sink_on(&disk);
    let (mut submit, mut verdicts) = sink.open().await.unwrap();
    disk.fail_all(&[Op::Sync]);
    submit.submit(&numbered(0..1)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut behind = 1;
    // The sink accepts events only until the failure happens.
    while submit.submit(&numbered(behind..behind + 1)).unwrap() > 0 {
        behind += 1;
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let mut outcome = Vec::new();
    while outcome.len() < behind as usize {
        outcome.extend(verdicts.next().await.unwrap());
    }
    assert!(outcome.iter().all(|(_, verdict)| is_retry(verdict)));
    disk.heal();
    hand_over_durably(&mut (submit, verdicts), &numbered(0..behind)).await;
}

#[tokio::test]
async fn what_cannot_be_cut_back_now_is_cut_back_at_the_next_opening() {
    let disk = MemoryDisk::default();
    let mut sink = sink_on(&disk);
    let mut connection = sink.open().await.unwrap();
    hand_over_durably(&mut connection, &numbered(0..3)).await;
    disk.fail_all(&[Op::Sync, Op::Truncate]);
    connection.0.submit(&numbered(3..6)).unwrap();
    let error = connection.1.next().await.unwrap_err();
    assert!(error.to_string().contains("cannot sync /data/b1-"), "{error}");
    assert!(connection.0.submit(&numbered(3..6)).is_err());
    drop(connection);
    let Err(error) = sink.open().await else { panic!("opened without repairing") };
    assert!(error.to_string().contains("cannot truncate /data/.b1.ids"), "{error}");
    disk.heal();
    let mut connection = sink.open().await.unwrap();
    hand_over_durably(&mut connection, &numbered(3..6)).await;
    connection.0.close().await.unwrap();
    assert_eq!(numbers_on(&disk), (0..6).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_disk_that_is_full_in_the_middle_of_a_write_holds_and_goes_on() {
    let disk = MemoryDisk::default();
    let mut sink = sink_on(&disk);
    let mut connection = sink.open().await.unwrap();
    hand_over_durably(&mut connection, &numbered(0..3)).await;
    disk.leave_room(25);
    let outcome = hand_over(&mut connection, &numbered(3..9)).await;
    for verdict in outcome.values() {
        let Verdict::Retry(error) = verdict else { panic!("{verdict:?}") };
        assert_eq!(error.kind, SinkErrorKind::Misconfigured);
        assert!(error.to_string().contains("make room"), "{error}");
    }
    disk.heal();
    hand_over_durably(&mut connection, &numbered(3..9)).await;
    assert_eq!(numbers_on(&disk), (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_directory_that_is_removed_is_made_anew_and_nothing_in_flight_is_lost() {
    let gzip = FileCompression::Gzip;
    for (compression, max_total, words) in [
        (FileCompression::None, None, "moved or removed"),
        (gzip, None, "was removed"),
        // Nothing can be written, and the limit is checked first.
        (gzip, Some(1), "max_total"),
    ] {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a");
        let settings = FileSettings { compression, max_total, ..checked(&config(&directory), None) };
        let is_limited = max_total.is_some();
        let mut sink = FileSink::new(settings, context("b1"));
        let mut connection = sink.open().await.unwrap();
        if !is_limited {
            hand_over_durably(&mut connection, &numbered(0..3)).await;
        }
        fs::remove_dir_all(&directory).unwrap();
        connection.0.submit(&numbered(3..6)).unwrap();
        let error = connection.1.next().await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        drop(connection);
        let mut connection = sink.open().await.unwrap();
        if !is_limited {
            hand_over_durably(&mut connection, &numbered(3..6)).await;
            assert_eq!(numbers_in(&files(&directory, ".open")), [3, 4, 5]);
        }
    }
}

#[tokio::test]
async fn the_limit_on_all_files_holds_and_never_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let rotate = RotateConfig { size: Size(200), ..RotateConfig::default() };
    let mut sink = sink(&FileConfig { rotate, max_total: Some(Size(400)), ..config(directory.path()) });
    let mut connection = sink.open().await.unwrap();
    let mut n = 0;
    let error = loop {
        let outcome = hand_over(&mut connection, &numbered(n..n + 5)).await;
        if let Some(Verdict::Retry(error)) = outcome.get(&n) {
            break error.clone();
        }
        n += 5;
    };
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    assert!(error.to_string().contains("max_total"), "{error}");
    // Finished files get their names in another thread.
    let moved = loop {
        match files(directory.path(), ".jsonl") {
            none if none.is_empty() => tokio::time::sleep(Duration::from_millis(20)).await,
            finished => break finished,
        }
    };
    assert!(!numbers_in(&moved).is_empty() && n > 0);
    moved.iter().for_each(|file| fs::remove_file(file).unwrap());
    // Moving finished files away is enough.
    loop {
        let outcome = hand_over(&mut connection, &numbered(n..n + 5)).await;
        if matches!(outcome.get(&n), Some(Verdict::Durable)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
