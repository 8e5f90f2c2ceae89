//! Runs `dead-letters show`: shows each letter for people.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::ops::ControlFlow;

use clap::Args;
use jiff::Timestamp;

use super::filter::FilterArgs;
use super::output::{FoundLetter, LetterOutput, PlaceSummary, counted};
use crate::commands::Console;
use crate::dead_letter::StoredLetter;
use crate::display::{excerpt, one_line, rfc3339};
use crate::sink::Position;

/// The most characters of a text body that are shown.
const BODY_CHARACTERS: usize = 4096;
/// The most bytes of another body that are shown, and how many in a line.
const BODY_BYTES: usize = 512;
const LINE_BYTES: usize = 16;
/// The most letters that --newest keeps until all were read: each takes memory.
const MOST_NEWEST: u64 = 1000;

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// How many letters at most; with --newest not more than 1000
    #[arg(long, value_name = "N", default_value = "10")]
    pub limit: NonZeroU64,
    /// Show the letters that were refused last, the newest first; reads all of them
    #[arg(long)]
    pub newest: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
}

impl ShowArgs {
    /// Checks what no single argument shows.
    ///
    /// # Errors
    /// The mistake, for people.
    pub fn check(&self) -> Result<(), String> {
        match self.newest && self.limit.get() > MOST_NEWEST {
            true => Err(format!("--limit {} is too many for --newest: at most {MOST_NEWEST}", self.limit)),
            false => self.filter.check(),
        }
    }
}

/// Shows letters as they come, or the newest ones at the end.
pub(super) struct Show {
    limit: u64,
    shown: u64,
    /// The position of the first letter behind the limit.
    next: Option<Position>,
    newest: Option<NewestLetters>,
}

/// The newest letters, the oldest of them on top: the time, the reverse of the running number, and the text.
#[derive(Default)]
struct NewestLetters(BinaryHeap<Reverse<(Timestamp, u64, String)>>);

impl Show {
    pub(super) fn new(args: &ShowArgs) -> Self {
        Self {
            limit: args.limit.get(),
            shown: 0,
            next: None,
            newest: args.newest.then(NewestLetters::default),
        }
    }
}

impl LetterOutput for Show {
    fn take(&mut self, letter: FoundLetter, out: &mut dyn Write) -> io::Result<ControlFlow<()>> {
        if let Some(NewestLetters(kept)) = &mut self.newest {
            self.shown += 1;
            let is_newer = kept.peek().is_none_or(|Reverse((oldest, ..))| *oldest <= letter.letter.last);
            if is_newer || (kept.len() as u64) < self.limit {
                kept.push(Reverse((letter.letter.last, self.shown, shown(&letter))));
            }
            if kept.len() as u64 > self.limit {
                kept.pop();
            }
            return Ok(ControlFlow::Continue(()));
        }
        if self.shown == self.limit {
            self.next = Some(letter.record.position);
            return Ok(ControlFlow::Break(()));
        }
        let line_before = if self.shown == 0 { "" } else { "\n" };
        self.shown += 1;
        write!(out, "{line_before}{}", shown(&letter))?;
        if self.shown == self.limit {
            // To find out whether there are more may take a while.
            out.flush()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn end(&mut self, found: &PlaceSummary, console: &mut Console<'_>) -> io::Result<()> {
        if let Some(NewestLetters(kept)) = self.newest.take() {
            let texts: Vec<String> =
                kept.into_sorted_vec().into_iter().map(|Reverse((.., text))| text).collect();
            write!(console.out, "{}", texts.join("\n"))?;
        }
        match &self.next {
            Some(next) => {
                console.note(&format!("\nmore letters follow: add --from {}", one_line(&next.to_string())))
            }
            None => console.note(&format!("{}{}", if self.shown == 0 { "" } else { "\n" }, counted(found))),
        }
    }
}

/// Returns a letter as lines. Nothing in it can forge a line or reach the terminal as a control character.
fn shown(found: &FoundLetter) -> String {
    let (letter, position) = (&found.letter, &found.record.position);
    let StoredLetter { reason, detail, sink, attempts, first, last, message_id, .. } = letter;
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        // Writing into a string can't fail.
        let _written = writeln!(text, "{name:12} {}", one_line(value));
    };
    field("position", &format!("{position}  ({})", position.form()));
    field("refused", &rfc3339(*last));
    field("first tried", &rfc3339(*first));
    field("attempts", &attempts.to_string());
    field("reason", reason);
    field("detail", detail);
    field("queue", letter.queue.as_deref().unwrap_or("-"));
    field("sink", sink.as_deref().unwrap_or("-  (no sink got it)"));
    field("message id", message_id);
    field("published", &published(letter.timestamp));
    field("redelivered", if letter.redelivered { "yes" } else { "no" });
    field("key", &letter.key.map_or_else(|| "-".to_owned(), |key| key.to_string()));
    field("headers", if letter.headers.is_empty() { "-" } else { "" });
    for (name, value) in &letter.headers {
        let _written = writeln!(text, "  {}: {}", one_line(name), one_line(value));
    }
    let length = letter.body.len();
    match std::str::from_utf8(&letter.body) {
        Ok(body) => {
            let _written = writeln!(text, "body         {length} bytes of text");
            append_text(&mut text, body);
        }
        Err(_) => {
            let _written = writeln!(text, "body         {length} bytes, not text");
            append_bytes(&mut text, &letter.body);
        }
    }
    text.lines().fold(String::new(), |lines, line| lines + line.trim_end() + "\n")
}

fn published(millis: Option<i64>) -> String {
    // 0 means that the producer set none.
    let Some(millis) = millis.filter(|millis| *millis != 0) else { return "-".to_owned() };
    Timestamp::from_millisecond(millis).map_or_else(|_| format!("{millis} ms since 1970"), rfc3339)
}

/// Appends a body line by line.
fn append_text(text: &mut String, body: &str) {
    let mut left = BODY_CHARACTERS;
    for line in body.lines() {
        if left == 0 {
            break;
        }
        let _written = writeln!(text, "  {}", excerpt(line, left));
        left = left.saturating_sub(line.chars().count() + 1);
    }
    if body.chars().count() > BODY_CHARACTERS {
        text.push_str("  … `dead-letters export` has all of it\n");
    }
}

/// Appends a body as bytes in hex and as ASCII.
fn append_bytes(text: &mut String, body: &[u8]) {
    for (number, bytes) in body.chunks(LINE_BYTES).take(BODY_BYTES / LINE_BYTES).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let is_printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        let ascii = bytes.iter().map(|byte| if is_printable(byte) { char::from(*byte) } else { '.' });
        let ascii: String = ascii.collect();
        let width = 3 * LINE_BYTES - 1;
        let _written = writeln!(text, "  {:08x}  {:width$}  |{ascii}|", number * LINE_BYTES, hex.join(" "));
    }
    if body.len() > BODY_BYTES {
        text.push_str("  … `dead-letters export` has all of it, as base64\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::dead_letters::tests::{found, letter};

    fn letter_of(body: &[u8]) -> StoredLetter {
        StoredLetter { body: body.to_vec(), ..letter("too_large", Some("kafka"), "2026-11-30T02:00:00Z") }
    }

    /// Gives the letters to `show` with these arguments; returns standard output and standard error.
    fn show(limit: u64, newest: bool, letters: &[StoredLetter]) -> (String, String) {
        let limit = NonZeroU64::new(limit).unwrap();
        let mut show = Show::new(&ShowArgs { limit, newest, filter: FilterArgs::default() });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut taken = 0;
        for (number, letter) in (1..).zip(letters) {
            taken = number;
            if show.take(found(number, letter.clone()), &mut out).unwrap().is_break() {
                break;
            }
        }
        let counts = PlaceSummary { letters: taken, matching: taken, ..PlaceSummary::new("here") };
        show.end(&counts, &mut Console::new(&mut out, &mut err)).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_letter_is_shown_with_everything() {
        let expected = "\
position     17  (sequence)
refused      2026-11-30T02:00:00.000Z
first tried  2026-11-30T01:59:00.000Z
attempts     2
reason       too_large
detail       3 MiB is too much
queue        main.RTO.acme
sink         kafka
message id   ID:7
published    2023-11-14T22:13:20.000Z
redelivered  no
key          0123456789abcdef0123456789abcdef
headers
  a: 1
  a: x\\ny
body         9 bytes of text
  {\"a\":
  1}
";
        assert_eq!(shown(&found(17, letter_of(b"{\"a\":\n1}\n"))), expected);
        let keyless =
            StoredLetter { key: None, sink: None, headers: vec![], timestamp: None, ..letter_of(b"") };
        let text = shown(&found(17, keyless));
        for line in [
            "sink         -  (no sink got it)",
            "key          -",
            "headers      -",
            "published    -",
            "body         0 bytes of text",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
        }
    }

    #[test]
    fn nothing_in_a_letter_reaches_the_terminal_as_a_command() {
        let evil = "\u{1b}[2J\u{202e}\r\u{7f}";
        let letter = StoredLetter {
            detail: evil.to_owned(),
            message_id: evil.to_owned(),
            headers: vec![(evil.to_owned(), evil.to_owned())],
            ..letter_of(format!("{evil}\nnext").as_bytes())
        };
        let text = shown(&found(1, letter));
        assert!(!text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
        assert_eq!(text.matches("\\u{1b}[2J").count(), 5, "{text}");
    }

    #[test]
    fn a_body_that_is_no_text_is_a_hex_dump() {
        let text = shown(&found(1, letter_of(b"\xffabc\x00 0123456789ABCDEF")));
        let dump = "\
body         22 bytes, not text
  00000000  ff 61 62 63 00 20 30 31 32 33 34 35 36 37 38 39  |.abc. 0123456789|
  00000010  41 42 43 44 45 46                                |ABCDEF|
";
        assert!(text.ends_with(dump), "{text}");
    }

    #[test]
    fn long_bodies_are_cut_and_say_so() {
        for (body, least) in
            [(vec![b'x'; 1 << 20], 1), ("y\n".repeat(1 << 20).into_bytes(), 2000), (vec![0xff; 1 << 20], 32)]
        {
            let text = shown(&found(1, letter_of(&body)));
            assert!(text.len() < 20_000 && text.lines().count() > least, "{}", text.len());
            assert!(text.contains("1048576 bytes") || text.contains("2097152 bytes"), "{text}");
            assert!(text.contains("  … `dead-letters export` has all of it"), "{text}");
        }
    }

    fn with_reason(reason: &str, last: &str) -> StoredLetter {
        letter(reason, None, last)
    }

    fn reasons(out: &str) -> Vec<&str> {
        out.lines().filter_map(|line| line.strip_prefix("reason       ")).collect()
    }

    #[test]
    fn behind_the_limit_the_next_position_is_told() {
        let letters = ["a", "b", "c"].map(|reason| with_reason(reason, "2026-11-30T02:00:00Z"));
        let (out, err) = show(2, false, &letters);
        assert_eq!((reasons(&out), err.as_str()), (vec!["a", "b"], "\nmore letters follow: add --from 3\n"));
        let (out, err) = show(3, false, &letters);
        assert_eq!((reasons(&out), err.as_str()), (vec!["a", "b", "c"], "\n3 dead letters in here\n"));
        assert_eq!(show(3, false, &[]), (String::new(), "no dead letters in here\n".to_owned()));
    }

    #[test]
    fn the_newest_come_first_whatever_their_place() {
        let letters = [
            with_reason("b", "2026-11-30T03:00:00Z"),
            with_reason("d", "2026-11-30T01:00:00Z"),
            with_reason("a", "2026-11-30T04:00:00Z"),
            with_reason("c", "2026-11-30T02:00:00Z"),
        ];
        let (out, err) = show(3, true, &letters);
        assert_eq!((reasons(&out), err.as_str()), (vec!["a", "b", "c"], "\n4 dead letters in here\n"));
        assert_eq!(reasons(&show(9, true, &letters).0), ["a", "b", "c", "d"]);
    }
}
