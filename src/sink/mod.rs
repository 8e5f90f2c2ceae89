//! Holds the contract of a sink and the built-in sinks.

mod claim_failures;
pub mod contract;
pub mod error;
pub mod factory;
#[doc(hidden)]
#[allow(missing_docs, reason = "not part of the API")]
pub mod file;
pub mod headers;
#[cfg(feature = "kafka")]
#[doc(hidden)]
#[allow(missing_docs, reason = "not part of the API")]
pub mod kafka;
#[doc(hidden)]
#[allow(missing_docs, reason = "not part of the API")]
pub mod nats;
pub mod read_back;
#[doc(hidden)]
#[allow(missing_docs, reason = "not part of the API")]
pub mod stdout;

pub use self::contract::{
    Delivery, DeliveryId, Held, Rejection, Sink, SinkContext, Submit, Verdict, Verdicts,
};
pub use self::error::{SinkError, SinkErrorKind};
pub use self::read_back::{Position, RecordSender, StoredRecord};

#[cfg(test)]
pub(crate) mod testing;
