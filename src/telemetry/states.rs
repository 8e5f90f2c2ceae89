//! Who is in which state: every part that can be in trouble reports here; the log gets one line per
//! change, and readiness is read from it (D11).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The state of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Does its work.
    Ready,
    /// On the way to it, and expected to get there: connecting, opening.
    Starting(String),
    /// In trouble that is expected to pass; retried.
    Retrying(String),
    /// Stopped before a problem that an operator must solve; still retried slowly where that can help.
    Held(String),
}

impl State {
    /// Whether the part does its work.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }

    /// Why it does not, for people; empty when ready.
    pub fn reason(&self) -> &str {
        match self {
            Self::Ready => "",
            Self::Starting(reason) | Self::Retrying(reason) | Self::Held(reason) => reason,
        }
    }
}

/// The board on which all parts of a bridge report.
#[derive(Clone, Debug, Default)]
pub struct States(Arc<Mutex<BTreeMap<String, (State, Instant)>>>);

impl States {
    /// A handle for the part `name`, such as `source` or `sink file`.
    pub fn reporter(&self, name: impl Into<String>) -> Reporter {
        let reporter = Reporter { name: name.into(), states: self.clone() };
        reporter.report(State::Starting("not started".to_owned()));
        reporter
    }

    /// Every part, its state, and since when.
    pub fn all(&self) -> Vec<(String, State, Instant)> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(name, (state, since))| (name.clone(), state.clone(), *since)).collect()
    }
}

/// One part's handle on the board.
#[derive(Clone, Debug)]
pub struct Reporter {
    name: String,
    states: States,
}

impl Reporter {
    /// Takes note of the state and logs the change, if it is one.
    pub fn report(&self, state: State) {
        let mut parts = self.states.0.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = parts.get(&self.name).map(|(state, _)| state.clone());
        if previous.as_ref() == Some(&state) {
            return;
        }
        parts.insert(self.name.clone(), (state.clone(), Instant::now()));
        drop(parts);
        let part = self.name.as_str();
        match &state {
            State::Ready => tracing::info!(part, "ready"),
            State::Starting(reason) => tracing::debug!(part, "{reason}"),
            State::Retrying(reason) => tracing::warn!(part, "retrying: {reason}"),
            State::Held(reason) => tracing::error!(part, "held: {reason}"),
        }
    }
}
