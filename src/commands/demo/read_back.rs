//! Reads the files of a demo and compares them with what was sent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::simulator::{Audit, AuditResult, AuditedPlace, Generator};

/// A file of the demo can't be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} back: {cause}", path.display())]
pub(super) struct DemoFileError {
    path: PathBuf,
    cause: io::Error,
}

/// How many events the report shows.
const EXAMPLES: usize = 2;

/// What the files must contain.
pub(super) struct ReadBack {
    /// The generator that wrote the events.
    pub(super) generator: Generator,
    /// How many events the broker has sent.
    pub(super) published: u64,
    /// Number of events acknowledged, counted from the first. All of these must be in the files.
    pub(super) acked: u64,
}

/// What was found in the files of a demo.
#[derive(Debug)]
pub(super) struct StoredEvents {
    pub(super) result: AuditResult,
    /// Number of files with events.
    pub(super) files: u64,
    /// Size of these files, in bytes.
    pub(super) size: u64,
    pub(super) reasons: BTreeMap<String, u64>,
    /// The file of the first events, and these events.
    pub(super) examples: Option<(PathBuf, Vec<String>)>,
}

/// The fields of a dead letter that the demo needs.
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
    /// Reads every file. Files of events are read by name, which is the order in which they were written.
    pub(super) fn read(self, events: &Path, dead_letters: &Path) -> Result<StoredEvents, DemoFileError> {
        let Self { generator, published, acked } = self;
        let mut audit = Audit::new(generator);
        let (mut size, mut reasons) = (0, BTreeMap::new());
        let mut examples: Option<(PathBuf, Vec<String>)> = None;
        let files = each_line(events, |path, line| {
            let (file, lines) = examples.get_or_insert_with(|| (path.to_owned(), Vec::new()));
            if lines.len() < EXAMPLES && file == path {
                lines.push(String::from_utf8_lossy(line).into_owned());
            }
            size += line.len() as u64 + 1;
            audit.see(line, AuditedPlace::Sink, published);
        })?;
        each_line(dead_letters, |_, line| {
            let letter = serde_json::from_slice::<Letter>(line).ok();
            let body = letter.as_ref().and_then(Letter::body).unwrap_or_default();
            audit.see(&body, AuditedPlace::DeadLetters, published);
            let reason = letter.map_or_else(|| "not a dead letter".to_owned(), |letter| letter.reason);
            *reasons.entry(reason).or_default() += 1;
        })?;
        Ok(StoredEvents { result: audit.finish(acked), files, size, reasons, examples })
    }
}

/// Calls `see` with every file and every line of it, and returns the number of files. Ignores an incomplete last
/// line of an open file: the bridge was stopped while it wrote that line.
fn each_line(directory: &Path, mut see: impl FnMut(&Path, &[u8])) -> Result<u64, DemoFileError> {
    let paths = paths(directory).map_err(|cause| DemoFileError { path: directory.to_owned(), cause })?;
    for path in &paths {
        lines_of(path, &mut |line| see(path, line))
            .map_err(|cause| DemoFileError { path: path.clone(), cause })?;
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
