//! Carries events from a source to its sinks, and acknowledges them once all sinks have settled them.

pub mod ack_tracker;
mod dispatcher;
mod keyless_limits;
mod keyless_sink;
pub mod worker;

pub use self::dispatcher::{IDS_PER_EVENT, PipelineError, PipelineParts, run};
