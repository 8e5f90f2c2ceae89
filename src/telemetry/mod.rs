//! What people and machines see of a running bridge.

pub mod admin;
pub mod counters;
pub mod exposition;
pub mod health;
pub mod histogram;
pub mod logging;
pub mod metrics;
mod process;
pub mod pulse;
pub mod states;

use std::sync::Arc;

/// Where all parts of one bridge tell how they are.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// What they have done.
    pub counters: Arc<counters::Counters>,
    /// In which state they are.
    pub states: states::States,
    /// Whether their loops turn.
    pub pulses: pulse::Pulses,
}
