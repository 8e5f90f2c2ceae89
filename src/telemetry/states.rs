//! Who is in which state: every part that can be in trouble reports here; the log gets one line per
//! change, and readiness is read from it (D11).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    /// Every word that [`State::word`] may say.
    pub const WORDS: [&str; 4] = ["ready", "starting", "retrying", "held"];

    /// The state as one short fixed word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting(_) => "starting",
            Self::Retrying(_) => "retrying",
            Self::Held(_) => "held",
        }
    }

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

/// A trouble that lasts is logged again after so long.
const REMIND_AFTER: Duration = Duration::from_secs(600);

/// What one part reported last.
#[derive(Clone, Debug)]
struct Entry {
    state: State,
    since: Instant,
    logged: Instant,
}

/// The board on which all parts of a bridge report.
#[derive(Clone, Debug, Default)]
pub struct States {
    parts: Arc<Mutex<BTreeMap<String, Entry>>>,
    complete: Arc<AtomicBool>,
}

impl States {
    /// A handle for the part `name`, such as `source` or `sink file`.
    pub fn reporter(&self, name: impl Into<String>) -> Reporter {
        let reporter = Reporter { name: name.into(), states: self.clone() };
        reporter.report(State::Starting("not started".to_owned()));
        reporter
    }

    /// Every part is on the board now; before, one that is not there yet could not be told from one that
    /// does not exist.
    pub fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Whether every part is on the board.
    pub fn are_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Every part, its state, and since when.
    pub fn all(&self) -> Vec<(String, State, Instant)> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(name, entry)| (name.clone(), entry.state.clone(), entry.since)).collect()
    }
}

/// One part's handle on the board.
#[derive(Clone, Debug)]
pub struct Reporter {
    name: String,
    states: States,
}

impl Reporter {
    /// Takes note of the state, and logs it if it is news or lasts.
    pub fn report(&self, state: State) {
        let now = Instant::now();
        let mut parts = self.states.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match parts.get(&self.name) {
            Some(entry) if entry.state != state => now,
            Some(entry) if now.duration_since(entry.logged) < REMIND_AFTER => return,
            Some(entry) => entry.since,
            None => now,
        };
        parts.insert(self.name.clone(), Entry { state: state.clone(), since, logged: now });
        drop(parts);
        self.log(&state);
    }

    fn log(&self, state: &State) {
        let part = self.name.as_str();
        match state {
            State::Ready => tracing::info!(part, "ready"),
            State::Starting(reason) => tracing::debug!(part, "{reason}"),
            State::Retrying(reason) => tracing::warn!(part, "retrying: {reason}"),
            State::Held(reason) => tracing::error!(part, "held: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_lasts_from_its_first_report() {
        let states = States::default();
        let reporter = states.reporter("source");
        assert!(!states.all()[0].1.is_ready());
        reporter.report(State::Retrying("away".to_owned()));
        let since = states.all()[0].2;
        reporter.report(State::Retrying("away".to_owned()));
        assert_eq!((states.all()[0].1.reason(), states.all()[0].2), ("away", since));
        reporter.report(State::Ready);
        assert!(states.all()[0].1.is_ready() && states.all()[0].1.reason().is_empty());
    }
}
