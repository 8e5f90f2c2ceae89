//! Rejected events on their way into the dead letters, within limits (I6).

use std::future::pending;
use std::mem::take;
use std::sync::Arc;
use std::time::SystemTime;

use super::core::Pending;
use super::{Boxed, Lane};
use crate::pump::dead_letters::DeadLetter;
use crate::sink::{Rejection, SinkError};
use crate::telemetry::states::State;

/// The letters that were written, and how that went.
pub(super) type Buried = (Vec<DeadLetter>, Result<(), SinkError>);

impl Lane {
    pub(super) fn reject(&mut self, pending: Pending, rejection: Rejection) {
        if let Some(limits) = &mut self.limits
            && let Err(exceeded) = limits.dead()
        {
            self.reporter.report(State::Held(exceeded.to_string()));
            self.exceeded.get_or_insert(exceeded);
        }
        let now = SystemTime::now();
        let first = pending.since.unwrap_or(now);
        let sink = self.limits.is_some().then(|| Arc::clone(&self.name));
        let (event, attempts) = (pending.event, pending.attempts);
        tracing::debug!(lane = &*self.name, message_id = %event.message_id(), reason = rejection.reason, "dead letter");
        self.rejected.push(DeadLetter { event, rejection, sink, attempts, first, last: now });
    }

    pub(super) fn bury(&mut self) {
        if self.exceeded.is_some() {
            return;
        }
        let letters = take(&mut self.rejected);
        let store = Arc::clone(&self.dead_letters);
        self.burial = Some(Box::pin(async move {
            let outcome = store.write(&letters).await;
            (letters, outcome)
        }));
    }

    pub(super) fn on_buried(&mut self, letters: Vec<DeadLetter>, outcome: Result<(), SinkError>) {
        self.burial = None;
        match outcome {
            Ok(()) => {
                let mut settling = self.counters.settling.ending_now();
                for letter in &letters {
                    self.counters.dead_lettered.add(letter.rejection.reason, 1);
                    settling.add(letter.event.received());
                }
                drop(settling);
                self.core.buried(letters.iter().map(|letter| &letter.event));
                self.ready();
            }
            Err(error) => {
                self.rejected.splice(..0, letters);
                self.trouble(&error);
            }
        }
    }
}

/// How a burial has ended; for ever none, where there is none. Cancel-safe.
pub(super) async fn burial(burial: &mut Option<Boxed<Buried>>) -> Buried {
    match burial {
        Some(burial) => burial.await,
        None => pending().await,
    }
}
