//! Fuzzes the recovery of dead letters with any id log and any unfinished file. Opening may fail with an error.
//! If it does not, a letter that is written is there once, also when it comes again after a restart, and a
//! finished file keeps its content.
//!
//! The input is the current log, the old log, the unfinished file and the finished file, each after a zero byte.
//! Each line of a log gets a good checksum, unless it begins with `!`.

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use atdata_bridge::dead_letter::config::FilesSettings;
use atdata_bridge::dead_letter::file_store::FileDeadLetters;
use atdata_bridge::dead_letter::{DeadLetter, DeadLetterStore, StoredLine};
use atdata_bridge::event::{Batch, Event, Headers, Message, SessionId};
use atdata_bridge::journal::config::RotateConfig;
use atdata_bridge::key::Keying;
use atdata_bridge::sink::{Rejection, SinkError, StoredRecord};
use flate2::Crc;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

const ID: &str = "ID:fuzz-1";
const UNFINISHED: &str = "dead-letters-b1-20261130T120000000Z-000001.jsonl.open";
const FINISHED: &str = "dead-letters-b1-20261130T120000000Z-000000.jsonl";

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("start a runtime");
}

fn with_checksums(log: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        if let Some(raw) = line.strip_prefix(b"!") {
            lines.extend_from_slice(raw);
            continue;
        }
        let mut crc = Crc::new();
        crc.update(line.strip_suffix(b"\n").unwrap_or(line));
        lines.extend_from_slice(format!("{:08x} ", crc.sum()).as_bytes());
        lines.extend_from_slice(line);
    }
    lines
}

/// Whether a record says that the letter is stored already.
fn names_the_letter(log: &[u8]) -> bool {
    let id = format!("{ID}/b");
    let raw = Value::from(id.as_bytes());
    log.split(|byte| *byte == b'\n').any(|line| {
        let json = line.strip_prefix(b"!").and_then(|line| line.get(9..)).unwrap_or(line);
        let record: Value = serde_json::from_slice(json).unwrap_or_default();
        record["ids"].as_array().is_some_and(|ids| ids.iter().any(|held| *held == id || *held == raw))
    })
}

fn letter() -> DeadLetter {
    let message = Message {
        id: ID.into(),
        body: "{}".into(),
        timestamp: None,
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    };
    let events = vec![Event::new(message, &Keying::new(vec!["/md5".to_owned()], false))];
    let batch = Arc::new(Batch { session: SessionId(1), first: 1, events, received: Instant::now() });
    let event = batch.refs().next().expect("one event");
    let rejection = Rejection { reason: "too_large", detail: "too large".to_owned() };
    let (first, last) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
    DeadLetter {
        event,
        queue: "a".into(),
        worker: "b".into(),
        sink: None,
        rejection,
        attempts: 1,
        first,
        last,
    }
}

fn store(directory: &Path) -> FileDeadLetters {
    let settings =
        FilesSettings { directory: directory.to_owned(), max_total: None, rotation: RotateConfig::default() };
    FileDeadLetters::new(settings, "b1", 1)
}

/// Writes the letter as a process would that starts now.
async fn write(directory: &Path) -> Result<(), SinkError> {
    let store = store(directory);
    let written = store.write(&[letter()]).await;
    store.close().await;
    written
}

/// How many lines are the letter.
async fn copies(directory: &Path) -> usize {
    let store = store(directory);
    let (sender, mut records) = mpsc::channel::<StoredRecord>(1);
    let count = async {
        let mut found = 0;
        while let Some(record) = records.recv().await {
            let line = StoredLine::parse(&record.content);
            found += usize::from(matches!(line, Ok(StoredLine::Letter(letter)) if letter.message_id == ID));
        }
        found
    };
    let (read, found) = tokio::join!(store.read_back(None, sender), count);
    read.expect("read what was written");
    found
}

async fn recover(directory: &Path, is_held: bool) {
    if let Err(error) = write(directory).await {
        assert!(!error.to_string().is_empty());
        return;
    }
    let once = copies(directory).await;
    assert!(once >= 1 || is_held, "the letter is lost");
    write(directory).await.expect("the files are good now");
    assert_eq!(copies(directory).await, once, "the letter came again");
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(4, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (current, old, unfinished, finished) = (part(), part(), part(), part());
    let directory = tempfile::tempdir().expect("create a directory");
    let path = |name: &str| directory.path().join(name);
    let files = [
        (".dead-letters-b1.ids", with_checksums(current)),
        (".dead-letters-b1.ids.old", with_checksums(old)),
        (UNFINISHED, unfinished.to_vec()),
        (FINISHED, finished.to_vec()),
    ];
    for (name, content) in files.iter().filter(|(_, content)| !content.is_empty()) {
        fs::write(path(name), content).expect("write a file");
    }
    let is_held = [current, old].into_iter().any(names_the_letter);
    RUNTIME.with(|runtime| runtime.block_on(recover(directory.path(), is_held)));
    if !finished.is_empty() {
        assert_eq!(fs::read(path(FINISHED)).expect("the finished file"), finished);
    }
});
