//! Writes rejected events as dead letters before they count as settled (I6).

use std::mem::take;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::SinkWorker;
use super::pending_event::PendingEvent;
use crate::dead_letter::DeadLetter;
use crate::sink::{Rejection, SinkError};

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
