//! Gives the verdicts on events, once their group is synced.

use std::sync::Arc;

use async_trait::async_trait;

use super::in_flight::FileInFlight;
use crate::journal::{JournalWriter, WriterEnd};
use crate::sink::{DeliveryId, SinkError, Verdict, Verdicts};

pub(super) struct FileAcks {
    pub(super) writer: Arc<JournalWriter<DeliveryId>>,
    pub(super) outbox: Arc<FileInFlight>,
    pub(super) ended: WriterEnd,
}

#[async_trait]
impl Verdicts for FileAcks {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        let over = tokio::select! {
            biased;
            () = self.outbox.wait() => false,
            () = self.ended.wait() => true,
        };
        let verdicts = self.outbox.take();
        if verdicts.is_empty() {
            let silent = || SinkError::unavailable("the thread that writes the files has ended");
            debug_assert!(over || self.outbox.broken().is_some());
            return Err(self.outbox.broken().unwrap_or_else(silent));
        }
        if verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Retry(_))) {
            // The lane knows now: what it submits from here on comes after what failed.
            self.writer.resume();
        }
        Ok(verdicts)
    }
}
