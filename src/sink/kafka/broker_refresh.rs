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

use super::context::Client;
use crate::sink::SinkError;

/// So long in silence, and the client is reminded: in an outage that goes on, each time after twice as long, since
/// librdkafka keeps every list that it was ever given. That is a megabyte in a month of outage.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(120);

/// Knows where the brokers of a client are, and how long it has been silent.
pub(super) struct BrokerRefresh {
    brokers: CString,
    since: Instant,
    patience: Duration,
    reminded: Option<Instant>,
}

impl BrokerRefresh {
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
        self.heard_at(Instant::now());
    }

    fn heard_at(&mut self, now: Instant) {
        self.since = now;
        if self.reminded.is_none_or(|reminded| now.duration_since(reminded) >= LONGEST) {
            self.patience = FIRST;
        }
    }

    /// The client is silent, and reminded if it has been so for long. Brokers that it knows stay as they are.
    #[expect(unsafe_code, reason = "the crate has no safe name for it")]
    pub(super) fn silent(&mut self, client: &Client) {
        if self.is_due(Instant::now()) {
            // Deprecated in favour of `bootstrap.servers`, which is read once only.
            // SAFETY: the handle lives as long as `client`, any thread may call this, and the list is only read,
            // during the call.
            unsafe { rd_kafka_brokers_add(client.client().native_ptr(), self.brokers.as_ptr()) };
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.since) >= self.patience;
        if is_due {
            self.since = now;
            self.reminded = Some(now);
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
        let mut reminder = BrokerRefresh::new("a:1,b:2").unwrap();
        let start = reminder.since;
        let at = |seconds| start + Duration::from_secs(seconds);
        let due: Vec<u64> = (0..=400).filter(|second| reminder.is_due(at(*second))).collect();
        assert_eq!(due, [10, 30, 70, 150, 270, 390]);
        reminder.heard_at(at(400));
        let due: Vec<u64> = (400..=640).filter(|second| reminder.is_due(at(*second))).collect();
        assert_eq!(due, [520, 640], "as patient as before");
        reminder.heard_at(at(760));
        assert!(!reminder.is_due(at(769)) && reminder.is_due(at(770)), "patience begins anew");
        assert!(BrokerRefresh::new("a:1\0").is_err());
    }
}
