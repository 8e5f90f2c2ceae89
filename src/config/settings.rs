//! Holds the checked configuration: every value here can be used as it is.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::origins::Origins;
use super::sections::LogConfig;
use crate::dead_letter::config::DeadLetterSettings;
use crate::key::Keying;
use crate::sink::factory::SinkSettings;
use crate::source::config::SourceSettings;
use crate::telemetry::http::config::AdminSettings;

/// All checked settings of one bridge.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One subscription for all sinks, or one for each (D8). Never empty.
    pub subscriptions: Vec<SubscriptionSettings>,
    /// How the key is found in an event.
    pub keying: Keying,
    /// The number of partitions, the same in every sink (D5).
    pub partitions: Option<NonZeroU32>,
    /// The most bytes of events in flight, for all subscriptions and sessions together (I4).
    pub max_in_flight: usize,
    /// The place of dead letters: events that can never be delivered.
    pub dead_letters: DeadLetterSettings,
    /// The settings for health and metrics over HTTP.
    pub admin: AdminSettings,
    /// The settings of the log; the filter has no mistake.
    pub log: LogConfig,
    /// How long draining may take (D10).
    pub drain_timeout: Duration,
    /// Where the value of each option came from, for texts that name options.
    pub origins: Arc<Origins>,
}

/// A queue, and the sinks that must all settle an event before it is acknowledged.
#[derive(Clone, Debug)]
pub struct SubscriptionSettings {
    /// The connection to the broker and the queue.
    pub source: SourceSettings,
    /// The sinks of this subscription, by name. Never empty.
    pub sinks: Vec<SinkSettings>,
}
