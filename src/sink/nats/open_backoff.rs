//! Keeps a sink closed for some time after an error that needs an operator.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::backoff::{Backoff, BackoffConfig};
use crate::sink::{SinkError, SinkErrorKind};
use crate::units::Period;

/// The back-off of open. A server refuses some things only when events are published: the sink could be
/// opened again at once, look healthy, and fail again. So it stays closed and shows the error, for longer
/// each time.
#[derive(Debug)]
pub(super) struct OpenBackoff(Mutex<BackoffState>);

#[derive(Debug)]
struct BackoffState {
    backoff: Backoff,
    error: Option<(SinkError, Instant)>,
}

impl OpenBackoff {
    /// Creates the back-off: the sink may be opened at once.
    pub(super) fn new() -> Self {
        let backoff = Backoff::new(BackoffConfig { initial: Period::secs(1), max: Period::secs(30) });
        Self(Mutex::new(BackoffState { backoff, error: None }))
    }

    /// Notes that a connection has ended with this error.
    pub(super) fn after(&self, error: &SinkError) {
        if error.kind == SinkErrorKind::Misconfigured {
            let mut state = self.state();
            let until = Instant::now() + state.backoff.next_wait();
            state.error = Some((error.clone(), until));
        }
    }

    /// Notes that an event has become durable: the next wait is short again.
    pub(super) fn good(&self) {
        self.state().backoff.reset();
    }

    /// Returns the error of the last connection if the sink must stay closed.
    pub(super) fn check(&self) -> Result<(), SinkError> {
        let mut state = self.state();
        match &state.error {
            Some((error, until)) if Instant::now() < *until => Err(error.clone()),
            _ => {
                state.error = None;
                Ok(())
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, BackoffState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_operator_must_mend_keeps_it_closed() {
        let open_backoff = OpenBackoff::new();
        open_backoff.after(&SinkError::unavailable("away"));
        assert!(open_backoff.check().is_ok());
        open_backoff.after(&SinkError::misconfigured("forbidden"));
        assert_eq!(open_backoff.check().unwrap_err().to_string(), "forbidden");
        open_backoff.good();
        assert!(open_backoff.check().is_err(), "an event of another opening ends no waiting");
    }
}
