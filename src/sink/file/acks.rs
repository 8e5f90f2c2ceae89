//! Gives the verdicts on events once the journal has synced or failed to write their group.

use std::sync::Arc;

use async_trait::async_trait;

use super::in_flight::FileInFlight;
use crate::journal::{JournalWriter, WriterEnd};
use crate::sink::{DeliveryId, SinkError, Verdict, Verdicts};

pub(super) struct FileAcks {
    pub(super) writer: Arc<JournalWriter<DeliveryId>>,
    pub(super) in_flight: Arc<FileInFlight>,
    pub(super) ended: WriterEnd,
}

#[async_trait]
impl Verdicts for FileAcks {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        let over = tokio::select! {
            biased;
            () = self.in_flight.wait() => false,
            () = self.ended.wait() => true,
        };
        let verdicts = self.in_flight.take();
        if verdicts.is_empty() {
            let silent = || SinkError::unavailable("the thread that writes the files has ended");
            debug_assert!(over || self.in_flight.broken().is_some());
            return Err(self.in_flight.broken().unwrap_or_else(silent));
        }
        if verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Retry(_))) {
            // The worker now knows of the failure: all it submits from here on comes after the failed events.
            self.writer.resume();
        }
        Ok(verdicts)
    }
}
