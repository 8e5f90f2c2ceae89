//! Returns the verdicts that the delivery reports bring.

use std::sync::Arc;

use async_trait::async_trait;

use super::in_flight::KafkaInFlight;
use super::reconnect_state::ReconnectState;
use crate::sink::{DeliveryId, SinkError, Verdict, Verdicts};

pub(super) struct KafkaAcks {
    pub(super) in_flight: Arc<KafkaInFlight>,
    pub(super) reconnect_state: ReconnectState,
}

#[async_trait]
impl Verdicts for KafkaAcks {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        self.in_flight.wait().await;
        let verdicts = self.in_flight.take();
        if !verdicts.is_empty() {
            return Ok(verdicts);
        }
        let silent = || SinkError::unavailable("the client said nothing");
        Err(self.reconnect_state.keep_fatal_error(self.in_flight.ending().unwrap_or_else(silent)))
    }

    fn health(&self) -> Result<(), SinkError> {
        self.in_flight.health()
    }

    fn forget_refused(&self) {
        self.in_flight.forget_fatal_error();
    }
}
