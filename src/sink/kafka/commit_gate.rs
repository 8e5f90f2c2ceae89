//! Keeps the deliveries of a transactional client until their transaction is committed and can be read. A record
//! that the brokers have accepted is not durable before that (D50).
//!
//! The sink worker puts deliveries in, the delivery reports tell which records were accepted, and the thread
//! of the client (`transactions.rs`) takes what goes into the next transaction and what a commit made durable.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::in_flight::size;
use super::tail_end::TopicEnd;
use crate::sink::{Delivery, DeliveryId, SinkError};

/// A delivery and its size in bytes.
pub(super) type SizedDelivery = (DeliveryId, usize);

/// Where the answer to a [`ClaimCommand`] goes.
pub(super) type ReplySender = oneshot::Sender<Result<(), SinkError>>;

/// What the claim of a connection asks for.
pub(super) enum ClaimCommand {
    /// Take the transactional id over.
    Initialise,
    /// Discard what earlier transactions have left open in these partitions.
    DiscardOpen(Vec<i32>),
}

/// Shared by the sink worker, the reports and the thread of the client.
#[derive(Default)]
pub(super) struct CommitGate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    /// Deliveries with their partitions that librdkafka does not have yet.
    submitted: VecDeque<(Delivery, u32)>,
    /// How many records of the transaction have no report yet.
    unreported: usize,
    /// Records of the transaction that the brokers have accepted.
    accepted: Vec<SizedDelivery>,
    /// Behind the last one of them in each partition.
    end: TopicEnd,
    /// A record of the transaction was not accepted, so the transaction must not be committed.
    is_spoilt: bool,
    is_initialised: bool,
    command: Option<(ClaimCommand, ReplySender)>,
    /// The connection has ended: nothing becomes durable any more.
    is_closed: bool,
}

/// What the thread of the client does next.
pub(super) enum ClientTask {
    /// Do what the claim asks for, and send the result.
    Command(ClaimCommand, ReplySender),
    /// Begin a transaction with the deliveries that wait.
    Transaction,
}

/// How far the current transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TransactionProgress {
    /// How many records have no report yet.
    pub(super) unreported: usize,
    pub(super) is_spoilt: bool,
}

impl CommitGate {
    /// Asks for the transactional id, which ends every other writer with this id. `None`: the client has it
    /// already.
    pub(super) fn initialise(&self) -> Option<oneshot::Receiver<Result<(), SinkError>>> {
        let state = self.lock();
        if state.is_initialised && !state.is_closed {
            return None;
        }
        Some(self.command(state, ClaimCommand::Initialise))
    }

    /// Asks for the end of what earlier transactions with this id have left open in these partitions.
    pub(super) fn discard_open(&self, partitions: Vec<i32>) -> oneshot::Receiver<Result<(), SinkError>> {
        self.command(self.lock(), ClaimCommand::DiscardOpen(partitions))
    }

    fn command(
        &self,
        mut state: MutexGuard<'_, GateState>,
        command: ClaimCommand,
    ) -> oneshot::Receiver<Result<(), SinkError>> {
        let (answer, answered) = oneshot::channel();
        // Without a thread the answer is dropped, which is an error for the caller.
        state.command = (!state.is_closed).then_some((command, answer));
        self.changed.notify_all();
        answered
    }

    /// Notes that the client has its transactional id.
    pub(super) fn initialised(&self) {
        self.lock().is_initialised = true;
    }

    /// Takes a delivery for the next transaction. Returns false if the connection has ended.
    pub(super) fn submit(&self, delivery: Delivery, partition: u32) -> bool {
        let mut state = self.lock();
        if state.is_closed {
            return false;
        }
        state.submitted.push_back((delivery, partition));
        if state.submitted.len() == 1 {
            self.changed.notify_all();
        }
        true
    }

    /// Keeps a record that the brokers have accepted, at `offset` of `partition`, until its transaction is committed.
    /// Returns false if the connection has ended.
    pub(super) fn accepted(&self, id: DeliveryId, bytes: usize, (partition, offset): (i32, i64)) -> bool {
        let mut state = self.lock();
        state.unreported = state.unreported.saturating_sub(1);
        if !state.is_closed {
            state.accepted.push((id, bytes));
            state.end.add(partition, offset);
        }
        if state.unreported == 0 {
            self.changed.notify_all();
        }
        !state.is_closed
    }

    /// Notes that a record of the transaction was not accepted.
    pub(super) fn refused(&self) {
        let mut state = self.lock();
        state.unreported = state.unreported.saturating_sub(1);
        state.is_spoilt = true;
        self.changed.notify_all();
    }

    /// Waits for something to do, at most for `limit`.
    pub(super) fn work(&self, limit: Duration) -> Option<ClientTask> {
        let is_idle = |state: &mut GateState| state.command.is_none() && state.submitted.is_empty();
        let mut state = self.wait_while(limit, is_idle);
        if let Some((command, answer)) = state.command.take() {
            return Some(ClientTask::Command(command, answer));
        }
        (!state.submitted.is_empty()).then_some(ClientTask::Transaction)
    }

    /// Takes at most `most` deliveries into the transaction.
    pub(super) fn take(&self, most: usize) -> Vec<(Delivery, u32)> {
        let mut state = self.lock();
        let count = most.min(state.submitted.len());
        state.unreported += count;
        state.submitted.drain(..count).collect()
    }

    /// Notes that a delivery that was taken is rejected by librdkafka itself: it has its verdict.
    pub(super) fn rejected(&self) {
        let mut state = self.lock();
        state.unreported = state.unreported.saturating_sub(1);
    }

    /// Waits until every record of the transaction is reported or one was refused, at most for `limit`.
    pub(super) fn progress(&self, limit: Duration) -> TransactionProgress {
        let state = self.wait_while(limit, |state| state.unreported > 0 && !state.is_spoilt);
        TransactionProgress { unreported: state.unreported, is_spoilt: state.is_spoilt }
    }

    /// Takes the end of the transaction: behind its last record in each partition.
    pub(super) fn end(&self) -> TopicEnd {
        take(&mut self.lock().end)
    }

    /// Takes the records that a commit has made durable.
    pub(super) fn committed(&self) -> Vec<SizedDelivery> {
        take(&mut self.lock().accepted)
    }

    /// Ends the gate. Returns the deliveries that are not durable, or whose commit is not known, and have no
    /// report to come.
    pub(super) fn close(&self) -> Vec<SizedDelivery> {
        let mut state = self.lock();
        state.is_closed = true;
        state.command = None;
        let mut open = take(&mut state.accepted);
        open.extend(state.submitted.drain(..).map(|(delivery, _)| (delivery.id, size(&delivery))));
        open
    }

    /// Waits until librdkafka has reported everything that it was given, at most for `limit`. Returns how
    /// many reports are missing.
    pub(super) fn missing_reports(&self, limit: Duration) -> usize {
        self.wait_while(limit, |state| state.unreported > 0).unreported
    }

    fn wait_while(
        &self,
        limit: Duration,
        condition: impl FnMut(&mut GateState) -> bool,
    ) -> MutexGuard<'_, GateState> {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, condition);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::{deliveries, event};

    fn filled(count: u64) -> CommitGate {
        let gate = CommitGate::default();
        let events = (0..count).map(|number| event(number, format!(r#"{{"md5":"{number:032x}"}}"#)));
        for delivery in deliveries(events) {
            assert!(gate.submit(delivery, 0));
        }
        gate
    }

    fn ids(found: &[SizedDelivery]) -> Vec<u64> {
        found.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn accepted_records_wait_for_the_commit_of_their_transaction() {
        let gate = filled(3);
        assert_eq!(gate.take(2).len(), 2);
        assert!(gate.accepted(DeliveryId(0), 1, (5, 41)));
        assert_eq!(gate.progress(Duration::ZERO).unreported, 1);
        assert!(gate.accepted(DeliveryId(1), 1, (5, 42)));
        let progress = gate.progress(Duration::MAX);
        assert_eq!(progress, TransactionProgress { unreported: 0, is_spoilt: false });
        assert_eq!((gate.end().of(5), gate.end().of(5)), (Some(43), None));
        assert_eq!(ids(&gate.committed()), [0, 1]);
        assert_eq!(ids(&gate.committed()), [0; 0]);
    }

    #[test]
    fn an_ended_gate_gives_back_all_that_is_not_committed() {
        let gate = filled(3);
        gate.take(2);
        gate.accepted(DeliveryId(0), 1, (0, 0));
        assert_eq!(ids(&gate.close()), [0, 2], "the report on 1 is to come");
        assert!(!gate.accepted(DeliveryId(1), 1, (0, 1)));
        assert_eq!(gate.missing_reports(Duration::ZERO), 0);
        let late = deliveries([event(9, r#"{"md5":"09"}"#.to_owned())]);
        assert!(!gate.submit(late[0].clone(), 0));
        assert!(gate.initialise().is_some_and(|mut answer| answer.try_recv().is_err()), "nobody answers");
    }

    #[test]
    fn a_refused_record_spoils_its_transaction() {
        let gate = filled(2);
        gate.take(2);
        gate.refused();
        assert!(gate.progress(Duration::MAX).is_spoilt);
    }
}
