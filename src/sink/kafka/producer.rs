//! Hands events to librdkafka as records.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::batch_refusal::Plan;
use super::classify;
use super::client::ANSWER_WITHIN;
use super::client_threads::ThreadGroup;
use super::in_flight::KafkaInFlight;
use super::names::Names;
use super::reconnect_state::ReconnectState;
use super::running_clients::RunningClients;
use crate::event::Event;
use crate::sink::headers;
use crate::sink::{Delivery, SinkContext, SinkError, Submit, Verdict};

/// The length of a key in bytes: 32 hex digits.
const KEY: usize = 32;
/// The most headers of a record.
const HEADERS: usize = 5;

pub(super) struct KafkaProducer {
    pub(super) running: Option<RunningClients>,
    pub(super) in_flight: Arc<KafkaInFlight>,
    pub(super) context: Arc<SinkContext>,
    pub(super) names: Names,
    pub(super) partitions: NonZeroU32,
    /// The largest record that the client accepts, in bytes.
    pub(super) record_bytes: usize,
    pub(super) reconnect_state: ReconnectState,
    pub(super) threads: ThreadGroup,
}

impl KafkaProducer {
    fn partition(&self, delivery: &Delivery) -> u32 {
        delivery.event.key.partition(self.partitions)
    }

    /// Hands one delivery to librdkafka. `Ok` means that it was accepted, or is rejected for good.
    ///
    /// # Errors
    /// librdkafka did not accept it, and the connection ends.
    fn send(&self, delivery: &Delivery) -> Result<(), SinkError> {
        let event = &delivery.event;
        let key = event.key.hex();
        let partition = self.partition(delivery);
        let closed = || SinkError::unavailable("the client is closed");
        let client =
            self.running.as_ref().and_then(|running| running.client(partition)).ok_or_else(closed)?;
        // Delivery ids begin at 0 and fit in 64 bits.
        let record = BaseRecord::with_opaque_to(&self.names.topic, delivery.id.0 as usize)
            .partition(i32::try_from(partition).unwrap_or(i32::MAX))
            .key(key.as_slice())
            .payload(event.body().as_ref())
            .headers(headers(event, &self.context));
        let Err((error, _)) = client.send(record) else { return Ok(()) };
        if let KafkaError::MessageProduction(Code::MessageSizeTooLarge) = error {
            let limit = format!("message.max.bytes, {},", self.record_bytes);
            let rejection = classify::too_large(size(delivery), &limit);
            self.in_flight.report(delivery.id, size(delivery), Verdict::Reject(rejection));
            return Ok(());
        }
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        Err(self.in_flight.ending().unwrap_or_else(|| classify::classify_error(code, &self.names)))
    }
}

/// The size that librdkafka's report gives again: body and key, in bytes.
fn size(delivery: &Delivery) -> usize {
    delivery.event.body().len() + KEY
}

fn headers(event: &Event, context: &SinkContext) -> OwnedHeaders {
    let mut headers = Some(OwnedHeaders::new_with_capacity(HEADERS));
    headers::each(event, context, |key, value| {
        headers = headers.take().map(|headers| headers.insert(Header { key, value: Some(value) }));
    });
    headers.unwrap_or_default()
}

#[async_trait]
impl Submit for KafkaProducer {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        // After a refused batch the verdict on the records in flight decides which go next.
        let has_refused_batch = self.reconnect_state.has_refused_batch();
        if has_refused_batch && self.in_flight.is_busy() {
            return Ok(0);
        }
        let room = match self.in_flight.reserve(deliveries.iter().map(size)) {
            Ok(0) => return Ok(0),
            Ok(room) => room,
            Err(error) => return Err(self.reconnect_state.keep_fatal_error(error)),
        };
        // If a batch is refused after the check above, something is in flight. A plan is valid only while
        // nothing is in flight, so there is none then.
        let plan = has_refused_batch
            .then(|| {
                self.reconnect_state
                    .with_refusals(|refusals| refusals.plan(&deliveries[..room], self.partitions))
            })
            .flatten();
        let (kept, count) = match plan {
            None => (0, room),
            Some(Plan::Send(count)) => (0, count.min(room)),
            Some(Plan::KeepBack(kept)) => (kept, kept + 1),
        };
        let offered = deliveries[kept..count].iter();
        let admitted = self.in_flight.admit(offered.map(|delivery| (delivery.id, self.partition(delivery))));
        let (kept, count) = if admitted == 0 { (0, 0) } else { (kept, kept + admitted) };
        self.in_flight.give_back(deliveries[count..room].iter().map(size));
        let held = deliveries[..kept].iter().map(|delivery| (delivery.id, size(delivery)));
        self.reconnect_state.with_refusals(|refusals| refusals.keep_back(held));
        for (taken, delivery) in (kept..).zip(&deliveries[kept..count]) {
            let Err(error) = self.send(delivery) else { continue };
            self.in_flight.give_back(deliveries[taken..count].iter().map(size));
            self.in_flight.end(error.clone());
            for (held, size) in self.reconnect_state.let_go() {
                self.in_flight.report(held, size, Verdict::Retry(error.clone()));
            }
            // If something is in flight, its reports come first, and then the end.
            let is_answered = taken == 0 && !self.in_flight.is_busy();
            return if is_answered { Err(self.reconnect_state.keep_fatal_error(error)) } else { Ok(taken) };
        }
        Ok(count)
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.running = None;
        // A client that is destroyed while the process ends would use memory that is gone.
        let over = tokio::time::timeout(ANSWER_WITHIN, self.threads.ended()).await;
        over.map_err(|_| SinkError::unavailable("the client does not end"))
    }
}
