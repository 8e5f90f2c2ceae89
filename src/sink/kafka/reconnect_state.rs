//! Keeps what the deliveries of one connection teach for the next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch_refusal::{BatchRefusals, RefusalScope};
use super::low_water::LowWater;
use crate::sink::{DeliveryId, SinkError, SinkErrorKind};

/// The most records of a transaction.
const TRANSACTION_RECORDS: usize = 4096;

/// Shared by a sink and its connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct ReconnectState(Arc<Mutex<Remembered>>);

struct Remembered {
    batch_bytes: usize,
    last_fatal_error: Option<SinkError>,
    /// The most records of a transaction.
    transaction_records: usize,
    /// Set after a batch was refused, until the cause is clear.
    batch_refusals: Option<BatchRefusals>,
    low_water: LowWater,
}

impl ReconnectState {
    /// Starts with batches of at most `batch_bytes`.
    pub(super) fn new(batch_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Remembered {
            batch_bytes,
            last_fatal_error: None,
            transaction_records: TRANSACTION_RECORDS,
            batch_refusals: None,
            low_water: LowWater::default(),
        })))
    }

    /// The largest batch that the topic may accept, in bytes.
    pub(super) fn batch_bytes(&self) -> usize {
        self.lock().batch_bytes
    }

    /// Records that a batch of a client with `batch_bytes` was too large. Returns the next limit, which is
    /// half of it. A record larger than that travels alone, so halving ends at the record that is too large,
    /// if there is one.
    pub(super) fn shrink_batches(&self, batch_bytes: usize) -> usize {
        let mut remembered = self.lock();
        remembered.batch_bytes = remembered.batch_bytes.min((batch_bytes / 2).max(1));
        remembered.batch_bytes
    }

    /// The most records that a transaction may take.
    pub(super) fn transaction_records(&self) -> usize {
        self.lock().transaction_records
    }

    /// Records that a transaction with so many records took too long: the next ones are half as large, because
    /// the brokers may throttle.
    pub(super) fn transaction_timed_out(&self, records: usize) {
        let mut remembered = self.lock();
        remembered.transaction_records = remembered.transaction_records.min((records / 2).max(1));
    }

    /// Records that a transaction was committed: the next ones may be a little larger again. One that takes too long
    /// costs a session.
    pub(super) fn transaction_committed(&self) {
        let mut remembered = self.lock();
        let larger = remembered.transaction_records + remembered.transaction_records.div_ceil(8);
        remembered.transaction_records = larger.min(TRANSACTION_RECORDS);
    }

    /// Why the last connection ended, if an operator must act. A new connection alone can't know this.
    pub(super) fn last_fatal_error(&self) -> Option<SinkError> {
        self.lock().last_fatal_error.clone()
    }

    /// Records that a connection ended because of `error`, and returns `error`.
    pub(super) fn keep_fatal_error(&self, error: SinkError) -> SinkError {
        let needs_operator = error.kind == SinkErrorKind::Misconfigured;
        self.lock().last_fatal_error = needs_operator.then(|| error.clone());
        error
    }

    /// Whether a batch was refused and the cause is not clear yet.
    pub(super) fn has_refused_batch(&self) -> bool {
        self.lock().batch_refusals.is_some()
    }

    /// Calls `act` if a batch was refused and the cause is not clear yet.
    pub(super) fn with_refusals<T>(&self, act: impl FnOnce(&mut BatchRefusals) -> T) -> Option<T> {
        self.lock().batch_refusals.as_mut().map(act)
    }

    /// Releases the deliveries that were kept back: id and size in bytes.
    pub(super) fn let_go(&self) -> Vec<(DeliveryId, usize)> {
        self.with_refusals(BatchRefusals::let_go).unwrap_or_default()
    }

    /// Records that the topic accepted a record, at `offset` of `partition`.
    pub(super) fn accepted(&self, partition: i32, offset: i64) {
        let mut remembered = self.lock();
        remembered.low_water.durable(partition, offset);
        if remembered.batch_refusals.as_mut().is_some_and(BatchRefusals::accepted) {
            remembered.batch_refusals = None;
        }
    }

    /// Records what a claim has found, see [`LowWater::claimed`].
    pub(super) fn claimed(&self, window: usize, places: impl IntoIterator<Item = (i32, i64)>) {
        self.lock().low_water.claimed(window, places);
    }

    /// The low-water mark of each partition that has one.
    pub(super) fn low_water_marks(&self) -> BTreeMap<i32, i64> {
        self.lock().low_water.marks()
    }

    /// Records that the topic refused a record.
    pub(super) fn refused(&self) -> RefusalScope {
        self.lock().batch_refusals.get_or_insert_with(BatchRefusals::new).refused()
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
