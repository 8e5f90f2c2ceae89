//! Provides what people and machines see of a running bridge: states, counters, health, logs.

pub mod bridge_status;
pub mod configuration;
pub mod counters;
mod freezer;
pub mod health;
pub mod histogram;
pub mod history;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod status;
pub mod watchdog;

use std::sync::Arc;

/// The place where all parts of one bridge report their state.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// The counters of all parts.
    pub counters: Arc<counters::Counters>,
    /// The configuration in effect, with secrets masked.
    pub configuration: configuration::ShownConfiguration,
    /// How the bridge did in the last 15 minutes.
    pub history: Arc<history::History>,
    /// The state of each part.
    pub statuses: status::StatusRegistry,
    /// The watchdog, which tells whether the loops turn.
    pub watchdog: watchdog::Watchdog,
}
