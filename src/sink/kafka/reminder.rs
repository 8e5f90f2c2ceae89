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

/// So long without a report while something is in flight, and the client is reminded.
const SILENCE: Duration = Duration::from_secs(10);

/// `bootstrap.servers`, as librdkafka wants it.
#[derive(Clone)]
pub(super) struct Brokers(CString);

impl Brokers {
    /// # Errors
    /// They can't be a list of addresses.
    pub(super) fn new(brokers: &str) -> Result<Self, SinkError> {
        let unusable = |error| SinkError::misconfigured("`brokers` has a zero byte").caused_by(error);
        CString::new(brokers).map(Self).map_err(unusable)
    }

    /// Adds those that the client does not have; changes nothing where it has them.
    #[expect(unsafe_code, reason = "the crate has no safe name for it")]
    pub(super) fn remind(&self, client: &Client) {
        // SAFETY: the handle lives as long as `client`, any thread may call this, and the list is only read, during
        // the call.
        unsafe { rd_kafka_brokers_add(client.client().native_ptr(), self.0.as_ptr()) };
    }
}

/// How long a client has been silent.
pub(super) struct Silence {
    reports: u64,
    since: Instant,
}

impl Silence {
    pub(super) fn new() -> Self {
        Self { reports: 0, since: Instant::now() }
    }

    /// Whether it is time to remind the client, after so many reports in all: again after as long.
    pub(super) fn is_long(&mut self, in_flight: bool, reports: u64) -> bool {
        let is_long = in_flight && reports == self.reports && self.since.elapsed() >= SILENCE;
        if is_long || !in_flight || reports != self.reports {
            *self = Self { reports, since: Instant::now() };
        }
        is_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_and_hears_nothing_is_silent_and_not_at_once_again() {
        let long_ago = || Instant::now().checked_sub(SILENCE).unwrap();
        let mut silence = Silence { reports: 3, since: long_ago() };
        assert!(silence.is_long(true, 3));
        assert!(!silence.is_long(true, 3), "reminded a moment ago");
        for (in_flight, reports) in [(false, 3), (true, 4)] {
            silence = Silence { reports: 3, since: long_ago() };
            assert!(!silence.is_long(in_flight, reports));
            assert!(!silence.is_long(true, reports), "the time begins anew");
        }
    }
}
