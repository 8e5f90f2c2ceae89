//! Reads the files of a demo back and holds them against what was sent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::simulator::{Audit, AuditResult, AuditedPlace, Generator};

/// The files can't be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} back: {cause}", path.display())]
pub(super) struct ReadBackError {
    path: PathBuf,
    cause: io::Error,
}

/// What the files must hold.
pub(super) struct ReadBack {
    /// Who wrote the events.
    pub(super) generator: Generator,
    /// How many were sent.
    pub(super) published: u64,
    /// Of these, how many, from the first, were acknowledged and so must be there.
    pub(super) acked: u64,
}

/// What the files hold.
#[derive(Debug)]
pub(super) struct StoredEvents {
    pub(super) findings: AuditResult,
    /// Of events.
    pub(super) files: u64,
    /// Their size in bytes.
    pub(super) size: u64,
    /// Dead letters by reason.
    pub(super) reasons: BTreeMap<String, u64>,
}

/// The part of a dead letter that matters here.
#[derive(Deserialize)]
struct Letter {
    reason: String,
    body: Option<String>,
    body_base64: Option<String>,
}

impl Letter {
    fn body(&self) -> Option<Vec<u8>> {
        match (&self.body, &self.body_base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, encoded) => STANDARD.decode(encoded.as_ref()?).ok(),
        }
    }
}

impl ReadBack {
    /// Reads every file, those of the events in the order of their names, which is that of their writing.
    pub(super) fn read(self, events: &Path, dead_letters: &Path) -> Result<StoredEvents, ReadBackError> {
        let Self { generator, published, acked } = self;
        let mut audit = Audit::new(generator);
        let (mut size, mut reasons) = (0, BTreeMap::new());
        let files = each_line(events, |line| {
            size += line.len() as u64 + 1;
            audit.see(line, AuditedPlace::Sink, published);
        })?;
        each_line(dead_letters, |line| {
            let letter = serde_json::from_slice::<Letter>(line).ok();
            let body = letter.as_ref().and_then(Letter::body).unwrap_or_default();
            audit.see(&body, AuditedPlace::DeadLetters, published);
            let reason = letter.map_or_else(|| "not a dead letter".to_owned(), |letter| letter.reason);
            *reasons.entry(reason).or_default() += 1;
        })?;
        Ok(StoredEvents { findings: audit.finish(acked), files, size, reasons })
    }
}

/// Calls `see` with every line of every file, and returns how many files there are. What has no line feed
/// in a file that is still open was being written when the bridge was stopped.
fn each_line(directory: &Path, mut see: impl FnMut(&[u8])) -> Result<u64, ReadBackError> {
    let paths = paths(directory).map_err(|cause| ReadBackError { path: directory.to_owned(), cause })?;
    for path in &paths {
        lines_of(path, &mut see).map_err(|cause| ReadBackError { path: path.clone(), cause })?;
    }
    Ok(paths.len() as u64)
}

fn lines_of(path: &Path, see: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path)?);
    let open = path.extension().is_some_and(|extension| extension == "open");
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        match line.strip_suffix(b"\n") {
            Some(whole) => see(whole),
            None if open => {}
            None => see(&line),
        }
        line.clear();
    }
    Ok(())
}

fn paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let named = |suffix| path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(suffix));
        if named(b".jsonl") || named(b".jsonl.open") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
