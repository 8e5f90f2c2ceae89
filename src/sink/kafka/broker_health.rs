//! Keeps what is wrong with the brokers of one connection.

use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;

use super::client_error::ClientError;
use crate::sink::SinkError;

/// Brokers that have throttled count as throttling until the next statistics (`client.rs`).
const THROTTLED_FOR: Duration = Duration::from_secs(10);
/// Throttling that begins again within this time is not logged again.
const THROTTLED_AGAIN: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct BrokerHealth {
    /// The current error of the brokers, or that there is no broker.
    pub(super) error: Option<SinkError>,
    /// Why a connection failed last, in librdkafka's words.
    pub(super) failure: Option<ClientError>,
    /// librdkafka has lost its connections to all brokers.
    pub(super) all_down: bool,
    /// Until when the brokers answer late on purpose.
    throttled: Option<Instant>,
}

impl BrokerHealth {
    /// Forgets all errors, because the brokers answer.
    pub(super) fn clear(&mut self) {
        self.error = None;
        self.failure = None;
        self.all_down = false;
    }

    /// Sets the current error, or clears it.
    pub(super) fn set_error(&mut self, error: Option<SinkError>) {
        match error {
            Some(error) => self.error = Some(error),
            None => self.clear(),
        }
    }

    /// Records that a connection failed, unless a failure is known that tells more.
    pub(super) fn set_failure(&mut self, code: Code, words: &str) {
        let passes = [Code::BrokerTransportFailure, Code::Resolve, Code::OperationTimedOut];
        let is_less = |known: &ClientError| passes.contains(&code) && !passes.contains(&known.code);
        if !self.failure.as_ref().is_some_and(is_less) {
            self.failure = Some(ClientError::new(code, words));
        }
    }

    /// Records that the brokers have delayed their answers by `delay`. Returns whether that is news.
    pub(super) fn set_throttled(&mut self, delay: Duration) -> bool {
        let now = Instant::now();
        let was = self.throttled.is_some_and(|until| now < until + THROTTLED_AGAIN);
        self.throttled = Some(now + delay + THROTTLED_FOR);
        !was
    }

    /// Whether the brokers throttle at the moment.
    pub(super) fn is_throttled(&self) -> bool {
        self.throttled.is_some_and(|until| Instant::now() < until)
    }
}
