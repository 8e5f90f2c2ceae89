//! Collects the state of every part that can fail. The log gets one line for each change of cause, and
//! readiness is read from here (D11).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::display::one_line;

/// The state of one part of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The part does its work normally.
    Ready,
    /// The part is connecting or opening and is expected to become ready; holds the reason.
    Starting(String),
    /// An error that is expected to pass, and the part retries; holds the reason.
    Retrying(String),
    /// A problem that an operator must solve; holds the reason. Still retried slowly where that can help.
    Held(String),
}

impl Status {
    /// Every word that [`Status::word`] may return.
    pub const WORDS: [&str; 4] = ["ready", "starting", "retrying", "held"];

    /// Returns the state as one short fixed word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting(_) => "starting",
            Self::Retrying(_) => "retrying",
            Self::Held(_) => "held",
        }
    }

    /// Returns whether the part does its work.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }

    fn has_error(&self) -> bool {
        matches!(self, Self::Retrying(_) | Self::Held(_))
    }

    /// Returns why the part does not work, for people; empty when ready.
    pub fn reason(&self) -> &str {
        match self {
            Self::Ready => "",
            Self::Starting(reason) | Self::Retrying(reason) | Self::Held(reason) => reason,
        }
    }

    /// Returns the same state with its reason safe to show, and with the addition of `annotate`.
    fn shown(mut self, annotate: Option<&Annotate>) -> Self {
        if let Self::Starting(reason) | Self::Retrying(reason) | Self::Held(reason) = &mut self {
            let annotated = annotate.map_or_else(|| reason.clone(), |annotate| annotate(reason));
            *reason = one_line(&annotated).into_owned();
        }
        self
    }

    /// Returns the text without its numbers. Two reports with equal results have the same cause, since
    /// counters, seconds and ids change while a cause lasts.
    fn cause(&self) -> String {
        let mut cause = String::from(self.word());
        for character in self.reason().chars() {
            match character {
                '0'..='9' if cause.ends_with('#') => {}
                '0'..='9' => cause.push('#'),
                other => cause.push(other),
            }
        }
        cause
    }
}

/// An error that lasts is logged again after this time.
const REMIND_AFTER: Duration = Duration::from_secs(300);

/// The most log lines of one part at once. One more is allowed each time [`ONE_MORE_AFTER`] has passed. A
/// part that changes its state all the time must not flood the log.
const BURST: u32 = 10;
const ONE_MORE_AFTER: Duration = Duration::from_secs(30);

/// The last report of one part, and what of it was logged.
#[derive(Clone, Debug)]
struct StatusEntry {
    state: Status,
    /// When the state last changed from one word to another.
    since: Instant,
    next_try: Option<Instant>,
    /// Since when the part has an error. Stays set while the part starts again.
    error_since: Option<Instant>,
    /// The causes logged since the error began, and when.
    told: Vec<(String, Instant)>,
    /// The cause of the last log line, and when it was written.
    logged: (String, Instant),
    lines: u32,
    refilled: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LogLine(Status, String);

impl StatusEntry {
    fn new(state: Status, now: Instant) -> Self {
        Self {
            logged: (state.cause(), now),
            state,
            since: now,
            next_try: None,
            error_since: None,
            told: Vec::new(),
            lines: BURST,
            refilled: now,
        }
    }

    /// Notes the state. Returns the line to log, if one is due.
    fn report(&mut self, state: Status, now: Instant) -> Option<LogLine> {
        if state.word() != self.state.word() {
            self.since = now;
            self.next_try = None;
        }
        if state.has_error() {
            self.error_since.get_or_insert(now);
        }
        self.state = state;
        if self.state.is_ready() && self.state.cause() == self.logged.0 {
            // The error in between was too short for a line, so its end gets no line either.
            self.end_error();
        }
        self.line(now)
    }

    fn end_error(&mut self) {
        self.told.clear();
        self.error_since = None;
    }

    /// Returns the line that is due: for a new cause, or for an error that lasts.
    fn line(&mut self, now: Instant) -> Option<LogLine> {
        let cause = self.state.cause();
        let told = self.told.iter_mut().find(|(told, _)| *told == cause).map(|(_, at)| at);
        let is_due = match (&self.state, told) {
            (Status::Ready | Status::Starting(_), _) => cause != self.logged.0,
            (_, Some(at)) => now.saturating_duration_since(*at) >= REMIND_AFTER,
            (_, None) => true,
        };
        // Lines about starting have the level debug, so they do not use up the allowed lines.
        let is_free = matches!(self.state, Status::Starting(_));
        if !is_due || !(is_free || self.may_log(now)) {
            return None;
        }
        let lasts = self.error_since.map(|since| Lasting(now.saturating_duration_since(since)));
        let is_known = self.told.iter().any(|(told, _)| *told == cause);
        let text = match (&self.state, lasts) {
            (Status::Ready, Some(lasts)) => format!("ready again after {lasts}"),
            (Status::Ready, None) => "ready".to_owned(),
            (Status::Starting(reason), _) => reason.clone(),
            (state, Some(lasts)) if is_known => {
                format!("still {} after {lasts}: {}", state.word(), state.reason())
            }
            (state, _) => format!("{}: {}", state.word(), state.reason()),
        };
        self.logged = (cause.clone(), now);
        match &self.state {
            Status::Ready => self.end_error(),
            Status::Starting(_) => {}
            _ => {
                self.told.retain(|(told, _)| *told != cause);
                self.told.push((cause, now));
                // Causes that occur only once must not let this list grow.
                self.told.drain(..self.told.len().saturating_sub(BURST as usize));
            }
        }
        Some(LogLine(self.state.clone(), text))
    }

    fn may_log(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled).as_secs() / ONE_MORE_AFTER.as_secs();
        if passed > 0 {
            self.lines = self.lines.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX)).min(BURST);
            self.refilled = now;
        }
        let may = self.lines > 0;
        self.lines = self.lines.saturating_sub(1);
        may
    }
}

/// A duration in the form that people read: `45s`, `4m12s`, `3h5m`, `2d4h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting(pub Duration);

impl fmt::Display for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds}s"),
            (0, 0, minutes) => write!(f, "{minutes}m{}s", seconds % 60),
            (0, hours, minutes) => write!(f, "{hours}h{minutes}m"),
            (days, hours, _) => write!(f, "{days}d{hours}h"),
        }
    }
}

/// The state of one part, with its times.
#[derive(Clone, Debug)]
pub struct PartStatus {
    /// The name of the part, such as `source` or `sink file`.
    pub part: String,
    /// The state that the part reported last.
    pub state: Status,
    /// Since when the state has the same word.
    pub since: Instant,
    /// Since when the part has an error, if it has one.
    pub error_since: Option<Instant>,
    /// When the part tries again, if that is known.
    pub next_try: Option<Instant>,
}

/// Adds information to a text about what it names, such as the origin of option values.
pub type Annotate = dyn Fn(&str) -> String + Send + Sync;

/// The registry in which all parts of a bridge report their state.
#[derive(Clone, Default)]
pub struct StatusRegistry {
    parts: Arc<Mutex<BTreeMap<String, StatusEntry>>>,
    complete: Arc<AtomicBool>,
    annotate: Option<Arc<Annotate>>,
}

impl fmt::Debug for StatusRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shown()).finish()
    }
}

impl StatusRegistry {
    /// Creates a registry that passes its texts through `annotate`.
    pub fn annotated_by(annotate: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self { annotate: Some(Arc::new(annotate)), ..Self::default() }
    }

    /// Returns a handle for the part `name`, such as `source` or `sink file`.
    pub fn reporter(&self, name: impl Into<String>) -> StatusReporter {
        let reporter = StatusReporter { name: name.into(), states: self.clone() };
        reporter.report(Status::Starting("not started".to_owned()));
        reporter
    }

    /// Notes that every part is registered. Before that, a part that is still missing can't be told from one
    /// that does not exist.
    pub fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Returns whether every part is registered.
    pub fn are_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Returns every part, its state, and since when.
    pub fn all(&self) -> Vec<(String, Status, Instant)> {
        self.shown().into_iter().map(|shown| (shown.part, shown.state, shown.since)).collect()
    }

    /// Returns every part with its state and times.
    pub fn shown(&self) -> Vec<PartStatus> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = parts.iter().map(|(part, entry)| PartStatus {
            part: part.clone(),
            state: entry.state.clone(),
            since: entry.since,
            error_since: entry.error_since,
            next_try: entry.next_try,
        });
        shown.collect()
    }

    /// Logs the lines that are due: errors that last, and changes that came too fast to be logged one by one.
    /// Call it every few seconds.
    pub fn remind(&self) {
        let now = Instant::now();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let due = parts.iter_mut().filter_map(|(name, entry)| Some((name.clone(), entry.line(now)?)));
        let due: Vec<_> = due.collect();
        drop(parts);
        due.iter().for_each(|(name, line)| log(name, line));
    }
}

/// The handle of one part on the registry.
#[derive(Clone, Debug)]
pub struct StatusReporter {
    name: String,
    states: StatusRegistry,
}

impl StatusReporter {
    /// Notes the state, and logs it if its cause is new or lasts.
    pub fn report(&self, state: Status) {
        let (state, now) = (state.shown(self.states.annotate.as_deref()), Instant::now());
        let mut parts = self.states.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match parts.get_mut(&self.name) {
            Some(entry) => entry.report(state, now),
            None => {
                parts.insert(self.name.clone(), StatusEntry::new(state, now));
                None
            }
        };
        drop(parts);
        if let Some(line) = line {
            log(&self.name, &line);
        }
    }

    /// Notes when the part tries again.
    pub fn next_try(&self, at: Instant) {
        let mut parts = self.states.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = parts.get_mut(&self.name) {
            entry.next_try = Some(at);
        }
    }
}

fn log(part: &str, LogLine(state, text): &LogLine) {
    match state {
        Status::Ready => tracing::info!(part, "{text}"),
        Status::Starting(_) => tracing::debug!(part, "{text}"),
        Status::Retrying(_) => tracing::warn!(part, "{text}"),
        Status::Held(_) => tracing::error!(part, "{text}"),
    }
}

#[cfg(test)]
mod tests;
