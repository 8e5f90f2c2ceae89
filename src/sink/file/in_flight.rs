//! Verdicts on their way from the writer's thread to the lane.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::journal::CommitError;
use crate::sink::{DeliveryId, Rejection, SinkError, Verdict};

/// Bounded by what was submitted: one verdict for each delivery.
#[derive(Default)]
pub(super) struct FileInFlight {
    state: Mutex<FileInFlightState>,
    news: Notify,
}

#[derive(Default)]
struct FileInFlightState {
    verdicts: Vec<(DeliveryId, Verdict)>,
    /// Accepted and not yet taken by the lane.
    in_flight: usize,
    broken: Option<SinkError>,
}

impl FileInFlight {
    /// So many more deliveries were handed to the writer.
    pub(super) fn accepted(&self, n: usize) {
        self.lock().in_flight += n;
    }

    /// How many deliveries wait for the lane to take their verdict.
    pub(super) fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Why the opening is broken, if it is.
    pub(super) fn broken(&self) -> Option<SinkError> {
        self.lock().broken.clone()
    }

    /// Takes one more delivery and refuses it.
    pub(super) fn refuse(&self, id: DeliveryId, rejection: Rejection) {
        let mut state = self.lock();
        state.in_flight += 1;
        state.verdicts.push((id, Verdict::Reject(rejection)));
        drop(state);
        self.news.notify_one();
    }

    /// Adds the verdicts on a group; none where the opening is broken, since an error speaks for all.
    pub(super) fn settle(&self, tickets: &mut Vec<DeliveryId>, outcome: Result<(), &CommitError>) {
        let mut state = self.lock();
        match outcome {
            Ok(()) => state.verdicts.extend(tickets.drain(..).map(|id| (id, Verdict::Durable))),
            Err(CommitError::TakenBack(trouble)) => {
                let error = SinkError::from(trouble);
                let verdicts = tickets.drain(..).map(|id| (id, Verdict::Retry(error.clone())));
                state.verdicts.extend(verdicts);
            }
            Err(CommitError::Broken(trouble)) => state.broken = Some(trouble.into()),
        }
        drop(state);
        self.news.notify_one();
    }

    /// Returns once there is a verdict or the opening is broken. Cancel-safe.
    pub(super) async fn wait(&self) {
        loop {
            {
                let state = self.lock();
                if !state.verdicts.is_empty() || state.broken.is_some() {
                    return;
                }
            }
            self.news.notified().await;
        }
    }

    /// Takes all verdicts there are.
    pub(super) fn take(&self) -> Vec<(DeliveryId, Verdict)> {
        let mut state = self.lock();
        state.in_flight = state.in_flight.saturating_sub(state.verdicts.len());
        std::mem::take(&mut state.verdicts)
    }

    fn lock(&self) -> MutexGuard<'_, FileInFlightState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
