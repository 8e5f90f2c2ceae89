//! Runs `dead-letters list`: counts the letters by day, reason and sink.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::filter::{FilterArgs, sink_name};
use super::output::{FoundLetter, LetterOutput, PlaceSummary, Replays, counted};
use crate::commands::Console;
use crate::dead_letter::StoredLetter;
use crate::display::{one_line, rfc3339};

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Write one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// The letters with the same day, reason and sink.
type GroupKey = (String, String, Option<String>);

/// A number of letters, and the times at which they were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    letters: u64,
    oldest: Timestamp,
    newest: Timestamp,
}

impl Tally {
    fn and(self, other: Self) -> Self {
        Self {
            letters: self.letters + other.letters,
            oldest: self.oldest.min(other.oldest),
            newest: self.newest.max(other.newest),
        }
    }
}

/// The groups that were counted, and how to show them.
pub(super) struct List {
    json: bool,
    /// The configuration file, for the command that comes next.
    config: Option<PathBuf>,
    groups: BTreeMap<GroupKey, Tally>,
}

impl List {
    pub(super) fn new(args: &ListArgs, config: Option<&Path>) -> Self {
        Self { json: args.json, config: config.map(Path::to_owned), groups: BTreeMap::new() }
    }

    fn add(&mut self, letter: StoredLetter) {
        let StoredLetter { reason, sink, last, .. } = letter;
        let group = (last.strftime("%Y-%m-%d").to_string(), reason, sink);
        let one = Tally { letters: 1, oldest: last, newest: last };
        self.groups.entry(group).and_modify(|tally| *tally = tally.and(one)).or_insert(one);
    }

    fn total(&self) -> Option<Tally> {
        self.groups.values().copied().reduce(Tally::and)
    }

    /// Returns the table, with a line for each group and the total.
    fn table(&self) -> String {
        let row = |day: &str, reason: &str, sink: &str, tally: &Tally| {
            let times = [tally.oldest, tally.newest].map(rfc3339);
            let [oldest, newest] = times;
            [
                day.to_owned(),
                one_line(reason).into(),
                one_line(sink).into(),
                tally.letters.to_string(),
                oldest,
                newest,
            ]
        };
        let header = ["DAY (UTC)", "REASON", "SINK", "LETTERS", "OLDEST", "NEWEST"].map(str::to_owned);
        let groups = self.groups.iter();
        let groups =
            groups.map(|((day, reason, sink), tally)| row(day, reason, sink_name(sink.as_deref()), tally));
        let total = self.total().map(|total| row("total", "", "", &total));
        let rows: Vec<_> = [header].into_iter().chain(groups).chain(total).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let [day, reason, sink, letters] = [0, 1, 2, 3].map(width);
        let mut table = String::new();
        for [a, b, c, d, e, f] in &rows {
            // Writing into a string can't fail. The last columns are equally wide.
            let _written = writeln!(table, "{a:day$}  {b:reason$}  {c:sink$}  {d:>letters$}  {e:24}  {f}");
        }
        table
    }

    /// Returns the command that shows the newest letters of the largest group.
    fn next(&self) -> Option<String> {
        let ((_, reason, sink), _) = self.groups.iter().max_by_key(|(_, tally)| tally.letters)?;
        let config = self.config.as_ref().map(|file| format!("-c {} ", quoted(&file.display().to_string())));
        let config = config.unwrap_or_default();
        let (reason, sink) = (quoted(reason), quoted(sink_name(sink.as_deref())));
        let show =
            format!("atdata-bridge {config}dead-letters show --newest --reason {reason} --sink {sink}");
        Some(one_line(&show).into_owned())
    }

    fn as_json(&self, found: &PlaceSummary) -> Result<String, serde_json::Error> {
        let groups = self.groups.iter().map(|((day, reason, sink), tally)| GroupLine {
            day,
            reason,
            sink: sink.as_deref(),
            tally: TallyLine::of(tally),
        });
        let total = self.total();
        serde_json::to_string_pretty(&ListLine {
            place: &found.place,
            letters: found.matching,
            oldest: total.map(|total| rfc3339(total.oldest)),
            newest: total.map(|total| rfc3339(total.newest)),
            groups: groups.collect(),
            replayed: found.replayed.iter().map(|(sink, replays)| (sink.as_str(), replays.letters)).collect(),
        })
    }
}

/// Returns the text as one word for a shell. It may come from a foreign record, so it must not become a command.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[derive(Serialize)]
struct ListLine<'a> {
    place: &'a str,
    letters: u64,
    oldest: Option<String>,
    newest: Option<String>,
    groups: Vec<GroupLine<'a>>,
    /// How many letters were replayed, by sink, whatever the filter.
    replayed: BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
struct GroupLine<'a> {
    day: &'a str,
    reason: &'a str,
    sink: Option<&'a str>,
    #[serde(flatten)]
    tally: TallyLine,
}

#[derive(Serialize)]
struct TallyLine {
    letters: u64,
    oldest: String,
    newest: String,
}

impl TallyLine {
    fn of(tally: &Tally) -> Self {
        Self { letters: tally.letters, oldest: rfc3339(tally.oldest), newest: rfc3339(tally.newest) }
    }
}

impl LetterOutput for List {
    fn take(&mut self, letter: FoundLetter, _: &mut dyn Write) -> io::Result<ControlFlow<()>> {
        self.add(letter.letter);
        Ok(ControlFlow::Continue(()))
    }

    fn end(&mut self, found: &PlaceSummary, console: &mut Console<'_>) -> io::Result<()> {
        if self.json {
            return writeln!(console.out, "{}", self.as_json(found)?);
        }
        writeln!(console.out, "{}", counted(found))?;
        let Some(next) = self.next() else { return Ok(()) };
        write!(console.out, "\n{}", self.table())?;
        for (sink, Replays { letters, newest }) in &found.replayed {
            let (sink, newest) = (one_line(sink), rfc3339(*newest));
            writeln!(console.out, "replayed to {sink}: {letters}, the last at {newest}")?;
        }
        console.note(&format!("\nnext: {next}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::commands::dead_letters::tests::letter;

    fn list() -> List {
        let args = ListArgs { json: false, filter: FilterArgs::default() };
        let mut list = List::new(&args, Some(Path::new("bridge.toml")));
        for (reason, sink, last) in [
            ("too_large", Some("kafka"), "2026-11-30T02:00:00Z"),
            ("key_missing", None, "2026-11-29T23:59:59.999Z"),
            ("too_large", Some("kafka"), "2026-11-30T01:00:00.5Z"),
            ("too_large", Some("nats"), "2026-11-30T03:00:00Z"),
        ] {
            list.add(letter(reason, sink, last));
        }
        list
    }

    #[test]
    fn the_table_has_a_line_for_each_group_and_the_total() {
        let expected = "\
DAY (UTC)   REASON       SINK   LETTERS  OLDEST                    NEWEST
2026-11-29  key_missing  -            1  2026-11-29T23:59:59.999Z  2026-11-29T23:59:59.999Z
2026-11-30  too_large    kafka        2  2026-11-30T01:00:00.500Z  2026-11-30T02:00:00.000Z
2026-11-30  too_large    nats         1  2026-11-30T03:00:00.000Z  2026-11-30T03:00:00.000Z
total                                 4  2026-11-29T23:59:59.999Z  2026-11-30T03:00:00.000Z
";
        assert_eq!(list().table(), expected);
        let next = "atdata-bridge -c bridge.toml dead-letters show --newest --reason too_large --sink kafka";
        assert_eq!(list().next().as_deref(), Some(next));
    }

    #[test]
    fn foreign_words_forge_no_line() {
        let mut list = list();
        list.add(letter("a\nb", Some("\u{1b}[31m"), "2026-11-30T02:00:00Z"));
        assert_eq!(list.table().lines().count(), 6, "{}", list.table());
        let table = list.table();
        assert!(table.contains(" a\\nb ") && table.contains(" \\u{1b}[31m "), "{table}");
    }

    #[test]
    fn foreign_words_become_no_command() {
        let args = ListArgs { json: false, filter: FilterArgs::default() };
        let mut list = List::new(&args, Some(Path::new("my bridge.toml")));
        list.add(letter("x'; rm -rf $HOME", Some(""), "2026-11-30T02:00:00Z"));
        let next = r"atdata-bridge -c 'my bridge.toml' dead-letters show --newest --reason 'x'\''; rm -rf $HOME' --sink ''";
        assert_eq!(list.next().as_deref(), Some(next));
    }

    #[test]
    fn json_says_the_same() {
        let found = PlaceSummary { letters: 9, matching: 4, ..PlaceSummary::new("the directory /letters") };
        let json: Value = serde_json::from_str(&list().as_json(&found).unwrap()).unwrap();
        assert_eq!(json["place"], "the directory /letters");
        assert_eq!((&json["letters"], &json["oldest"]), (&json!(4), &json!("2026-11-29T23:59:59.999Z")));
        let first = json!({
            "day": "2026-11-29", "reason": "key_missing", "sink": null, "letters": 1,
            "oldest": "2026-11-29T23:59:59.999Z", "newest": "2026-11-29T23:59:59.999Z",
        });
        assert_eq!((json["groups"].as_array().unwrap().len(), &json["groups"][0]), (3, &first));
    }

    #[test]
    fn without_letters_there_is_no_table() {
        let args = ListArgs { json: false, filter: FilterArgs::default() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for (letters, words) in
            [(0, "no dead letters in here\n"), (7, "none of 7 dead letters in here matches\n")]
        {
            let found = PlaceSummary { letters, ..PlaceSummary::new("here") };
            out.clear();
            let console = &mut Console::new(&mut out, &mut err);
            List::new(&args, None).end(&found, console).unwrap();
            assert_eq!((String::from_utf8_lossy(&out).as_ref(), err.len()), (words, 0));
        }
    }
}
