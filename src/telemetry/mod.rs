//! What people and machines see of a running bridge.

pub mod counters;
pub mod logging;
pub mod states;
