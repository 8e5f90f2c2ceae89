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
    fn shown(self, annotate: Option<&Annotate>) -> Self {
        let safe = |reason: String| {
            let reason = annotate.map_or(reason.clone(), |annotate| annotate(&reason));
            one_line(&reason).into_owned()
        };
        match self {
            Self::Ready => Self::Ready,
            Self::Starting(reason) => Self::Starting(safe(reason)),
            Self::Retrying(reason) => Self::Retrying(safe(reason)),
            Self::Held(reason) => Self::Held(safe(reason)),
        }
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
    troubled: Option<Instant>,
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
            troubled: None,
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
            self.troubled.get_or_insert(now);
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
        self.troubled = None;
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
        let lasts = self.troubled.map(|since| Lasting(now.saturating_duration_since(since)));
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
pub struct LoggedCauses {
    /// The name of the part, such as `source` or `sink file`.
    pub part: String,
    /// The state that the part reported last.
    pub state: Status,
    /// Since when the state has the same word.
    pub since: Instant,
    /// Since when the part has an error, if it has one.
    pub troubled: Option<Instant>,
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
    pub fn shown(&self) -> Vec<LoggedCauses> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = parts.iter().map(|(part, entry)| LoggedCauses {
            part: part.clone(),
            state: entry.state.clone(),
            since: entry.since,
            troubled: entry.troubled,
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retrying(text: &str) -> Status {
        Status::Retrying(text.to_owned())
    }

    fn held(text: &str) -> Status {
        Status::Held(text.to_owned())
    }

    #[test]
    fn a_state_lasts_from_its_first_report() {
        let states = StatusRegistry::default();
        let reporter = states.reporter("source");
        assert!(!states.all()[0].1.is_ready());
        reporter.report(retrying("away"));
        let since = states.all()[0].2;
        reporter.report(retrying("away"));
        assert_eq!((states.all()[0].1.reason(), states.all()[0].2), ("away", since));
        reporter.report(Status::Ready);
        assert!(states.all()[0].1.is_ready() && states.all()[0].1.reason().is_empty());
    }

    #[test]
    fn texts_are_annotated() {
        let states = StatusRegistry::annotated_by(|text| format!("{text} (source.url: bridge.toml:3)"));
        states.reporter("source").report(held("check source.url"));
        assert_eq!(states.all()[0].1, held("check source.url (source.url: bridge.toml:3)"));
    }

    #[test]
    fn what_is_shown_is_one_line_and_tells_the_next_try() {
        let states = StatusRegistry::default();
        let reporter = states.reporter("source");
        reporter.report(held("message ID:1\nERROR forged"));
        let next = Instant::now() + Duration::from_secs(7);
        reporter.next_try(next);
        let shown = states.shown().remove(0);
        assert_eq!(shown.state.reason(), "message ID:1\\nERROR forged");
        assert_eq!((shown.next_try, shown.troubled.is_some()), (Some(next), true));
        reporter.report(Status::Ready);
        let shown = states.shown().remove(0);
        assert_eq!((shown.next_try, shown.troubled), (None, None));
    }

    /// Reports each state at its second and returns the log lines.
    fn lines(reports: impl IntoIterator<Item = (u64, Status)>) -> Vec<String> {
        let start = Instant::now();
        let mut entry = StatusEntry::new(Status::Starting("not started".to_owned()), start);
        let line = |(second, state)| entry.report(state, start + Duration::from_secs(second));
        reports.into_iter().filter_map(line).map(|LogLine(_, text)| text).collect()
    }

    #[test]
    fn one_line_for_a_cause_however_often_it_is_reported() {
        let tries = (0..60).map(|second| {
            (second, held(&format!("{second} messages wait; connection {second} was refused")))
        });
        let told = lines(tries.chain([(72, Status::Ready)]));
        assert_eq!(told, ["held: 0 messages wait; connection 0 was refused", "ready again after 1m12s"]);
    }

    #[test]
    fn causes_that_take_turns_are_told_once_each() {
        let turns = (0..120).map(|second| (second, retrying(if second % 2 == 0 { "one" } else { "other" })));
        assert_eq!(lines(turns), ["retrying: one", "retrying: other"]);
    }

    #[test]
    fn a_trouble_that_lasts_is_told_again_every_five_minutes() {
        let told = lines((0..901).map(|second| (second, held("no topic"))));
        assert_eq!(
            told,
            [
                "held: no topic",
                "still held after 5m0s: no topic",
                "still held after 10m0s: no topic",
                "still held after 15m0s: no topic",
            ]
        );
    }

    #[test]
    fn a_reconnect_on_the_way_out_of_trouble_does_not_end_it() {
        let starting = Status::Starting("connecting".to_owned());
        let told = lines([(0, retrying("away")), (5, starting), (6, retrying("away")), (9, Status::Ready)]);
        assert_eq!(told, ["retrying: away", "connecting", "ready again after 9s"]);
    }

    #[test]
    fn a_part_that_goes_to_and_fro_does_not_flood_the_log_and_its_last_state_is_told() {
        let start = Instant::now();
        let mut entry = StatusEntry::new(Status::Ready, start);
        let mut count = 0;
        for turn in 0..600 {
            let state = if turn % 2 == 0 { retrying("closed") } else { Status::Ready };
            count += usize::from(entry.report(state, start + Duration::from_millis(100 * turn)).is_some());
        }
        assert_eq!(count, BURST as usize + 1, "in a minute");
        let later = start + Duration::from_secs(120);
        entry.report(held("full"), later);
        let is_told = |line: Option<LogLine>| line.is_some_and(|LogLine(_, text)| text == "held: full");
        assert!(is_told(entry.line(later)) || entry.logged.0 == held("full").cause());
    }

    #[test]
    fn lengths_of_time_read_well() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (72, "1m12s"), (11_100, "3h5m"), (187_200, "2d4h")] {
            assert_eq!(Lasting(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    proptest! {
        /// After enough time, the state that was reported last is also the state that was logged last.
        #[test]
        fn what_is_so_is_told_in_the_end(
            reports in prop::collection::vec((0u64..20, 0usize..5), 1..100),
        ) {
            let states =
                [Status::Ready, retrying("a"), retrying("b 1"), held("c"), Status::Starting("d".to_owned())];
            let (start, mut second) = (Instant::now(), 0);
            let mut entry = StatusEntry::new(Status::Ready, start);
            let mut last = None;
            for (wait, state) in reports {
                second += wait;
                last = entry.report(states[state].clone(), start + Duration::from_secs(second)).or(last);
            }
            for _ in 0..20 {
                second += 30;
                last = entry.line(start + Duration::from_secs(second)).or(last);
            }
            let told = last.map_or_else(|| Status::Ready.cause(), |LogLine(state, _)| state.cause());
            prop_assert_eq!(told, entry.state.cause());
        }
    }
}
