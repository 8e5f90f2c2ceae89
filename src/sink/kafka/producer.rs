//! Hands events to librdkafka, as far as there is room.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;

use super::batch_refusal::Plan;
use super::client::ANSWER_WITHIN;
use super::client_threads::ThreadGroup;
use super::in_flight::{KafkaInFlight, size};
use super::reconnect_state::ReconnectState;
use super::records::Records;
use super::running_clients::RunningClients;
use crate::sink::{Delivery, SinkError, Submit, Verdict};

pub(super) struct KafkaProducer {
    pub(super) running: Option<RunningClients>,
    pub(super) in_flight: Arc<KafkaInFlight>,
    pub(super) records: Records,
    pub(super) partitions: NonZeroU32,
    pub(super) reconnect_state: ReconnectState,
    pub(super) threads: ThreadGroup,
}

impl KafkaProducer {
    fn partition(&self, delivery: &Delivery) -> u32 {
        delivery.event.key.partition(self.partitions)
    }

    /// Hands one delivery to its client, or to the next transaction. `Ok` means that it was
    /// accepted, or is rejected for good.
    ///
    /// # Errors
    /// librdkafka did not accept it, and the connection ends.
    fn send(&self, delivery: &Delivery) -> Result<(), SinkError> {
        let partition = self.partition(delivery);
        let closed = || SinkError::unavailable("the client is closed");
        let running = self.running.as_ref().ok_or_else(closed)?;
        let Some(gate) = &running.gate else {
            let client = running.client(partition).ok_or_else(closed)?;
            return self.records.send(client, delivery, partition).map(drop);
        };
        if !gate.submit(delivery.clone(), partition) {
            let retry = Verdict::Retry(self.in_flight.collateral_failure());
            self.in_flight.report(delivery.id, size(delivery), retry);
        }
        Ok(())
    }

    /// Returns how many of these deliveries may be sent now. In a transaction no record can overtake one that
    /// was refused, because then none of them is committed.
    fn admit(&self, offered: &[Delivery]) -> usize {
        if self.running.as_ref().is_some_and(|running| running.gate.is_some()) {
            return offered.len();
        }
        self.in_flight.admit(offered.iter().map(|delivery| (delivery.id, self.partition(delivery))))
    }
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
        let admitted = self.admit(&deliveries[kept..count]);
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
