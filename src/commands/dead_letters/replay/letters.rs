//! Decides which letters a replay sends to a sink, and makes messages of them.

use std::collections::HashSet;

use bytes::Bytes;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::super::filter::FilterArgs;
use crate::budget::Budget;
use crate::dead_letter::{ReplayMark, StoredLetter};
use crate::event::{Headers, Message, UnreadableBodyError};
use crate::key::Key;

#[derive(Clone, Debug, Default, Args)]
pub struct ReplayArgs {
    /// Send nothing: count what would be sent, and what has no usable key with the present configuration
    #[arg(long)]
    pub dry_run: bool,
    /// Send to this sink only. Without it each letter goes to the sink that refused it, and an event without a usable
    /// key to all sinks. With --sink too, letters of that sink go to this one
    #[arg(long, value_name = "SINK", value_parser = NonEmptyStringValueParser::new())]
    pub to: Option<String>,
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// The reason of letters whose body no source can read, and how its detail begins.
const UNREADABLE: (&str, &str) = ("unreadable_body", "the body can't be read: ");

/// The letters that were replayed before: 16 bytes for each letter and sink.
#[derive(Debug, Default)]
pub(super) struct Replayed(HashSet<Key>);

impl Replayed {
    pub(super) fn add(&mut self, mark: &ReplayMark) {
        self.0.extend(mark.message_ids.iter().map(|id| digest(id, &mark.sink)));
    }

    pub(super) fn holds(&self, message_id: &str, sink: &str) -> bool {
        self.0.contains(&digest(message_id, sink))
    }

    /// Returns whether the letter was missing. The same event may have several letters of one sink.
    pub(super) fn insert(&mut self, message_id: &str, sink: &str) -> bool {
        self.0.insert(digest(message_id, sink))
    }
}

/// A sink's name holds no zero byte.
fn digest(message_id: &str, sink: &str) -> Key {
    Key::digest(&[sink.as_bytes(), b"\0", message_id.as_bytes()].concat())
}

/// Returns whether the letter is wanted in this sink: its own letters, and those without a usable key, which are
/// owed to every sink. Letters of another sink go there only if both are named.
pub(super) fn is_owed(args: &ReplayArgs, letter: &StoredLetter, sink: &str) -> bool {
    let is_named = |from: &String| args.to.is_some() && args.filter.sink.as_ref() == Some(from);
    let is_of = letter.sink.as_ref().is_none_or(|from| from == sink || is_named(from));
    is_of && args.filter.matches(letter)
}

/// Makes the message that the broker delivered. Its mark of an earlier delivery is left out: only a replay of the
/// letter can have stored it, and for that the sink is asked anyway.
pub(super) fn message(letter: StoredLetter, budget: &Budget) -> Message {
    let (reason, beginning) = UNREADABLE;
    let unreadable = (letter.reason == reason).then(|| {
        let detail = letter.detail.strip_prefix(beginning).unwrap_or(&letter.detail);
        UnreadableBodyError(detail.into())
    });
    Message {
        id: Bytes::from(letter.message_id),
        body: budget.freeze(letter.body),
        timestamp: letter.timestamp,
        redelivered: false,
        headers: Headers::empty(),
        unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::letter;
    use super::*;
    use crate::event::{Defect, Event};
    use crate::key::Keying;

    const TIME: &str = "2026-11-30T02:00:00Z";

    #[test]
    fn each_letter_goes_to_the_sink_that_refused_it_and_one_without_a_key_to_every_sink() {
        let args = |to: Option<&str>, sink: Option<&str>| {
            let mut args = ReplayArgs { to: to.map(str::to_owned), ..ReplayArgs::default() };
            args.filter.sink = sink.map(str::to_owned);
            args
        };
        let owed = |args: &ReplayArgs, from: Option<&str>| {
            let letter = letter("too_large", from, TIME);
            ["kafka", "nats"].map(|sink| is_owed(args, &letter, sink))
        };
        let all = args(None, None);
        assert_eq!(owed(&all, Some("kafka")), [true, false]);
        assert_eq!(owed(&all, None), [true, true]);
        assert_eq!(owed(&all, Some("old")), [false, false]);
        assert_eq!(owed(&args(Some("nats"), None), Some("kafka")), [true, false]);
        assert_eq!(owed(&args(Some("nats"), Some("old")), Some("old")), [true, true], "both are named");
        assert_eq!(owed(&args(None, Some("nats")), None), [false, false], "the filter comes first");
        assert_eq!(owed(&args(None, Some("-")), None), [true, true]);
    }

    #[test]
    fn a_letter_is_replayed_once_into_each_sink() {
        let mut replayed = Replayed::default();
        let message_ids = ["ID:1", "ID:2"].map(str::to_owned).to_vec();
        replayed.add(&ReplayMark { sink: "kafka".to_owned(), time: TIME.parse().unwrap(), message_ids });
        let holds = |id, sink| replayed.holds(id, sink);
        assert_eq!(
            [holds("ID:1", "kafka"), holds("ID:2", "kafka"), holds("ID:3", "kafka")],
            [true, true, false]
        );
        assert!(!holds("ID:1", "nats") && !holds("kafka", "ID:1"));
        assert!(replayed.insert("ID:3", "kafka") && !replayed.insert("ID:3", "kafka"));
    }

    #[test]
    fn a_body_that_no_source_could_read_is_refused_again() {
        let keying = Keying::new(vec![String::new()], true);
        let budget = Budget::new(1000);
        let defect = |reason: &str, detail: &str| {
            let letter = StoredLetter { detail: detail.to_owned(), ..letter(reason, None, TIME) };
            Event::new(message(letter, &budget), &keying).defect
        };
        let unreadable = Defect::Body(UnreadableBodyError("it is a map".into()));
        assert_eq!(defect("unreadable_body", &unreadable.to_string()), Some(unreadable.clone()));
        assert_eq!(defect("unreadable_body", "it is a map"), Some(unreadable));
        assert_eq!(defect("key_missing", "no key at /md5"), None);
        assert_eq!(budget.used(), 0, "all bodies are gone");
    }
}
