//! Passes verdicts from the writer's thread to the sink worker, and counts the deliveries in flight.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::journal::CommitError;
use crate::sink::{DeliveryId, Rejection, SinkError, Verdict};

/// The verdicts that wait for the worker. At most one for each submitted delivery, so the memory is limited.
#[derive(Default)]
pub(super) struct FileInFlight {
    state: Mutex<FileInFlightState>,
    changed: Notify,
}

#[derive(Default)]
struct FileInFlightState {
    verdicts: Vec<(DeliveryId, Verdict)>,
    /// How many accepted deliveries have a verdict that the worker has not taken, or no verdict yet.
    in_flight: usize,
    broken: Option<SinkError>,
}

impl FileInFlight {
    /// Notes that `n` more deliveries were handed to the writer.
    pub(super) fn accepted(&self, n: usize) {
        self.lock().in_flight += n;
    }

    /// Returns how many deliveries have no verdict that the worker has taken.
    pub(super) fn count(&self) -> usize {
        self.lock().in_flight
    }

    pub(super) fn broken(&self) -> Option<SinkError> {
        self.lock().broken.clone()
    }

    /// Accepts one more delivery and rejects it.
    pub(super) fn refuse(&self, id: DeliveryId, rejection: Rejection) {
        let mut state = self.lock();
        state.in_flight += 1;
        state.verdicts.push((id, Verdict::Reject(rejection)));
        drop(state);
        self.changed.notify_one();
    }

    /// Adds the verdicts on a group. Adds none if the connection is broken, because the error then stands for
    /// all deliveries.
    pub(super) fn settle(&self, tickets: &mut Vec<DeliveryId>, outcome: Result<(), &CommitError>) {
        let mut state = self.lock();
        match outcome {
            Ok(()) => state.verdicts.extend(tickets.drain(..).map(|id| (id, Verdict::Durable))),
            Err(failure) if failure.is_broken => state.broken = Some((&failure.error).into()),
            Err(failure) => {
                let error = SinkError::from(&failure.error);
                let verdicts = tickets.drain(..).map(|id| (id, Verdict::Retry(error.clone())));
                state.verdicts.extend(verdicts);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Returns when there is a verdict or the connection is broken. Cancel-safe.
    pub(super) async fn wait(&self) {
        loop {
            {
                let state = self.lock();
                if !state.verdicts.is_empty() || state.broken.is_some() {
                    return;
                }
            }
            self.changed.notified().await;
        }
    }

    pub(super) fn take(&self) -> Vec<(DeliveryId, Verdict)> {
        let mut state = self.lock();
        state.in_flight = state.in_flight.saturating_sub(state.verdicts.len());
        std::mem::take(&mut state.verdicts)
    }

    fn lock(&self) -> MutexGuard<'_, FileInFlightState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
