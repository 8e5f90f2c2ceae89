//! Keeps a sink closed for a while after what only an operator can mend.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::backoff::{Backoff, BackoffConfig};
use crate::sink::{SinkError, SinkErrorKind};
use crate::units::Period;

/// A server forbids or refuses some things only when events are published: the sink could be opened again at
/// once, look well, and fail again. So it stays closed, and shows the error, for longer each time.
#[derive(Debug)]
pub(super) struct OpenBackoff(Mutex<BackoffState>);

#[derive(Debug)]
struct BackoffState {
    backoff: Backoff,
    error: Option<(SinkError, Instant)>,
}

impl OpenBackoff {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        let backoff = Backoff::new(BackoffConfig { initial: Period::secs(1), max: Period::secs(30) });
        Self(Mutex::new(BackoffState { backoff, error: None }))
    }

    /// An opening has ended in this trouble.
    pub(super) fn after(&self, error: &SinkError) {
        if error.kind == SinkErrorKind::Misconfigured {
            let mut state = self.state();
            let until = Instant::now() + state.backoff.next_wait();
            state.error = Some((error.clone(), until));
        }
    }

    /// An event has become durable.
    pub(super) fn good(&self) {
        self.state().backoff.reset();
    }

    /// Whether it may be opened.
    ///
    /// # Errors
    /// Not yet; what it ended in.
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
        let holding = OpenBackoff::new();
        holding.after(&SinkError::unavailable("away"));
        assert!(holding.check().is_ok());
        holding.after(&SinkError::misconfigured("forbidden"));
        assert_eq!(holding.check().unwrap_err().to_string(), "forbidden");
        holding.good();
        assert!(holding.check().is_err(), "an event of another opening ends no waiting");
    }
}
