//! The configuration as checked: what is here can be used as it is.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::origins::Origins;
use super::sections::LogFormat;
use crate::dead_letter::config::DeadLetterSettings;
use crate::key::Keying;
use crate::sink::factory::SinkSettings;
use crate::source::config::SourceSettings;
use crate::telemetry::http::config::AdminSettings;

/// Everything that a bridge needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One for all sinks, or one for each (D8). Never empty.
    pub subscriptions: Vec<SubscriptionSettings>,
    /// Where the key of an event is.
    pub keying: Keying,
    /// The number of partitions, the same in every sink (D5).
    pub partitions: Option<NonZeroU32>,
    /// Bytes of events on the way at most, all subscriptions and sessions together (I4).
    pub max_in_flight: usize,
    /// Where events go that can never be delivered.
    pub dead_letters: DeadLetterSettings,
    /// Health and metrics.
    pub admin: AdminSettings,
    /// What is logged.
    pub log: LogSettings,
    /// How long draining may take (D10).
    pub drain_timeout: Duration,
    /// Where the value of each option came from, for texts that name options.
    pub origins: Arc<Origins>,
}

/// A queue, and the sinks that must all settle an event before it is acknowledged.
#[derive(Clone, Debug)]
pub struct SubscriptionSettings {
    /// The queue.
    pub source: SourceSettings,
    /// By name, never empty.
    pub sinks: Vec<SinkSettings>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Directives that `tracing_subscriber::EnvFilter` has accepted.
    pub filter: String,
    /// For people or machines.
    pub format: LogFormat,
}
