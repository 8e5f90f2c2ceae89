//! Looks at the events that wait in the queue: whether their keys are found, and whether they come from the future.

use jiff::Timestamp;

use super::report::CheckError;
use crate::event::{Event, EventError, Message};
use crate::finding::{Finding, clock, codes};
use crate::key::{Keying, Suggestions};
use crate::source::config::SourceSettings;

/// What the events that were browsed have in common.
pub(super) struct WaitingEvents<'a> {
    keying: &'a Keying,
    count: u32,
    unusable: u32,
    defect: Option<EventError>,
    suggestions: Suggestions,
    /// The newest timestamp less the clock here, in milliseconds.
    ahead: Option<i64>,
}

impl<'a> WaitingEvents<'a> {
    pub(super) fn new(keying: &'a Keying) -> Self {
        Self { keying, count: 0, unusable: 0, defect: None, suggestions: Suggestions::default(), ahead: None }
    }

    pub(super) fn add(&mut self, message: Message) {
        self.count += 1;
        let ahead = message.timestamp.map(|sent| sent.saturating_sub(Timestamp::now().as_millisecond()));
        self.ahead = self.ahead.max(ahead);
        let event = Event::new(message, self.keying);
        if let Some(defect) = event.defect.clone() {
            self.unusable += 1;
            self.suggestions.add(event.body());
            self.defect.get_or_insert(defect);
        }
    }

    /// Tells what the timestamps say of the clocks. An event from the past may have waited.
    pub(super) fn clock(&self, source: &SourceSettings) -> Finding {
        let who = format!("what has sent the newest event in {}", source.queue());
        match self.ahead {
            Some(ahead) if ahead > 0 => clock::difference(&who, ahead),
            Some(ahead) => {
                let message = format!(
                    "the newest event that waits was sent {} s ago by the clock here, which is not behind",
                    ahead.unsigned_abs() / 1000
                );
                Finding::detail(codes::CLOCK, message)
            }
            None => Finding::detail(
                codes::CLOCK_NOT_KNOWN,
                "not known whether the clock here is right: no event waits whose timestamp would tell",
            ),
        }
    }

    /// Returns the result. It is an error if no event has a usable key, because the bridge would only write
    /// dead letters.
    pub(super) fn outcome(self, source: &SourceSettings) -> Result<Finding, CheckError> {
        let (queue, count) = (source.queue(), self.count);
        let may_read = format!("the queue {queue} may be read by {}", source.username);
        let Some(defect) = self.defect else {
            let message = match count {
                0 => format!("{may_read}; no event waits in it whose key could be looked for"),
                _ => format!("{may_read}; the keys of {count} events that wait in it were found"),
            };
            return Ok(Finding::detail(codes::SOURCE_QUEUE, message));
        };
        let (found, advice) = (&self.suggestions, self.suggestions.advice());
        let found = format!("have no usable key by event.keys (the first: {defect}); {found}: {advice}");
        if self.unusable == count {
            let message = format!("all {count} events that wait in {queue} {found}");
            return Err(CheckError::held(codes::SOURCE_ALL_KEYS_MISSING, message));
        }
        let message = format!("{} of {count} events that wait in {queue} {found}", self.unusable);
        Ok(Finding::warning(codes::SOURCE_SOME_KEYS_MISSING, message))
    }
}
