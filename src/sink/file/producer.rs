//! Takes events, makes lines of them, and hands the lines to the journal's writer.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::config::Format;
use super::in_flight::FileInFlight;
use super::line;
use crate::journal::JournalWriter;
use crate::journal::name_template::{FileSlot, Stems};
use crate::sink::{Delivery, DeliveryId, SinkError, Submit};

/// The most deliveries without a verdict. This is enough for one group to collect while another is synced.
pub(super) const MAX_DELIVERIES: usize = 4096;
/// The most bytes of lines that are not durable yet.
pub(super) const MAX_BYTES: usize = 4 << 20;

pub(super) struct FileProducer {
    pub(super) writer: Arc<JournalWriter<DeliveryId>>,
    pub(super) in_flight: Arc<FileInFlight>,
    pub(super) stems: Stems,
    pub(super) format: Format,
    pub(super) partitions: Option<NonZeroU32>,
}

impl FileProducer {
    fn slot(&self, delivery: &Delivery) -> FileSlot {
        let event = &delivery.event;
        let millis = || event.message.timestamp.unwrap_or_else(|| Timestamp::now().as_millisecond());
        // Without a number of partitions, the checked settings allow no `{partition}` in the name.
        let partition = || self.partitions.map_or(0, |partitions| event.key.partition(partitions));
        self.stems.slot(millis, partition)
    }
}

#[async_trait]
impl Submit for FileProducer {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        let room = MAX_DELIVERIES.saturating_sub(self.in_flight.count());
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
                let id = [&delivery.event.message.id];
                if let Err(rejection) = group.append(self.slot(delivery), delivery.id, id, write) {
                    refused += 1;
                    self.in_flight.refuse(delivery.id, rejection);
                }
            }
            self.in_flight.accepted(accepted - refused);
            accepted
        });
        match accepted {
            Some(accepted) => Ok(accepted),
            // The writer is paused until the worker takes the `Retry` verdicts, or the connection is broken.
            None => self.in_flight.broken().map_or(Ok(0), Err),
        }
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.writer.drain();
        self.writer.ended().wait().await;
        self.in_flight.broken().map_or(Ok(()), Err)
    }
}
