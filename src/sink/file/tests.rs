//! Tests the file sink on a real disk.

mod failures;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::config::{FileCompression, RotateConfig};
use super::producer::{MAX_BYTES, MAX_DELIVERIES};
use super::validate::check;
use super::*;
use crate::event::{Batch, Event, Headers, Message, SessionId};
use crate::key::Keying;
use crate::sink::{Delivery, SinkErrorKind, Verdict};
use crate::units::{Period, Size};

fn delivery(n: u64, body: impl AsRef<[u8]>) -> Delivery {
    let message = Message {
        id: Bytes::from(format!("ID:{n}")),
        body: Bytes::copy_from_slice(body.as_ref()),
        timestamp: Some(1_700_000_000_000),
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    };
    let event = Event::new(message, &Keying::new(vec!["/md5".to_owned()], true));
    let batch = Batch { session: SessionId(1), first: n, events: vec![event], received: Instant::now() };
    Delivery { id: DeliveryId(n), event: Arc::new(batch).refs().next().unwrap() }
}

/// Deliveries whose body contains their number.
fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<Delivery> {
    numbers.into_iter().map(|n| delivery(n, format!("{{\"n\":{n},\"of\":\"{}\"}}", n % 7))).collect()
}

fn context(connection_id: &str) -> SinkContext {
    SinkContext {
        sink: "file".to_owned(),
        table: "sinks.file".to_owned(),
        connection_id: connection_id.to_owned(),
        partitions: NonZeroU32::new(4),
        ..SinkContext::default()
    }
}

fn config(directory: &Path) -> FileConfig {
    FileConfig { directory: Some(directory.to_owned()), ..FileConfig::default() }
}

fn checked(config: &FileConfig, partitions: Option<u32>) -> FileSettings {
    let context = BuildContext {
        partitions: partitions.and_then(NonZeroU32::new),
        prefetch: 1024,
        is_strict: false,
        is_for_dead_letters: false,
    };
    check(config, &context, &mut Diagnostics::default()).unwrap()
}

fn sink(config: &FileConfig) -> FileSink {
    FileSink::new(checked(config, Some(4)), context("b1"))
}

type FileConnection = (Box<dyn Submit>, Box<dyn Verdicts>);

/// Submits all and waits for every verdict.
async fn hand_over((submit, verdicts): &mut FileConnection, mut rest: &[Delivery]) -> BTreeMap<u64, Verdict> {
    let mut outcome = BTreeMap::new();
    let all = rest.len();
    while outcome.len() < all {
        let taken = submit.submit(rest).unwrap();
        rest = &rest[taken..];
        for (DeliveryId(id), verdict) in verdicts.next().await.unwrap() {
            assert!(outcome.insert(id, verdict).is_none(), "two verdicts on {id}");
        }
    }
    outcome
}

async fn hand_over_durably(connection: &mut FileConnection, deliveries: &[Delivery]) {
    let outcome = hand_over(connection, deliveries).await;
    assert!(outcome.values().all(|verdict| matches!(verdict, Verdict::Durable)), "{outcome:?}");
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    files.sort();
    files
}

/// Returns the numbers in the lines, in order.
fn numbers(content: &[u8]) -> Vec<u64> {
    let number = |line: &[u8]| {
        let line: serde_json::Value = serde_json::from_slice(line).unwrap();
        line["n"].as_u64().unwrap()
    };
    content.split_inclusive(|byte| *byte == b'\n').map(number).collect()
}

fn numbers_in(files: &[PathBuf]) -> Vec<u64> {
    files.iter().flat_map(|file| numbers(&fs::read(file).unwrap())).collect()
}

#[tokio::test]
async fn events_are_in_a_private_open_file_once_durable_and_in_a_finished_one_after_closing() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let mut sink = sink(&config(&directory));
    let mut connection = sink.open().await.unwrap();
    hand_over_durably(&mut connection, &numbered(0..10_000)).await;
    let open = files(&directory, ".jsonl.open");
    assert_eq!(numbers_in(&open), (0..10_000).collect::<Vec<_>>());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&open[0]), mode(&directory), mode(&parent.path().join("a"))), (0o600, 0o700, 0o700));
    connection.0.close().await.unwrap();
    assert_eq!(numbers_in(&files(&directory, ".jsonl")), (0..10_000).collect::<Vec<_>>());
    assert!(files(&directory, ".open").is_empty());
}

#[tokio::test]
async fn a_full_file_is_compressed_beside_the_event_path_and_nothing_is_lost_or_doubled() {
    for (compression, ending) in [
        (FileCompression::Zstd, ".jsonl.zst"),
        (FileCompression::Gzip, ".jsonl.gz"),
        (FileCompression::None, ".jsonl"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let rotate = RotateConfig { size: Size(50_000), ..RotateConfig::default() };
        let mut sink = sink(&FileConfig { compression, rotate, ..config(directory.path()) });
        let mut connection = sink.open().await.unwrap();
        for chunk in numbered(0..20_000).chunks(500) {
            hand_over_durably(&mut connection, chunk).await;
        }
        connection.0.close().await.unwrap();
        let finished = files(directory.path(), ending);
        assert!(finished.len() > 3, "{finished:?}");
        assert_eq!(files(directory.path(), "").len(), finished.len() + 3, "and lock and id log");
        let read = |path: &PathBuf| {
            let content = fs::File::open(path).unwrap();
            let mut plain = Vec::new();
            match compression {
                FileCompression::None => plain = fs::read(path).unwrap(),
                FileCompression::Zstd => {
                    zstd::stream::copy_decode(content, &mut plain).unwrap();
                    // Readers that decompress the whole file at once read its size from the frame.
                    let frame = fs::read(path).unwrap();
                    let size = zstd::zstd_safe::get_frame_content_size(&frame).unwrap().unwrap();
                    let whole = zstd::bulk::decompress(&frame, usize::try_from(size).unwrap()).unwrap();
                    assert_eq!(whole, plain);
                }
                FileCompression::Gzip => {
                    // The file has one member, so a decoder for a single member reads all of it.
                    let mut decoder = flate2::read::GzDecoder::new(content);
                    std::io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
                }
            }
            numbers(&plain)
        };
        assert_eq!(finished.iter().flat_map(read).collect::<Vec<_>>(), (0..20_000).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_idle_file_is_finished_at_its_age() {
    let directory = tempfile::tempdir().unwrap();
    let rotate = RotateConfig { age: Period::secs(1), ..RotateConfig::default() };
    let mut sink = sink(&FileConfig { rotate, ..config(directory.path()) });
    let mut connection = sink.open().await.unwrap();
    hand_over_durably(&mut connection, &numbered(0..3)).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while files(directory.path(), ".jsonl").is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(numbers_in(&files(directory.path(), ".jsonl")), [0, 1, 2]);
}

#[tokio::test]
async fn events_of_one_partition_share_files_and_more_partitions_than_open_files_are_no_trouble() {
    let directory = tempfile::tempdir().unwrap();
    let name = "{connection_id}-{date}-{hour}-p{partition}".to_owned();
    let mut sink = sink(&FileConfig { name, max_open: 2, ..config(directory.path()) });
    let mut connection = sink.open().await.unwrap();
    let deliveries = numbered(0..1000);
    for chunk in deliveries.chunks(50) {
        hand_over_durably(&mut connection, chunk).await;
    }
    connection.0.close().await.unwrap();
    for partition in 0..4 {
        let of =
            |delivery: &&Delivery| delivery.event.key.partition(NonZeroU32::new(4).unwrap()) == partition;
        let expected: Vec<u64> = deliveries.iter().filter(of).map(|delivery| delivery.id.0).collect();
        let all = files(directory.path(), ".jsonl");
        let stem = format!("b1-2023-11-14-22-p{partition}-");
        let of: Vec<_> = all.into_iter().filter(|file| file.to_str().unwrap().contains(&stem)).collect();
        assert_eq!((numbers_in(&of), of.len()), (expected, 1));
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_the_file_is_continued() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = sink(&config(directory.path()));
    let mut connection = first.open().await.unwrap();
    hand_over_durably(&mut connection, &numbered(0..3)).await;
    drop((connection, first)); // like a killed process: no file is finished
    let open = files(directory.path(), ".open");
    let mut content = fs::read(&open[0]).unwrap();
    content.extend_from_slice(b"{\"n\":3,\"of");
    fs::write(&open[0], content).unwrap();

    let mut second = sink(&config(directory.path()));
    let mut connection = loop {
        // The thread of the first sink releases the lock some time later.
        match second.open().await {
            Ok(connection) => break connection,
            Err(error) => assert!(error.to_string().contains("is locked by process"), "{error}"),
        }
    };
    hand_over_durably(&mut connection, &numbered(3..5)).await;
    assert_eq!(files(directory.path(), ".open"), open);
    connection.0.close().await.unwrap();
    assert_eq!(numbers_in(&files(directory.path(), ".jsonl")), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn two_sinks_with_the_same_names_exclude_each_other_and_others_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = sink(&config(directory.path()));
    let connection = first.open().await.unwrap();
    let Err(error) = sink(&config(directory.path())).open().await else { panic!("not locked") };
    let message = error.to_string();
    assert!(message.contains("is locked by process") && message.contains("connection_id"), "{message}");
    let lines = sink(&config(directory.path())).probe().await.unwrap();
    assert!(lines.iter().any(|line| line.is_warning && line.message.contains("locked")), "{lines:?}");
    let settings = checked(&config(directory.path()), None);
    FileSink::new(settings, context("b2")).open().await.unwrap();
    drop(connection);
    first.open().await.unwrap();
}

#[tokio::test]
async fn a_probe_leaves_nothing_behind() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let lines = sink(&config(&directory)).probe().await.unwrap();
    assert!(lines[0].message.contains("can be made"), "{lines:?}");
    assert!(files(parent.path(), "").is_empty());
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let lines = sink(&config(&directory)).probe().await.unwrap();
    assert!(lines[1].is_warning && lines[1].message.contains("755"), "{lines:?}");
    assert!(files(&directory, "").is_empty());
    let error = sink(&config(Path::new("/proc/nowhere"))).probe().await.unwrap_err();
    assert!(error.to_string().contains("/proc"), "{error}");
}

/// Another user who can create a link in the directory must not decide which file the bridge writes to.
#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let precious = directory.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let link = |name: &str| symlink(&precious, directory.path().join(name)).unwrap();
    link(".b1.lock");
    let mut sink = sink(&config(directory.path()));
    for error in [sink.open().await.err().unwrap(), sink.probe().await.unwrap_err()] {
        assert_eq!(error.kind, SinkErrorKind::Misconfigured);
        assert!(error.to_string().contains("a symbolic link, which is not followed: remove it"), "{error}");
    }
    fs::remove_file(directory.path().join(".b1.lock")).unwrap();
    // A link with the name of one of the sink's files is ignored, and does not block the file.
    link("b1-20261121T120000000Z-000000.jsonl.open");
    link("b1-20261121T120000001Z-000000.jsonl.gz.tmp");
    let mut connection = sink.open().await.unwrap();
    hand_over_durably(&mut connection, &numbered(0..3)).await;
    connection.0.close().await.unwrap();
    assert_eq!(numbers_in(&files(directory.path(), ".jsonl")), [0, 1, 2]);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

/// The lock file keeps the newest name, also after all files were moved away.
/// A replica that freezes gives back an event much later, and this one may have written it before.
#[tokio::test]
async fn a_claim_tells_all_that_is_recorded_and_not_only_the_last_events() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(&config(directory.path()));
    let mut connection = sink.open().await.unwrap();
    hand_over_durably(&mut connection, &numbered(0..100)).await;
    let held = sink.claim(4).await.unwrap().unwrap();
    assert_eq!((held.ids.len(), &held.ids[0][..]), (100, &b"ID:0"[..]));
}

#[tokio::test]
async fn the_lock_file_tells_who_holds_it_and_the_newest_name() {
    let directory = tempfile::tempdir().unwrap();
    let future = "20991231T235959999Z-000007";
    fs::write(directory.path().join(".b1.lock"), format!("process 1\n{future}\n")).unwrap();
    let mut other = sink(&config(directory.path()));
    let mut sink = sink(&config(directory.path()));
    let mut connection = sink.open().await.unwrap();
    hand_over_durably(&mut connection, &numbered(0..3)).await;
    let open = files(directory.path(), ".open");
    assert!(open[0].to_str().unwrap().contains("b1-20991231T235959999Z-000008"), "{open:?}");
    let lock = fs::read_to_string(directory.path().join(".b1.lock")).unwrap();
    let lines: Vec<_> = lock.lines().collect();
    let process = format!("process {}", std::process::id());
    assert_eq!(lines[..2], [process.as_str(), "20991231T235959999Z-000008"], "{lock}");
    // The third line tells this holder from every other one.
    assert!(lines.len() == 3 && lines[2].len() == 16, "{lock}");
    let Err(error) = other.open().await else { panic!("not locked") };
    let expected = format!("is locked by process {}: a bridge", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
}

#[tokio::test]
async fn it_holds_no_more_than_it_may_and_takes_one_when_idle() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(&config(directory.path()));
    let (mut submit, mut verdicts) = sink.open().await.unwrap();
    let deliveries = numbered(0..3 * MAX_DELIVERIES as u64);
    assert_eq!(submit.submit(&deliveries).unwrap(), MAX_DELIVERIES);
    assert_eq!(submit.submit(&deliveries[MAX_DELIVERIES..]).unwrap(), 0);
    let mut answered = 0;
    while answered < MAX_DELIVERIES {
        answered += verdicts.next().await.unwrap().len();
    }
    let huge = format!("{{\"n\":1,\"x\":\"{}\"}}", "x".repeat(MAX_BYTES + 1));
    // The writer gives its verdicts a moment before it is idle.
    let taken = loop {
        match submit.submit(&[delivery(1, &huge), delivery(2, &huge)]).unwrap() {
            0 => tokio::time::sleep(Duration::from_millis(1)).await,
            taken => break taken,
        }
    };
    assert_eq!(taken, 1);
    assert_eq!(verdicts.next().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_event_that_is_no_line_is_rejected_and_the_others_are_durable() {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = sink(&config(directory.path())).open().await.unwrap();
    let mut deliveries = numbered(0..3);
    deliveries[1] = delivery(1, b"\xff");
    let outcome = hand_over(&mut connection, &deliveries).await;
    assert!(matches!(&outcome[&1], Verdict::Reject(rejection) if rejection.reason == "not_utf8"));
    assert!(matches!((&outcome[&0], &outcome[&2]), (Verdict::Durable, Verdict::Durable)));
    assert_eq!(numbers_in(&files(directory.path(), ".open")), [0, 2]);
}
