//! Holds the contract of a sink and the built-in sinks.

pub mod contract;
pub mod error;
pub mod factory;
pub mod file;
pub mod headers;
pub mod kafka;
pub mod memory;
pub mod nats;
pub mod stdout;

pub use self::contract::{Delivery, DeliveryId, Rejection, Sink, SinkContext, Submit, Verdict, Verdicts};
pub use self::error::{SinkError, SinkErrorKind};
