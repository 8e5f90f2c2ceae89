//! Makes a record of an event and hands it to a client.

use std::sync::Arc;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::classify;
use super::delivery_reports::KafkaClient;
use super::in_flight::{KafkaInFlight, size};
use super::names::Names;
use crate::event::Event;
use crate::sink::headers;
use crate::sink::{Delivery, SinkContext, SinkError, Verdict};

/// The most headers of a record.
const HEADERS: usize = 5;

/// What every record of one connection needs.
pub(super) struct Records {
    pub(super) context: Arc<SinkContext>,
    pub(super) names: Names,
    pub(super) in_flight: Arc<KafkaInFlight>,
    /// The largest record that the client accepts, in bytes.
    pub(super) record_bytes: usize,
}

/// What librdkafka did with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// It has taken the record; a report follows.
    Accepted,
    /// The record is too large and is rejected for good: its verdict is given.
    Rejected,
}

impl Records {
    /// Hands one delivery to librdkafka.
    ///
    /// # Errors
    /// librdkafka did not take it, and the connection ends.
    pub(super) fn send(
        &self,
        client: &KafkaClient,
        delivery: &Delivery,
        partition: u32,
    ) -> Result<SendOutcome, SinkError> {
        let event = &delivery.event;
        let key = event.key.hex();
        // Delivery ids begin at 0 and fit in 64 bits.
        let record = BaseRecord::with_opaque_to(&self.names.topic, delivery.id.0 as usize)
            .partition(i32::try_from(partition).unwrap_or(i32::MAX))
            .key(key.as_slice())
            .payload(event.body().as_ref())
            .headers(headers(event, &self.context));
        let Err((error, _)) = client.send(record) else { return Ok(SendOutcome::Accepted) };
        if let KafkaError::MessageProduction(Code::MessageSizeTooLarge) = error {
            let limit = format!("message.max.bytes, {},", self.record_bytes);
            let rejection = classify::too_large(size(delivery), &limit);
            self.in_flight.report(delivery.id, size(delivery), Verdict::Reject(rejection));
            return Ok(SendOutcome::Rejected);
        }
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        Err(self.in_flight.ending().unwrap_or_else(|| classify::classify_error(code, &self.names)))
    }
}

fn headers(event: &Event, context: &SinkContext) -> OwnedHeaders {
    let mut headers = Some(OwnedHeaders::new_with_capacity(HEADERS));
    headers::each(event, context, |key, value| {
        headers = headers.take().map(|headers| headers.insert(Header { key, value: Some(value) }));
    });
    headers.unwrap_or_default()
}
