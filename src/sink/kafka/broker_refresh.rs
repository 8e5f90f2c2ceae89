//! Tells a client again where its brokers are.
//!
//! Since version 2.10 librdkafka forgets every broker that a metadata answer does not name. A broker that its
//! controller has fenced, for example after a long pause, answers with no broker at all. Then the client has
//! no broker left to ask. A race decides whether it goes back to `bootstrap.servers`, and it mostly loses
//! this race for good (<https://github.com/confluentinc/librdkafka/issues/5301>, seen with 2.12.1). A new
//! client would write again the records that the brokers have but have not confirmed yet. The same client
//! with a refreshed list of brokers goes on and doubles nothing (I5).

use std::ffi::CString;
use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::producer::Producer;

use super::delivery_reports::KafkaClient;
use crate::sink::SinkError;

/// The client gets the list again after it has been silent for `FIRST`. In an outage that goes on, the wait
/// doubles each time up to `LONGEST`, because librdkafka keeps every list it was ever given. That is one
/// megabyte in a month of outage.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(120);

/// The list of a client's brokers, and how long the client has been silent.
pub(super) struct BrokerRefresh {
    brokers: CString,
    since: Instant,
    patience: Duration,
    refreshed: Option<Instant>,
}

impl BrokerRefresh {
    /// Takes `brokers` in the form of `bootstrap.servers`.
    ///
    /// # Errors
    /// `brokers` can't be passed to librdkafka, because it has a zero byte.
    pub(super) fn new(brokers: &str) -> Result<Self, SinkError> {
        let unusable = |error| SinkError::misconfigured("`brokers` has a zero byte").caused_by(error);
        let brokers = CString::new(brokers).map_err(unusable)?;
        Ok(Self { brokers, since: Instant::now(), patience: FIRST, refreshed: None })
    }

    /// The client is not silent, or has nothing to send. The wait starts again at `FIRST` only some time
    /// after the last refresh. Otherwise a client that answers now and then would get the list for ever.
    pub(super) fn heard(&mut self, now: Instant) {
        self.since = now;
        if self.refreshed.is_none_or(|refreshed| now.duration_since(refreshed) >= LONGEST) {
            self.patience = FIRST;
        }
    }

    /// The client is silent. It gets the list if it has been silent for long. librdkafka keeps the brokers
    /// that it knows.
    #[expect(unsafe_code, reason = "the crate has no safe name for it")]
    pub(super) fn silent(&mut self, client: &KafkaClient) {
        if self.is_due(Instant::now()) {
            // This function is deprecated in favour of `bootstrap.servers`, which librdkafka reads only once.
            // SAFETY: the handle lives as long as `client`. Any thread may call this function. It reads the
            // list only during the call.
            unsafe { rd_kafka_brokers_add(client.client().native_ptr(), self.brokers.as_ptr()) };
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.since) >= self.patience;
        if is_due {
            self.since = now;
            self.refreshed = Some(now);
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
        let mut broker_refresh = BrokerRefresh::new("a:1,b:2").unwrap();
        let start = broker_refresh.since;
        let at = |seconds| start + Duration::from_secs(seconds);
        let due: Vec<u64> = (0..=400).filter(|second| broker_refresh.is_due(at(*second))).collect();
        assert_eq!(due, [10, 30, 70, 150, 270, 390]);
        broker_refresh.heard(at(400));
        let due: Vec<u64> = (400..=640).filter(|second| broker_refresh.is_due(at(*second))).collect();
        assert_eq!(due, [520, 640], "as patient as before");
        broker_refresh.heard(at(760));
        assert!(!broker_refresh.is_due(at(769)) && broker_refresh.is_due(at(770)), "patience begins anew");
        assert!(BrokerRefresh::new("a:1\0").is_err());
    }
}
