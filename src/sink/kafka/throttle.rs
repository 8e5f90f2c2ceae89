//! Finds out whether the brokers throttle a client. librdkafka reports that only in its statistics.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::names::Names;

#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, BrokerStatistics>,
}

#[derive(Deserialize)]
struct BrokerStatistics {
    throttle: Option<Throttle>,
}

/// The delays in milliseconds, of the answers since the last statistics.
#[derive(Deserialize)]
struct Throttle {
    #[serde(default)]
    max: i64,
}

/// Returns the longest delay of this client by the brokers, if they have delayed it.
pub(super) fn delay(statistics: &[u8]) -> Option<Duration> {
    let statistics: Statistics = serde_json::from_slice(statistics).ok()?;
    let delays = statistics.brokers.into_values().filter_map(|broker| broker.throttle);
    let longest = delays.map(|throttle| throttle.max).max()?;
    u64::try_from(longest).ok().filter(|delay| *delay > 0).map(Duration::from_millis)
}

/// Returns the message about throttling.
pub(super) fn text(names: &Names) -> String {
    let who = if names.user.is_empty() { "its user or client id" } else { names.user.as_str() };
    format!(
        "the brokers throttle the writing to the topic {}: a quota for {who} is used up; raise producer_byte_rate \
         or request_percentage of the quota",
        names.topic
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_delay_of_any_broker_counts() {
        let statistics = br#"{"name": "x", "brokers": {
            "a:1/1": {"throttle": {"min": 0, "max": 0}}, "a:2/2": {"throttle": {"max": 1500}}, "b": {}}}"#;
        assert_eq!(delay(statistics), Some(Duration::from_millis(1500)));
        assert_eq!(delay(br#"{"brokers": {"a:1/1": {"throttle": {"max": 0}}}}"#), None);
        assert_eq!(delay(b"{}"), None);
        assert_eq!(delay(b"no JSON"), None);
    }
}
