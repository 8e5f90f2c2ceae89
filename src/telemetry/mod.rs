//! What people and machines see of a running bridge.

pub mod counters;
pub mod exporter;
pub mod health;
pub mod histogram;
pub mod http;
pub mod logging;
pub mod metrics;
mod process;
pub mod status;
pub mod watchdog;

use std::sync::Arc;

/// Where all parts of one bridge tell how they are.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// What they have done.
    pub counters: Arc<counters::Counters>,
    /// In which state they are.
    pub states: status::StatusRegistry,
    /// Whether their loops turn.
    pub pulses: watchdog::Watchdog,
}
