//! Tells a client again where its brokers are.
//!
//! Since 2.10 librdkafka forgets every broker that an answer to a question for metadata does not name. A broker that
//! its controller has fenced, as after a long pause, answers with none at all; the client then has nobody left to ask,
//! and whether it goes back to `bootstrap.servers` is decided by a race that it mostly loses, for good
//! (<https://github.com/confluentinc/librdkafka/issues/5301>, seen with 2.12.1). A new client would write again what
//! the brokers have and have not confirmed yet; the same one, reminded, goes on and doubles nothing (I5).

use std::ffi::CString;
use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::producer::Producer;

use super::opening::Client;
use crate::sink::SinkError;

/// So long in silence, and the client is reminded: in an outage that goes on, each time after twice as long, since
/// librdkafka keeps every list that it was ever given. That is a megabyte in a month of outage.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(120);

/// Knows where the brokers of a client are, and how long it has been silent.
pub(super) struct Reminder {
    brokers: CString,
    since: Instant,
    patience: Duration,
    reminded: Option<Instant>,
}

impl Reminder {
    /// `brokers` as in `bootstrap.servers`.
    ///
    /// # Errors
    /// They can't be a list of addresses.
    pub(super) fn new(brokers: &str) -> Result<Self, SinkError> {
        let unusable = |error| SinkError::misconfigured("`brokers` has a zero byte").caused_by(error);
        let brokers = CString::new(brokers).map_err(unusable)?;
        Ok(Self { brokers, since: Instant::now(), patience: FIRST, reminded: None })
    }

    /// The client is not silent, or has nothing to say. Patience begins anew only a while after the last time, or a
    /// client that speaks now and then would be reminded for ever.
    pub(super) fn heard(&mut self) {
        self.since = Instant::now();
        if self.reminded.is_none_or(|reminded| reminded.elapsed() >= LONGEST) {
            self.patience = FIRST;
        }
    }

    /// The client is silent, and reminded if it has been so for long. Brokers that it knows stay as they are.
    #[expect(unsafe_code, reason = "the crate has no safe name for it")]
    pub(super) fn silent(&mut self, client: &Client) {
        if self.is_due() {
            // Deprecated in favour of `bootstrap.servers`, which is read once only.
            // SAFETY: the handle lives as long as `client`, any thread may call this, and the list is only read,
            // during the call.
            unsafe { rd_kafka_brokers_add(client.client().native_ptr(), self.brokers.as_ptr()) };
        }
    }

    fn is_due(&mut self) -> bool {
        let is_due = self.since.elapsed() >= self.patience;
        if is_due {
            self.since = Instant::now();
            self.reminded = Some(self.since);
            self.patience = (self.patience * 2).min(LONGEST);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_after_a_silence_and_less_and_less_often() {
        let mut reminder = Reminder::new("a:1,b:2").unwrap();
        let after = |reminder: &mut Reminder, seconds| {
            reminder.since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
            reminder.is_due()
        };
        for (seconds, is_due) in [(9, false), (10, true), (19, false), (20, true), (40, true), (80, true)] {
            assert_eq!(after(&mut reminder, seconds), is_due, "{seconds}");
        }
        assert!(!after(&mut reminder, 119) && after(&mut reminder, 120) && after(&mut reminder, 120));
        reminder.heard();
        assert!(!after(&mut reminder, 119), "as patient as before");
        reminder.reminded = Instant::now().checked_sub(LONGEST);
        reminder.heard();
        assert!(!reminder.is_due() && after(&mut reminder, 10));
        assert!(Reminder::new("a:1\0").is_err());
    }
}
