//! Reads the bridge's output and checks it: every event once, in the order of its key.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::events::{Events, number_in};

/// Calls `each` with every line of every file in `directory` (`.jsonl`, compressed or still open), in the
/// order of the file names. An incomplete last line is an error, except in an open file, where a kill can cut
/// it off.
pub fn each_line(directory: &Path, mut each: impl FnMut(&str)) {
    for path in files(directory) {
        each_line_of(&path, &mut each);
    }
}

/// Calls `each` with every line of one file; see [`each_line`].
pub fn each_line_of(path: &Path, mut each: impl FnMut(&str)) {
    let name = path.to_string_lossy().into_owned();
    let file = File::open(path).expect("open an output file");
    let plain: Box<dyn Read> = if name.ends_with(".zst") {
        Box::new(zstd::Decoder::new(file).expect("read zstd"))
    } else if name.ends_with(".gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut lines = BufReader::new(plain);
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap_or_else(|error| panic!("read {name}: {error}")) > 0 {
        match line.strip_suffix('\n') {
            Some(whole) => each(whole),
            None => assert!(name.ends_with(".open"), "{name} ends inside a line: {line}"),
        }
        line.clear();
    }
}

/// The lines as JSON, for output that fits into memory, such as dead letters.
pub fn json_lines(directory: &Path) -> Vec<serde_json::Value> {
    let mut values = Vec::new();
    each_line(directory, |line| values.push(serde_json::from_str(line).expect("a line of JSON")));
    values
}

/// The output files, sorted by name, which is the order in which they were made.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("list an output directory");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".jsonl")));
    files.sort();
    files
}

/// The size of all output files together, finished or open; 0 if there is no directory.
pub fn bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let entries = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().contains(".jsonl"));
    // A file may be renamed meanwhile.
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Compares the output with the published events.
pub struct Tally {
    events: Events,
    seen: Vec<u32>,
    ids: HashSet<String>,
    repeated_ids: u64,
    last_of_key: HashMap<String, u64>,
    ordered: bool,
    disordered: Vec<u64>,
    foreign: Vec<String>,
}

impl Tally {
    /// A tally without any output yet.
    pub fn new(events: Events) -> Self {
        let seen = vec![0; usize::try_from(events.count).expect("a count that fits memory")];
        Self {
            events,
            seen,
            ids: HashSet::new(),
            repeated_ids: 0,
            last_of_key: HashMap::new(),
            ordered: true,
            disordered: Vec::new(),
            foreign: Vec::new(),
        }
    }

    /// Like [`new`](Self::new), for several processes that wrote at the same time, for which no order is
    /// guaranteed.
    pub fn in_any_order(events: Events) -> Self {
        Self { ordered: false, ..Self::new(events) }
    }

    /// Reads a directory that one bridge has written with `format = "body"`.
    pub fn of(events: Events, directory: &Path) -> Self {
        let mut tally = Self::new(events);
        each_line(directory, |line| tally.add(line));
        tally
    }

    /// Reads directories that one bridge after the other has written with `format = "envelope"`.
    pub fn of_envelopes<'a>(events: Events, directories: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut tally = Self::new(events);
        for directory in directories {
            each_line(directory, |line| tally.add_envelope(line));
        }
        tally
    }

    /// Counts an envelope. Its key must be the event's key; its body is counted like in [`Tally::add`].
    pub fn add_envelope(&mut self, line: &str) {
        match open_envelope(line) {
            Some((id, key, _, body)) => self.add_keyed(id, key, body),
            None => self.foreign.push(line.to_owned()),
        }
    }

    /// Counts an event that has a message id and a key. The key must be the event's key.
    pub fn add_keyed(&mut self, id: &str, key: &str, body: &str) {
        if !self.ids.insert(id.to_owned()) {
            self.repeated_ids += 1;
        }
        match number_in(body) {
            Some(number) if number < self.events.count && self.events.key(number) == key => self.add(body),
            _ => self.foreign.push(format!("{key} {body}")),
        }
    }

    /// The number of events with the message id of an earlier event. Unlike [`Tally::doubled`], this does not
    /// count events that a publisher has sent twice because it got no confirmation.
    pub fn repeated_ids(&self) -> u64 {
        self.repeated_ids
    }

    /// Counts a body, which must be byte for byte the body of a good event.
    pub fn add(&mut self, body: &str) {
        let number = number_in(body).filter(|number| {
            *number < self.events.count
                && self.events.defect(*number).is_none()
                && self.events.body(*number) == body
        });
        let Some(number) = number else {
            self.foreign.push(body.to_owned());
            return;
        };
        let seen = &mut self.seen[number as usize];
        *seen += 1;
        if *seen == 1 && self.ordered {
            let last = self.last_of_key.entry(self.events.key(number)).or_insert(number);
            if number < *last {
                eprintln!(
                    "event {number} came first after {last}, as number {} of all",
                    self.seen.iter().sum::<u32>()
                );
                self.disordered.push(number);
            }
            *last = number;
        }
    }

    /// The number of different events in the output.
    pub fn distinct(&self) -> u64 {
        self.seen.iter().filter(|seen| **seen > 0).count() as u64
    }

    /// The number of duplicate lines.
    pub fn doubled(&self) -> u64 {
        self.seen.iter().map(|seen| u64::from(seen.saturating_sub(1))).sum()
    }

    /// The good events that are missing in the output.
    pub fn lost(&self) -> Vec<u64> {
        let good = (0..self.events.count).filter(|number| self.events.defect(*number).is_none());
        good.filter(|number| self.seen[*number as usize] == 0).collect()
    }

    /// The events that appear for the first time after a later event of their key.
    pub fn disordered(&self) -> &[u64] {
        &self.disordered
    }

    /// The lines that are not a published good event.
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// Asserts that every good event is there, unchanged and in the order of its key, and that at most
    /// `doubles` lines are duplicates.
    pub fn assert_complete(&self, doubles: u64) {
        self.assert_nothing_lost();
        let doubled = self.doubled();
        assert!(doubled <= doubles, "{doubled} duplicate events, {doubles} allowed");
    }

    /// Asserts that every good event from number `first` on is there once, unchanged and in the order of its
    /// key, and that no earlier event is there.
    pub fn assert_complete_from(&self, first: u64) {
        let earlier = (0..first).filter(|number| self.events.defect(*number).is_none());
        assert_eq!(self.lost(), earlier.collect::<Vec<_>>(), "the missing events");
        assert_eq!((self.doubled(), self.disordered(), self.foreign()), (0, &[][..], &[][..]));
    }

    /// Asserts that every good event is there, unchanged and in the order of its key.
    pub fn assert_nothing_lost(&self) {
        let disordered = first(&self.disordered);
        self.assert_nothing_lost_in_any_order();
        assert!(self.disordered.is_empty(), "{} out of order: {disordered:?}", self.disordered.len());
    }

    /// Asserts that every good event is there, unchanged; for the output of several processes that share a
    /// stream.
    pub fn assert_nothing_lost_in_any_order(&self) {
        let lost = self.lost();
        assert!(self.foreign.is_empty(), "{} foreign lines: {:?}", self.foreign.len(), first(&self.foreign));
        assert!(lost.is_empty(), "lost {} events: {:?}", lost.len(), first(&lost));
    }
}

/// Splits an envelope into its id, key, partition (or `null`) and body.
pub fn open_envelope(line: &str) -> Option<(&str, &str, &str, &str)> {
    let (id, rest) = line.strip_prefix(r#"{"id":""#)?.split_once(r#"","key":""#)?;
    let (key, rest) = rest.split_once(r#"","partition":"#)?;
    let (partition, rest) = rest.split_once(',')?;
    let (_, body) = rest.split_once(r#""body":"#)?;
    Some((id, key, partition, body.strip_suffix('}')?))
}

/// Asserts that each bad event is in the dead letters exactly once, with its reason.
pub fn assert_dead_letters(events: Events, directory: &Path) {
    let mut lines = Vec::new();
    each_line(directory, |line| lines.push(line.to_owned()));
    assert_dead_letter_lines(events, lines);
}

/// Like [`assert_dead_letters`], for lines of dead letters that are stored elsewhere.
pub fn assert_dead_letter_lines(events: Events, lines: Vec<String>) {
    let mut found: HashMap<u64, Vec<String>> = HashMap::new();
    for line in lines {
        let letter: serde_json::Value = serde_json::from_str(&line).expect("a dead letter");
        let number = number_in(&line).unwrap_or_else(|| panic!("a dead letter of an unknown event: {line}"));
        let reason = letter["reason"].as_str().unwrap_or_default().to_owned();
        found.entry(number).or_default().push(reason);
    }
    let bad = (0..events.count).filter_map(|number| Some((number, vec![events.defect(number)?.to_owned()])));
    let expected: HashMap<u64, Vec<String>> = bad.collect();
    assert_eq!(found, expected, "event number → reasons of its dead letters");
}

/// The last lines of a log, with its path, for messages of failed tests.
pub fn tail_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(40)..].join("\n");
    format!("--- end of {}:\n{tail}", log.display())
}

fn first<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(5)]
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tally(events: Events, order: &[u64]) -> Tally {
        let mut tally = Tally::new(events);
        order.iter().for_each(|number| tally.add(&events.body(*number)));
        tally
    }

    #[test]
    fn lost_and_duplicate_events_are_counted() {
        let found = tally(Events::good(5), &[0, 1, 1, 3, 1, 4]);
        assert_eq!((found.distinct(), found.doubled(), found.lost()), (4, 2, vec![2]));
    }

    #[test]
    fn only_the_first_appearance_of_an_event_can_be_out_of_order() {
        let events = Events { keys: 2, ..Events::good(6) };
        assert!(tally(events, &[1, 0, 3, 5, 2, 4]).disordered().is_empty());
        assert!(tally(events, &[0, 2, 0, 1, 3, 2, 4, 5]).disordered().is_empty());
        assert_eq!(tally(events, &[0, 4, 1, 2, 3, 5]).disordered(), [2]);
    }

    #[test]
    fn lines_that_were_not_published_are_foreign() {
        let events = Events::good(20).with_bad(10);
        let mut found = tally(events, &[]);
        for foreign in [events.body(9), events.body(20), events.body(0) + " ", "{}".to_owned()] {
            found.add(&foreign);
        }
        assert_eq!((found.distinct(), found.foreign().len()), (0, 4));
        assert_eq!((events.good_count(), found.lost().len()), (18, 18));
    }

    #[test]
    fn a_repeated_message_id_is_distinguished_from_an_event_published_twice() {
        let events = Events::good(3);
        let envelope = |id: u32, key: u64, number: u64| {
            let (key, body) = (events.key(key), events.body(number));
            format!(r#"{{"id":"ID:{id}","key":"{key}","partition":null,"timestamp":1,"body":{body}}}"#)
        };
        let mut found = Tally::new(events);
        for (id, number) in [(1, 0), (2, 1), (3, 1), (2, 1)] {
            found.add_envelope(&envelope(id, number, number));
        }
        assert_eq!((found.repeated_ids(), found.doubled(), found.lost()), (1, 2, vec![2]));
        found.add_envelope(&envelope(9, 1, 2));
        found.add_envelope(&events.body(2));
        assert_eq!(
            (found.foreign().len(), found.lost()),
            (2, vec![2]),
            "a wrong key, and a line that is not an envelope"
        );
    }

    #[test]
    fn files_of_every_format_are_read_in_the_order_of_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut gzip =
            flate2::write::GzEncoder::new(File::create(path("b.jsonl.gz")).unwrap(), Default::default());
        gzip.write_all(b"3\n4\n").unwrap();
        gzip.finish().unwrap();
        std::fs::write(path("a.jsonl.zst"), zstd::encode_all(&b"1\n2\n"[..], 1).unwrap()).unwrap();
        std::fs::write(path("c.jsonl"), "5\n").unwrap();
        std::fs::write(path("d.jsonl.open"), "6\n{\"torn").unwrap();
        std::fs::write(path("lock"), "no output\n").unwrap();
        assert_eq!(json_lines(directory.path()), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn dead_letters_match_the_bad_events() {
        let events = Events::good(30).with_bad(10);
        let directory = tempfile::tempdir().unwrap();
        let mut file = File::create(directory.path().join("letters.jsonl")).unwrap();
        for (number, reason) in [(9, "key_missing"), (19, "key_not_an_md5"), (29, "not_an_event")] {
            let letter = serde_json::json!({ "reason": reason, "body": events.body(number) });
            writeln!(file, "{letter}").unwrap();
        }
        assert_dead_letters(events, directory.path());
    }
}
