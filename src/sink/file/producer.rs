//! Takes events: makes lines of them and hands these to the journal's writer.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::config::Format;
use super::in_flight::FileInFlight;
use super::line;
use crate::journal::JournalWriter;
use crate::journal::name::{FileSlot, Stems};
use crate::sink::{Delivery, DeliveryId, SinkError, Submit};

/// The most deliveries without a verdict; enough for one group to gather while another is synced.
pub(super) const MAX_DELIVERIES: usize = 4096;
/// The most bytes of lines not yet durable.
pub(super) const MAX_BYTES: usize = 4 << 20;

pub(super) struct FileProducer {
    pub(super) writer: Arc<JournalWriter<DeliveryId>>,
    pub(super) outbox: Arc<FileInFlight>,
    pub(super) stems: Stems,
    pub(super) format: Format,
    pub(super) partitions: Option<NonZeroU32>,
}

impl FileProducer {
    fn slot(&self, delivery: &Delivery) -> FileSlot {
        let event = &delivery.event;
        let millis = || event.message.timestamp.unwrap_or_else(|| Timestamp::now().as_millisecond());
        // Without a number of partitions no name has one: the settings were checked.
        let partition = || self.partitions.map_or(0, |partitions| event.key.partition(partitions));
        self.stems.slot(millis, partition)
    }
}

#[async_trait]
impl Submit for FileProducer {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        let room = MAX_DELIVERIES.saturating_sub(self.outbox.in_flight());
        let accepted = self.writer.append(|group, writing| {
            let (mut accepted, mut refused) = (0, 0);
            for delivery in deliveries.iter().take(room) {
                let bytes = writing + group.bytes();
                if bytes > 0 && bytes + delivery.event.body().len() > MAX_BYTES {
                    break;
                }
                accepted += 1;
                let write =
                    |lines: &mut Vec<u8>| line::append(lines, &delivery.event, self.format, self.partitions);
                if let Err(rejection) = group.append(self.slot(delivery), delivery.id, write) {
                    refused += 1;
                    self.outbox.refuse(delivery.id, rejection);
                }
            }
            self.outbox.accepted(accepted - refused);
            accepted
        });
        match accepted {
            Some(accepted) => Ok(accepted),
            // Paused, and the verdicts that say so are waiting to be taken; or broken.
            None => self.outbox.broken().map_or(Ok(0), Err),
        }
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.writer.drain();
        self.writer.ended().wait().await;
        self.outbox.broken().map_or(Ok(()), Err)
    }
}
