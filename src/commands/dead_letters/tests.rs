//! Tests how the verbs read a place and tell what is wrong, and provides letters.

use std::fs;

use jiff::ToSpan;

use super::*;
use crate::dead_letter::StoredLetter;
use crate::key::Key;
use crate::sink::Position;

pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Returns a letter that was refused at `last`.
pub(super) fn letter(reason: &str, sink: Option<&str>, last: &str) -> StoredLetter {
    let last: jiff::Timestamp = last.parse().unwrap();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    StoredLetter {
        reason: reason.to_owned(),
        detail: "3 MiB is too much".to_owned(),
        queue: Some("main.RTO.acme".to_owned()),
        sink: sink.map(str::to_owned),
        attempts: 2,
        first: last - 60.seconds(),
        last,
        message_id: "ID:7".to_owned(),
        key: Key::from_hex(KEY.as_bytes()),
        timestamp: Some(1_700_000_000_000),
        redelivered: false,
        headers: vec![header("a", "1"), header("a", "x\ny")],
        body: b"{}".to_vec(),
    }
}

pub(super) fn found(sequence: u64, letter: StoredLetter) -> FoundLetter {
    let record = StoredRecord { position: Position::Sequence(sequence), content: bytes::Bytes::new() };
    FoundLetter { record, letter }
}

fn line(reason: &str, sink: &str, hour: u32) -> String {
    format!(
        r#"{{"reason":"{reason}","detail":"d","sink":{sink},"attempts":1,"first_time":"2026-11-30T{hour:02}:00:00.000Z","last_time":"2026-11-30T{hour:02}:00:00.001Z","message_id":"ID:{hour}","key":null,"timestamp":1,"redelivered":false,"headers":[],"body":"{hour}"}}"#
    )
}

/// Runs a verb over a directory; returns exit code, standard output and standard error.
fn run_in(directory: &Path, verb: DeadLettersVerb) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run_with(directory, verb, &mut out, &mut err).unwrap();
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn run_with(
    directory: &Path,
    verb: DeadLettersVerb,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    run_at(&[("DIRECTORY", directory.to_str().unwrap())], verb, out, err)
}

/// Runs a verb with these options in `[dead_letters]`.
fn run_at(
    place: &[(&str, &str)],
    verb: DeadLettersVerb,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let env = [
        ("SOURCE__URL", "stomp://broker:61613"),
        ("SOURCE__USERNAME", "12345"),
        ("SOURCE__PASSWORD", KEY),
        ("SOURCE__NAMESPACE", "acme"),
        ("SOURCE__DESTINATION_ID", "main"),
        ("SINKS__FILE__DIRECTORY", "/events"),
    ];
    let env = env.into_iter().map(|(name, value)| (format!("BRIDGE__{name}"), value.to_owned()));
    let place =
        place.iter().map(|&(name, value)| (format!("BRIDGE__DEAD_LETTERS__{name}"), value.to_owned()));
    let env = env.chain(place);
    let args = DeadLettersArgs { verb };
    run(&SinkRegistry::built_in(), &args, None, env, &mut Console::new(out, err))
}

fn directory_with(lines: &[String]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dead-letters-b-20261121T120000000Z-000000.jsonl.open");
    fs::write(file, lines.join("\n") + "\n" + r#"{"reason":"torn"#).unwrap();
    directory
}

#[test]
fn letters_are_exported_as_they_are_stored_and_the_rest_is_told() {
    let good =
        [line("too_large", "\"kafka\"", 1), line("key_missing", "null", 2), line("too_large", "\"nats\"", 3)];
    let broken = ["{\"reason\":\u{0}\u{0}".to_owned(), r#"{"md5":"an event"}"#.to_owned()];
    let directory = directory_with(&[&good[..1], &broken, &good[1..]].concat());
    let (exit, out, err) = run_in(directory.path(), DeadLettersVerb::Export(FilterArgs::default()));
    assert_eq!((exit, out), (Exit::Success, good.join("\n") + "\n"));
    let place = directory.path().display();
    let told = [
        format!("3 dead letters in the directory {place}"),
        format!("warning: 2 records in the directory {place} are not dead letters, and were left out:"),
        "  dead-letters-b-20261121T120000000Z-000000.jsonl:2: it is not JSON: expected value at line 1 column 11".to_owned(),
        "  dead-letters-b-20261121T120000000Z-000000.jsonl:3: it is JSON, but not a dead letter: missing field `reason` at line 1 column 18"
            .to_owned(),
    ];
    assert_eq!(err.lines().collect::<Vec<_>>(), told);

    let filter = FilterArgs { sink: Some("-".to_owned()), ..FilterArgs::default() };
    let (_, out, err) = run_in(directory.path(), DeadLettersVerb::Export(filter));
    assert_eq!(out, format!("{}\n", good[1]));
    assert!(err.starts_with("1 of 3 dead letters in "), "{err}");
}

#[test]
fn only_the_first_foreign_records_are_told_one_by_one() {
    let directory = directory_with(&vec!["foreign".to_owned(); 25]);
    let (exit, out, err) = run_in(directory.path(), DeadLettersVerb::Export(FilterArgs::default()));
    assert_eq!((exit, out.as_str(), err.lines().count()), (Exit::Success, "", 13), "{err}");
    assert!(err.contains("warning: 25 records in ") && err.ends_with("  and 15 more\n"), "{err}");
}

#[test]
fn a_place_that_cannot_be_read_is_a_failure_with_its_option() {
    let directory = tempfile::tempdir().unwrap();
    let verb = || DeadLettersVerb::List(ListArgs { json: false, filter: FilterArgs::default() });
    let (exit, out, err) = run_in(&directory.path().join("none"), verb());
    assert_eq!((exit, out.as_str(), err.lines().count()), (Exit::Failure, "", 1), "{err}");
    assert!(err.starts_with("error: dead letters: there is no directory "), "{err}");
    assert!(
        err.ends_with("dead_letters.directory (dead_letters.directory: BRIDGE__DEAD_LETTERS__DIRECTORY)\n"),
        "{err}"
    );

    let from = FilterArgs { from: Some(Position::Sequence(3)), ..FilterArgs::default() };
    let (exit, _, err) = run_in(directory.path(), DeadLettersVerb::Export(from));
    assert_eq!(exit, Exit::Failure);
    assert!(
        err.contains("the position 3 is of the form sequence, and positions here are of the form file:line"),
        "{err}"
    );
}

#[test]
fn a_period_without_time_in_it_is_refused_before_anything_is_read() {
    let time = "2026-11-30T02:00:00Z".parse().ok();
    let filter = FilterArgs { since: time, until: time, ..FilterArgs::default() };
    let (exit, out, err) = run_in(Path::new("/none"), DeadLettersVerb::Export(filter));
    assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
    assert!(err.starts_with("error: --since ") && err.lines().count() == 1, "{err}");
}

/// A file sink can keep the dead letters too. Its files have other names.
#[test]
fn letters_in_a_file_sink_are_read_unless_they_are_in_envelopes() {
    let directory = tempfile::tempdir().unwrap();
    let good = line("too_large", "\"kafka\"", 1);
    let zstd = zstd::encode_all(format!("{good}\n").as_bytes(), 1).unwrap();
    fs::write(directory.path().join("b1-20261121T120000000Z-000000.jsonl.zst"), zstd).unwrap();
    let path = directory.path().to_str().unwrap();
    let export = |format: &str| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let verb = DeadLettersVerb::Export(FilterArgs::default());
        let place = [("FILE__DIRECTORY", path), ("FILE__FORMAT", format)];
        let exit = run_at(&place, verb, &mut out, &mut err).unwrap();
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    };
    let (exit, out, err) = export("body");
    assert_eq!((exit, out), (Exit::Success, format!("{good}\n")), "{err}");
    let (exit, out, err) = export("envelope");
    assert_eq!((exit, out.as_str()), (Exit::Failure, ""));
    assert!(err.contains("set dead_letters.file.format to \"body\""), "{err}");
}

/// Takes a number of bytes; then nobody reads any more.
struct ClosedPipe(usize);

impl Write for ClosedPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_reading() {
    let directory = directory_with(&vec![line("too_large", "null", 1); 1000]);
    let verbs = [
        DeadLettersVerb::Export(FilterArgs::default()),
        DeadLettersVerb::List(ListArgs { json: false, filter: FilterArgs::default() }),
    ];
    for (verb, room) in verbs.into_iter().zip([10_000, 0]) {
        let mut err = Vec::new();
        let error = run_with(directory.path(), verb, &mut ClosedPipe(room), &mut err).unwrap_err();
        assert_eq!((error.kind(), err.len()), (io::ErrorKind::BrokenPipe, 0));
    }
}
