//! Refuses every event without a usable key, as a sink. These events then take the same path as the events
//! that a real sink refuses: the same recent ids, the same durable dead letters. The sink opens only when the
//! store of dead letters opens, so an error of the store shows before the first such event comes (D11).

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::dead_letter::DeadLetterStore;
use crate::event::EventError;
use crate::finding::Finding;
use crate::key::Suggestions;
use crate::sink::{Delivery, DeliveryId, Rejection, Sink, SinkError, Submit, Verdict, Verdicts};

/// How many rejections may wait until the sink worker reads them.
const WINDOW: usize = 64;

/// The sink for events without a usable key, over the store of dead letters that it opens.
pub(super) struct KeylessSink(pub(super) Arc<dyn DeadLetterStore>);

struct KeylessProducer(mpsc::Sender<(DeliveryId, Verdict)>);
struct KeylessAcks(mpsc::Receiver<(DeliveryId, Verdict)>);

#[async_trait]
impl Sink for KeylessSink {
    fn keeps_order(&self) -> bool {
        true
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        self.0.open().await?;
        let (sender, receiver) = mpsc::channel(WINDOW);
        Ok((Box::new(KeylessProducer(sender)), Box::new(KeylessAcks(receiver))))
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        self.0.probe().await
    }
}

#[async_trait]
impl Submit for KeylessProducer {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        for (taken, delivery) in deliveries.iter().enumerate() {
            let (reason, detail) = match &delivery.event.defect {
                Some(defect) => (defect.reason(), detail(defect, delivery.event.body())),
                None => ("unknown", "refused without a reason".to_owned()),
            };
            let verdict = Verdict::Reject(Rejection { reason, detail });
            if self.0.try_send((delivery.id, verdict)).is_err() {
                return Ok(taken);
            }
        }
        Ok(deliveries.len())
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Describes the defect, and names the members of the body that hold an MD5.
fn detail(defect: &EventError, body: &[u8]) -> String {
    let mut found = Suggestions::default();
    found.add(body);
    match found.pointers().as_slice() {
        [] => defect.to_string(),
        pointers => format!("{defect}; there is an MD5 at {}", pointers.join(", ")),
    }
}

#[async_trait]
impl Verdicts for KeylessAcks {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        let mut verdicts = Vec::new();
        if self.0.recv_many(&mut verdicts, WINDOW).await == 0 {
            return Err(SinkError::unavailable("the refusal was closed"));
        }
        Ok(verdicts)
    }
}
