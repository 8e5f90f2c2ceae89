//! Keeps the clients of one connection running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use super::commit_gate::CommitGate;
use super::delivery_reports::KafkaClient;

/// Keeps the clients running until it is dropped.
pub(super) struct RunningClients {
    pub(super) clients: Vec<Arc<KafkaClient>>,
    /// Where deliveries wait for their commit; `None` without transactions.
    pub(super) gate: Option<Arc<CommitGate>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) check_request: SyncSender<()>,
}

impl RunningClients {
    /// The client of a partition, always the same one (I3).
    pub(super) fn client(&self, partition: u32) -> Option<&KafkaClient> {
        let place = (partition as usize).checked_rem(self.clients.len())?;
        self.clients.get(place).map(Arc::as_ref)
    }
}

impl Drop for RunningClients {
    fn drop(&mut self) {
        // Our own handles go first: a thread destroys the client, because that may take some time.
        self.clients.clear();
        self.stop.store(true, Ordering::Release);
        let _due = self.check_request.try_send(());
    }
}
