//! Writes rejected events as dead letters before they count as settled (I6).

use std::collections::BTreeMap;
use std::future::pending;
use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::pending_event::PendingEvent;
use super::{Boxed, SinkWorker};
use crate::dead_letter::DeadLetter;
use crate::display::one_line;
use crate::sink::{Rejection, SinkError};

/// The dead letters of one write, and the result of the write.
pub(super) type DeadLetterWritten = (Vec<DeadLetter>, Result<(), SinkError>);

/// The shortest time between two log lines about dead letters.
const TOLD_EVERY: Duration = Duration::from_secs(60);

impl SinkWorker {
    pub(super) fn reject(&mut self, pending: PendingEvent, rejection: Rejection) {
        let now = SystemTime::now();
        let first = pending.since.unwrap_or(now);
        let worker = Arc::clone(&self.parts.name);
        let sink = self.parts.limits.is_some().then(|| Arc::clone(&worker));
        let (event, attempts) = (pending.event, pending.attempts);
        let queue = Arc::clone(&self.parts.queue);
        self.rejected.push(DeadLetter { event, queue, worker, rejection, sink, attempts, first, last: now });
    }

    pub(super) fn write_dead_letters(&mut self) {
        let letters = take(&mut self.rejected);
        let store = Arc::clone(&self.parts.dead_letters);
        self.dead_letter_write = Some(Box::pin(async move {
            let outcome = store.write(&letters).await;
            (letters, outcome)
        }));
    }

    pub(super) fn on_dead_letters_written(
        &mut self,
        letters: Vec<DeadLetter>,
        outcome: Result<(), SinkError>,
    ) {
        self.dead_letter_write = None;
        match outcome {
            Ok(()) => {
                let mut recorder = self.parts.counters.durable_now();
                for letter in &letters {
                    let counters = &self.parts.counters;
                    counters.dead_lettered.add(letter.rejection.reason, 1);
                    counters.newest_dead_letters.set(letter.rejection.reason, letter.event.shown_id());
                    recorder.add(letter.event.times());
                    self.notice.add(letter);
                }
                drop(recorder);
                self.state.dead_letters_written(letters.iter().map(|letter| &letter.event));
                self.tell_of_dead_letters(Instant::now());
                self.ready();
            }
            Err(error) => {
                self.rejected.splice(..0, letters);
                self.report_error(&error);
            }
        }
    }

    /// Logs one line for the dead letters since the last such line, unless that line is too recent.
    pub(super) fn tell_of_dead_letters(&mut self, now: Instant) {
        if let Some(news) = self.notice.due(now) {
            tracing::warn!(sink = &*self.parts.name, "{news}, in {}", self.parts.dead_letters.place());
        }
    }

    /// Logs the remaining dead letters when the worker ends, without waiting.
    pub(super) fn tell_the_last_dead_letters(&mut self) {
        self.notice.next = None;
        self.tell_of_dead_letters(Instant::now());
    }
}

/// Collects the dead letters that the log does not mention yet.
#[derive(Debug, Default)]
pub(super) struct Notice {
    counts: BTreeMap<&'static str, u64>,
    last: String,
    next: Option<Instant>,
}

impl Notice {
    fn add(&mut self, letter: &DeadLetter) {
        let count = self.counts.entry(letter.rejection.reason).or_default();
        *count += 1;
        self.last = format!("{}: {}", letter.event.message_id(), letter.rejection.detail);
    }

    /// Returns the log text when it is due, such as
    /// "3 events have become dead letters (key_missing 1, too_large 2); the last: ID:…: …".
    fn due(&mut self, now: Instant) -> Option<String> {
        if self.counts.is_empty() || self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + TOLD_EVERY);
        let counts = take(&mut self.counts);
        let total: u64 = counts.values().sum();
        let reasons: Vec<_> = counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let events =
            if total == 1 { "1 event has become a dead letter" } else { "events have become dead letters" };
        let number = if total == 1 { String::new() } else { format!("{total} ") };
        let (reasons, last) = (reasons.join(", "), take(&mut self.last));
        Some(format!("{number}{events} ({reasons}); the last: {}", one_line(&last)))
    }
}

/// Waits for the result of the current dead-letter write; never returns if there is none. Cancel-safe.
pub(super) async fn pending_write(write: &mut Option<Boxed<DeadLetterWritten>>) -> DeadLetterWritten {
    match write {
        Some(write) => write.await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_told_at_once_and_then_once_a_minute() {
        let mut notice = Notice::default();
        let start = Instant::now();
        assert_eq!(notice.due(start), None);
        let add = |notice: &mut Notice, reason, count| {
            notice.counts.insert(reason, count);
            notice.last = "ID:1\n: too long".to_owned();
        };
        add(&mut notice, "too_large", 1);
        let said = "1 event has become a dead letter (too_large 1); the last: ID:1\\n: too long";
        assert_eq!(notice.due(start).as_deref(), Some(said));
        add(&mut notice, "too_large", 2);
        add(&mut notice, "key_missing", 1);
        assert_eq!(notice.due(start + TOLD_EVERY / 2), None);
        let said =
            "3 events have become dead letters (key_missing 1, too_large 2); the last: ID:1\\n: too long";
        assert_eq!(notice.due(start + TOLD_EVERY).as_deref(), Some(said));
        assert_eq!(notice.due(start + TOLD_EVERY * 3), None);
    }
}
