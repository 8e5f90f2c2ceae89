//! Fuzzes the reading of dead letters from files that hold any bytes, compressed or not. A file that can't be
//! read is an error, and a line that is no letter is told apart. Nothing in the directory changes.
//!
//! The first byte of the input chooses the ending of the file's name.

#![no_main]

use std::fs;
use std::path::Path;

use atdata_bridge::dead_letter::config::FilesSettings;
use atdata_bridge::dead_letter::file_store::FileDeadLetters;
use atdata_bridge::dead_letter::{DeadLetterStore, StoredLine};
use atdata_bridge::journal::config::RotateConfig;
use atdata_bridge::sink::StoredRecord;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

const ENDINGS: [&str; 6] =
    [".jsonl", ".jsonl.open", ".jsonl.zst", ".jsonl.gz", ".jsonl.zst.ready", ".jsonl.gz.tmp"];

thread_local! {
    static PLACE: (Runtime, TempDir) = (
        Builder::new_current_thread().enable_all().build().expect("start a runtime"),
        tempfile::tempdir().expect("create a directory"),
    );
}

async fn read(directory: &Path) -> Vec<StoredLine> {
    let settings =
        FilesSettings { directory: directory.to_owned(), max_total: None, rotation: RotateConfig::default() };
    let letters = FileDeadLetters::new(settings, "b1", 1);
    let (sender, mut records) = mpsc::channel::<StoredRecord>(1);
    let parse = async {
        let mut lines = Vec::new();
        while let Some(record) = records.recv().await {
            lines.extend(StoredLine::parse(&record.content).ok());
        }
        lines
    };
    let (result, lines) = tokio::join!(letters.read_back(None, sender), parse);
    if let Err(error) = result {
        assert!(!error.to_string().is_empty());
    }
    lines
}

fuzz_target!(|input: &[u8]| {
    let Some((ending, content)) = input.split_first() else { return };
    let ending = ENDINGS[usize::from(*ending) % ENDINGS.len()];
    PLACE.with(|(runtime, directory)| {
        let path = directory.path().join(format!("dead-letters-b1-20261130T120000000Z-000000{ending}"));
        fs::write(&path, content).expect("write the file");
        let lines = runtime.block_on(read(directory.path()));
        assert_eq!(lines, runtime.block_on(read(directory.path())));
        for line in lines {
            if let StoredLine::Letter(letter) = line {
                assert!(letter.body.len() <= content.len() * 1100, "the body is longer than what was stored");
            }
        }
        assert_eq!(fs::read(&path).expect("the file is still there"), content);
        fs::remove_file(path).expect("remove the file");
    });
});
