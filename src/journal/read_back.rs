//! Reads the lines of all files in the directory of a journal, of every connection id, oldest file first. It
//! locks nothing and changes nothing, so bridges may write and finish files at the same time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::chunk::CHUNK;
use super::config::FileCompression;
use super::disk::{Disk, OsDisk, no_link};
use super::error::{shown, words};
use super::name::{Base, FileNumber, FileState, parse_any};
use super::settings::JournalSettings;

/// The longest line that is read whole, in bytes. Of a longer one, which no bridge writes, the rest is skipped.
const LONGEST_LINE: u64 = 256 << 20;

/// Why the files could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBackError {
    #[error(
        "there is no directory {}: the bridge makes it when it starts; check {section}.directory",
        shown(path)
    )]
    NoDirectory { path: PathBuf, section: String },
    #[error("cannot read {}: {}; check {section}.directory", shown(path), words(cause))]
    Directory { path: PathBuf, section: String, cause: io::Error },
    #[error("cannot read {} behind line {line}: {}", shown(path), words(cause))]
    File {
        path: PathBuf,
        /// How many lines were read.
        line: u64,
        cause: io::Error,
    },
    #[error("{first}; {more} more can't be read either")]
    Files { first: Box<Self>, more: usize },
    #[error("{0} is not the name of a file that the bridge has written")]
    Name(String),
}

/// Calls `each` with the name of a file, as it is without compression, the number of a line from 1, and the line
/// without its line feed, until it breaks. Begins at the line `from`, or with the first one. The last line of a
/// file that is being written is left out if it is not complete.
///
/// # Errors
/// The directory can't be read. If a file can't be read, the others are read before its error is returned.
pub(crate) fn read_lines(
    settings: &JournalSettings,
    from: Option<(&str, u64)>,
    mut each: impl FnMut(&Arc<str>, u64, Vec<u8>) -> ControlFlow<()>,
) -> Result<(), ReadBackError> {
    let JournalSettings { directory, section, .. } = settings;
    let first = from.map(|(name, line)| Ok((file(name)?, line))).transpose().map_err(ReadBackError::Name)?;
    let mut failed: Option<(ReadBackError, usize)> = None;
    for found in files(directory, section)? {
        let skipped = match &first {
            Some((file, _)) if found < *file => continue,
            Some((file, line)) if found == *file => line.saturating_sub(1),
            _ => 0,
        };
        let name: Arc<str> = found.1.finished(FileCompression::None).into();
        let each = |number, line| {
            if number > skipped { each(&name, number, line) } else { ControlFlow::Continue(()) }
        };
        match read_file(directory, &found.1, each) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(()),
            Err(error) => failed = Some(failed.map_or((error, 0), |(first, more)| (first, more + 1))),
        }
    }
    match failed {
        None => Ok(()),
        Some((first, 0)) => Err(first),
        Some((first, more)) => Err(ReadBackError::Files { first: Box::new(first), more }),
    }
}

/// A file in the order in which files are read: by the time of its opening.
type Ordered = (FileNumber, Base);

fn file(name: &str) -> Result<Ordered, String> {
    parse_any(name).map(|parsed| (parsed.opening, parsed.base)).ok_or_else(|| name.to_owned())
}

/// Returns each file once, in whatever states it is.
fn files(directory: &Path, section: &str) -> Result<BTreeSet<Ordered>, ReadBackError> {
    let entries = OsDisk.list(directory).map_err(|cause| {
        let (path, section) = (directory.to_owned(), section.to_owned());
        match cause.kind() {
            io::ErrorKind::NotFound => ReadBackError::NoDirectory { path, section },
            _ => ReadBackError::Directory { path, section, cause },
        }
    })?;
    let parsed = entries.iter().filter_map(|entry| parse_any(&entry.name));
    let holds_lines = parsed.filter(|parsed| parsed.state != FileState::Temporary);
    Ok(holds_lines.map(|parsed| (parsed.opening, parsed.base)).collect())
}

/// Reads one file, unless it was moved away since it was listed.
fn read_file(
    directory: &Path,
    base: &Base,
    mut each: impl FnMut(u64, Vec<u8>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ReadBackError> {
    let Some((path, file, state)) = opened(directory, base)? else { return Ok(ControlFlow::Continue(())) };
    let mut line = 0;
    let read = || {
        let mut lines = BufReader::with_capacity(CHUNK, plain(file, &state)?);
        while let Some(content) = next_line(&mut lines, &state, LONGEST_LINE)? {
            line += 1;
            if each(line, content).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    let outcome = read();
    outcome.map_err(|cause| ReadBackError::File { path, line, cause })
}

/// How the lines are in the file.
enum Written {
    /// As they are; the last one may not be complete.
    InPart,
    Whole(FileCompression),
}

/// Opens the file under the first name that it has. Tries the names in the order in which the file gets them, so
/// that a rename in between is no miss.
fn opened(directory: &Path, base: &Base) -> Result<Option<(PathBuf, File, Written)>, ReadBackError> {
    use FileCompression::{Gzip, None as Plain, Zstd};
    let names = [
        (base.open(), Written::InPart),
        (base.ready(Zstd), Written::Whole(Zstd)),
        (base.ready(Gzip), Written::Whole(Gzip)),
        (base.finished(Plain), Written::Whole(Plain)),
        (base.finished(Zstd), Written::Whole(Zstd)),
        (base.finished(Gzip), Written::Whole(Gzip)),
    ];
    for (name, written) in names {
        let path = directory.join(name);
        match no_link().read(true).open(&path) {
            Ok(file) => return Ok(Some((path, file, written))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(ReadBackError::File { path, line: 0, cause }),
        }
    }
    Ok(None)
}

/// Returns the content that the file has now, without compression.
fn plain(file: File, written: &Written) -> io::Result<Box<dyn Read>> {
    Ok(match written {
        Written::InPart | Written::Whole(FileCompression::None) => {
            let length = file.metadata()?.len();
            Box::new(file.take(length))
        }
        Written::Whole(FileCompression::Zstd) => Box::new(zstd::Decoder::new(file)?),
        Written::Whole(FileCompression::Gzip) => {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file)))
        }
    })
}

/// Returns the next line, or its first `longest` bytes. The last line of a finished file needs no line feed.
fn next_line(lines: &mut impl BufRead, written: &Written, longest: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let length = lines.by_ref().take(longest).read_until(b'\n', &mut line)? as u64;
    if line.pop_if(|last| *last == b'\n').is_none() {
        if length == longest {
            lines.skip_until(b'\n')?;
        } else if length == 0 || matches!(written, Written::InPart) {
            return Ok(None);
        }
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::journal::testing;

    fn settings(directory: &Path) -> JournalSettings {
        JournalSettings { directory: directory.to_owned(), ..testing::settings() }
    }

    fn name(stem: &str, minute: u32) -> String {
        format!("dead-letters-{stem}-20261121T12{minute:02}00000Z-000000")
    }

    /// Returns `minute/number line` of each line.
    fn read(directory: &Path, from: Option<(&str, u64)>) -> (Vec<String>, Option<ReadBackError>) {
        let mut found = Vec::new();
        let read = read_lines(&settings(directory), from, |file, number, line| {
            let minute = file.split("T12").nth(1).unwrap().get(..2).unwrap().to_owned();
            found.push(format!("{minute}/{number} {}", String::from_utf8_lossy(&line)));
            ControlFlow::Continue(())
        });
        (found, read.err())
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    }

    /// A directory with files of two bridges in every state.
    fn filled() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: String, content: &[u8]| fs::write(directory.path().join(name), content).unwrap();
        put(name("b", 4) + ".jsonl.open", b"h\n\0\0\0\ni\ntorn");
        put(name("a", 5) + ".jsonl.open", b"");
        put(name("a", 0) + ".jsonl", b"a\nb");
        put(name("b", 1) + ".jsonl.zst", &zstd::encode_all(&b"c\nd\n"[..], 1).unwrap());
        put(name("a", 2) + ".jsonl.gz", &[gzip("e\n"), gzip("f\n")].concat());
        put(name("a", 3) + ".jsonl.gz.ready", &gzip("g\n"));
        // The same lines as in the file that is being finished.
        put(name("b", 4) + ".jsonl.zst.tmp", b"half");
        put("notes.jsonl".to_owned(), b"not a file of the bridge\n");
        put(".dead-letters-a.lock".to_owned(), b"process 1\n");
        directory
    }

    const ALL: [&str; 10] = [
        "00/1 a",
        "00/2 b",
        "01/1 c",
        "01/2 d",
        "02/1 e",
        "02/2 f",
        "03/1 g",
        "04/1 h",
        "04/2 \0\0\0",
        "04/3 i",
    ];

    #[test]
    fn files_of_every_bridge_and_state_are_read_in_the_order_of_time() {
        let directory = filled();
        let (found, error) = read(directory.path(), None);
        assert_eq!((found, error.is_none()), (ALL.map(str::to_owned).to_vec(), true));
    }

    #[test]
    fn reading_begins_at_a_position_whatever_the_state_of_its_file() {
        let directory = filled();
        for (from, skipped) in [
            ((name("a", 0) + ".jsonl", 2), 1),
            ((name("b", 1) + ".jsonl", 1), 2),
            ((name("b", 1) + ".jsonl.zst", 3), 4),
            ((name("b", 3) + ".jsonl", 9), 7),
            ((name("b", 9) + ".jsonl", 1), 10),
        ] {
            let (found, _) = read(directory.path(), Some((&from.0, from.1)));
            assert_eq!(found, ALL[skipped..], "{from:?}");
        }
        let (_, error) = read(directory.path(), Some(("notes.jsonl", 1)));
        assert!(error.unwrap().to_string().starts_with("notes.jsonl is not the name of a file"));
    }

    #[test]
    fn a_reader_that_has_enough_gets_no_more() {
        let directory = filled();
        let mut count = 0;
        let read = read_lines(&settings(directory.path()), None, |_, _, _| {
            count += 1;
            if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(read.is_ok() && count == 3, "{count}");
    }

    #[test]
    fn a_damaged_file_does_not_hide_the_others() {
        let directory = filled();
        let damaged = directory.path().join(name("b", 1) + ".jsonl.zst");
        fs::write(&damaged, b"not zstd").unwrap();
        let (found, error) = read(directory.path(), None);
        assert_eq!(found, [&ALL[..2], &ALL[4..]].concat());
        let error = error.unwrap().to_string();
        assert!(error.starts_with(&format!("cannot read {} behind line 0: ", damaged.display())), "{error}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_with_its_option() {
        let directory = tempfile::tempdir().unwrap();
        let (path, file) = (directory.path().join("none"), directory.path().join("file"));
        fs::write(&file, "").unwrap();
        let said = |path: &Path| read(path, None).1.unwrap().to_string();
        let (missing, other) = (said(&path), said(&file));
        assert!(missing.starts_with(&format!("there is no directory {}: ", path.display())), "{missing}");
        assert!(other.contains("Not a directory") && !other.contains("os error"), "{other}");
        assert!(
            missing.ends_with("check sinks.file.directory") && other.ends_with("check sinks.file.directory")
        );
    }

    #[test]
    fn of_a_line_that_is_too_long_the_rest_is_skipped() {
        let mut lines = &b"0123456789\nnext\n"[..];
        let mut next = || next_line(&mut lines, &Written::InPart, 8).unwrap();
        assert_eq!([next(), next(), next()], [Some(b"01234567".to_vec()), Some(b"next".to_vec()), None]);
    }
}
