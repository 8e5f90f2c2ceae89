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

/// A sink that letters are sent to, and the queue that it gets its events from. Several bridges with sinks of the
/// same name may share the place of the letters, and copies of an event have one message id in all queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplayDestination {
    pub(super) queue: String,
    pub(super) sink: String,
}

impl ReplayDestination {
    /// Returns whether the letter is wanted here: the letters of this sink, and those without a usable key, which are
    /// owed to every sink of their queue. Others come here only if the arguments name them.
    pub(super) fn wants(&self, args: &ReplayArgs, letter: &StoredLetter) -> bool {
        let filter = &args.filter;
        let is_named = |from: &String| args.to.is_some() && filter.sink.as_ref() == Some(from);
        let is_of_sink = letter.sink.as_ref().is_none_or(|from| *from == self.sink || is_named(from));
        let is_of_queue = letter
            .queue
            .as_ref()
            .is_none_or(|from| *from == self.queue || filter.queue.as_ref() == Some(from));
        is_of_sink && is_of_queue && filter.matches(letter)
    }
}

/// Whether an event must be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendDecision {
    First,
    /// An earlier replay has sent it.
    ReplayedBefore,
    /// Another letter of this replay is about the same event.
    Repeated,
}

/// The events that were replayed, before and now: 16 bytes for each event and sink.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    before: HashSet<Key>,
    now: HashSet<Key>,
}

impl Replayed {
    pub(super) fn add(&mut self, mark: &ReplayMark) {
        self.before.extend(mark.message_ids.iter().map(|id| digest(&mark.queue, &mark.sink, id)));
    }

    /// Notes the event, and returns whether this is the first time.
    pub(super) fn take(&mut self, to: &ReplayDestination, message_id: &str) -> SendDecision {
        let id = digest(&to.queue, &to.sink, message_id);
        match (self.before.contains(&id), self.now.insert(id)) {
            (true, _) => SendDecision::ReplayedBefore,
            (false, true) => SendDecision::First,
            (false, false) => SendDecision::Repeated,
        }
    }
}

/// The names hold no zero byte.
fn digest(queue: &str, sink: &str, message_id: &str) -> Key {
    Key::digest([queue, sink, message_id].join("\0").as_bytes())
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
    use crate::event::{Event, EventError};
    use crate::key::Keying;

    fn to(queue: &str, sink: &str) -> ReplayDestination {
        ReplayDestination { queue: queue.to_owned(), sink: sink.to_owned() }
    }

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
            ["kafka", "nats"].map(|sink| to("main.RTO.acme", sink).wants(args, &letter))
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
    fn letters_of_other_queues_stay_unless_they_are_named() {
        let mut args = ReplayArgs::default();
        let letter = letter("key_missing", None, TIME);
        let wants = |args: &ReplayArgs, queue: &str| to(queue, "kafka").wants(args, &letter);
        assert!(wants(&args, "main.RTO.acme") && !wants(&args, "second.RTO.acme"));
        args.filter.queue = Some("main.RTO.acme".to_owned());
        assert!(wants(&args, "second.RTO.acme"));
        let old = StoredLetter { queue: None, ..letter.clone() };
        assert!(
            to("second.RTO.acme", "kafka").wants(&ReplayArgs::default(), &old),
            "it does not tell its queue"
        );
    }

    #[test]
    fn an_event_is_replayed_once_into_each_sink_of_each_queue() {
        let mut replayed = Replayed::default();
        let message_ids = ["ID:1", "ID:2"].map(str::to_owned).to_vec();
        let (queue, sink) = ("a".to_owned(), "kafka".to_owned());
        replayed.add(&ReplayMark { queue, sink, time: TIME.parse().unwrap(), message_ids });
        let mut take = |queue, sink, id| replayed.take(&to(queue, sink), id);
        assert_eq!(take("a", "kafka", "ID:1"), SendDecision::ReplayedBefore);
        assert_eq!(take("a", "kafka", "ID:3"), SendDecision::First);
        assert_eq!(take("a", "kafka", "ID:3"), SendDecision::Repeated);
        assert_eq!(take("a", "nats", "ID:1"), SendDecision::First);
        assert_eq!(take("b", "kafka", "ID:1"), SendDecision::First, "another queue has a copy of its own");
    }

    #[test]
    fn a_body_that_no_source_could_read_is_refused_again() {
        let keying = Keying::new(vec![String::new()], true);
        let budget = Budget::new(1000);
        let defect = |reason: &str, detail: &str| {
            let letter = StoredLetter { detail: detail.to_owned(), ..letter(reason, None, TIME) };
            Event::new(message(letter, &budget), &keying).defect
        };
        let unreadable = EventError::Body(UnreadableBodyError("it is a map".into()));
        assert_eq!(defect("unreadable_body", &unreadable.to_string()), Some(unreadable.clone()));
        assert_eq!(defect("unreadable_body", "it is a map"), Some(unreadable));
        assert_eq!(defect("key_missing", "no key at /md5"), None);
        assert_eq!(budget.used(), 0, "all bodies are gone");
    }
}
