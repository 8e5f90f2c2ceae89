//! Asks the worker's sink which events it holds already, before the first delivery that may be one of them.
//! Shows a question that takes long, because nothing moves until its answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::parts::{Claim, Claiming, SinkIo};
use super::{ContractError, SinkWorker};
use crate::telemetry::status::Status;

/// The shortest time between two questions what the sink holds. One answer then serves all events that come
/// in the meantime.
const CLAIM_EVERY: Duration = Duration::from_millis(250);

impl SinkWorker {
    /// Opens the sink again if its connection has taken the queue over in an earlier session, since another bridge
    /// may have done that in the meantime.
    pub(super) fn renew(&mut self) {
        if !self.is_outlived() || self.state.in_flight() > 0 {
            return;
        }
        self.sink_io = match std::mem::replace(&mut self.sink_io, SinkIo::Moving) {
            SinkIo::Open { sink, .. } => SinkIo::Closed(sink),
            other => other,
        };
        self.state.connection_lost();
        self.open();
    }

    /// Gives the session up if the connection that has ended had taken the queue over in it. A new connection would
    /// take it over once more, from another bridge if the broker has given the queue away meanwhile.
    pub(super) fn give_up_session(&mut self) {
        if self.claims.taken_over.is_some() && self.claims.taken_over == self.state.session() {
            self.state.fence();
        }
    }

    /// Returns whether what the current connection reports is about an earlier session.
    pub(super) fn is_outlived(&self) -> bool {
        self.claims.taken_over.is_some() && self.claims.taken_over != self.state.session()
    }

    /// Notes that the sink has a new connection.
    pub(super) fn connected(&mut self) {
        self.claims.taken_over = None;
    }

    /// Asks what the sink holds.
    pub(super) fn claim(&mut self) {
        self.state.claim_begins();
        self.claims.shown = false;
        self.claims.asked_in = self.state.session();
        let at_least = self.parts.memory;
        let not_before = self.claims.answered.map(|answered| answered + CLAIM_EVERY);
        self.sink_io = match std::mem::replace(&mut self.sink_io, SinkIo::Moving) {
            SinkIo::Open { mut sink, submit, verdicts } => {
                let answer = Box::pin(async move {
                    if let Some(not_before) = not_before {
                        sleep_until(not_before).await;
                    }
                    let asked = std::time::Instant::now();
                    let held = sink.claim(at_least).await;
                    Claim { sink, submit, verdicts, asked, held }
                });
                SinkIo::Claiming(Claiming { answer, began: Instant::now() })
            }
            other => other,
        };
    }

    pub(super) fn on_claimed(&mut self, claim: Claim) -> Result<(), ContractError> {
        let Claim { sink, submit, verdicts, asked, held } = claim;
        if matches!(held, Ok(None)) && sink.takes_over() {
            let detail = "it takes the queue over, and does not tell what it holds".to_owned();
            return Err(ContractError { sink: Arc::clone(&self.parts.name), detail });
        }
        if held.is_ok() && sink.takes_over() {
            self.claims.taken_over = self.claims.asked_in;
        }
        self.sink_io = SinkIo::Open { sink, submit, verdicts };
        let counters = &self.parts.counters;
        self.claims.failed = held.is_err();
        match held {
            Ok(held) => {
                if let Some(held) = &held {
                    counters.claiming.observe(asked.elapsed(), 1);
                    counters.claimed.set(held.ids.len() as u64);
                }
                self.claims.answered = Some(Instant::now());
                self.state.claimed(asked, held.map(|held| held.ids));
                if self.wait_until.is_none() && !self.degraded {
                    self.ready();
                }
            }
            Err(error) => {
                counters.claims_failed.add(1);
                self.broken(&error);
            }
        }
        Ok(())
    }

    /// Shows that the claim takes long, unless the part shows an error, which says more.
    pub(super) fn show_claim(&mut self) {
        let shows_error =
            self.claims.failed || self.degraded || self.hold.is_some() || self.wait_until.is_some();
        if self.claims.shown || shows_error {
            return;
        }
        self.claims.shown = true;
        self.is_ready = false;
        let doing =
            "finding out which of the events that wait it holds already, so that none is written twice";
        // The log has no line for a part that starts.
        tracing::info!(sink = &*self.parts.name, "{doing}");
        self.parts.reporter.report(Status::Starting(doing.to_owned()));
    }
}
