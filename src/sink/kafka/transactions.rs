//! Writes the records of a client in transactions, in a thread of its own, because the calls block (D50).
//!
//! A transaction takes what waits, and is committed once all of it is reported. Its records are durable when they can
//! be read (`visibility.rs`), and the next transaction, which collects meanwhile, begins only then: an abort of it
//! would discard what a commit has left open. No delivery is ever aborted: after an unclear outcome the connection
//! ends, and the next one takes the transactional id over, which decides about every open transaction. A client is
//! never used again, because the late end of one transaction could hit the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::classify;
use super::client::{ANSWER_WITHIN, COMMIT_WITHIN, READABLE_WITHIN};
use super::commit_gate::{ClaimCommand, ClientTask, CommitGate};
use super::delivery_reports::{KafkaClient, NO_DELIVERY};
use super::in_flight::{KafkaInFlight, size};
use super::names::Names;
use super::reconnect_state::ReconnectState;
use super::records::{Records, SendOutcome};
use super::transaction_errors;
use super::visibility::Visibility;
use crate::sink::{SinkError, Verdict};

/// The shortest time from the begin of a transaction to the begin of the next. A commit costs the brokers several
/// writes, and a record in each partition, however small the transaction is.
const INTERVAL: Duration = Duration::from_millis(10);
/// How long one call of librdkafka may last, so that the thread notices the end of the connection.
const CALL: Duration = Duration::from_millis(500);
/// How long the thread waits at most before it looks for the end of the connection.
const LOOK: Duration = Duration::from_millis(50);
/// How long the reports on records that were called back may take.
const CALLED_BACK: Duration = Duration::from_millis(500);
/// How long partitions may take to become part of a transaction that discards what is open in them.
const REGISTERED: Duration = Duration::from_secs(1);
/// The longest time that one question what readers see may take.
const LONGEST_QUESTION: Duration = Duration::from_secs(2);
/// The first wait until the readers are looked at again. It doubles, up to [`LOOK`].
const FIRST_PAUSE: Duration = Duration::from_micros(500);

/// The thread of the client.
pub(super) struct TransactionThread {
    pub(super) client: Arc<KafkaClient>,
    pub(super) gate: Arc<CommitGate>,
    pub(super) records: Records,
    pub(super) visibility: Visibility,
    pub(super) names: Names,
    pub(super) in_flight: Arc<KafkaInFlight>,
    pub(super) reconnect_state: ReconnectState,
    pub(super) stop: Arc<AtomicBool>,
    /// When the last transaction has begun.
    pub(super) last_begin: Option<Instant>,
    /// The time from the answer to the last commit to the question that found its transaction visible to readers.
    pub(super) visible_after: Duration,
}

impl TransactionThread {
    /// Works until the connection ends. Then everything without a verdict comes back.
    pub(super) fn run(mut self) {
        while !self.is_over() {
            let done = match self.gate.work(LOOK) {
                Some(ClientTask::Command(command, answer)) => {
                    let done = match command {
                        ClaimCommand::Initialise => self.initialise(),
                        ClaimCommand::DiscardOpen(partitions) => self.discard_open(&partitions),
                    };
                    let _nobody_waits = answer.send(done.clone());
                    done
                }
                Some(ClientTask::Transaction) => self.transaction(),
                None => Ok(()),
            };
            self.visibility.poll();
            if let Err(error) = done {
                self.in_flight.end(error);
            }
        }
        self.give_back();
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.in_flight.ending().is_some()
    }

    /// Takes the transactional id over. From now on no earlier writer with this id can commit, and what it
    /// had not committed is aborted.
    fn initialise(&self) -> Result<(), SinkError> {
        // While the brokers end an open transaction, or load its coordinator, librdkafka asks again by itself.
        let goes_on = |error: &KafkaError| is_timeout(error) || is_retriable(error);
        self.repeated(ANSWER_WITHIN, goes_on, || self.client.init_transactions(CALL))?;
        if let Err(error) = self.visibility.find_leaders(CALL) {
            tracing::debug!("the leaders of {} are not known: {error}", self.names.topic);
        }
        self.gate.initialised();
        Ok(())
    }

    /// Discards what earlier transactions with this id have left open in these partitions, with a transaction that
    /// has no record and is aborted. An open transaction of another producer stays.
    fn discard_open(&self, partitions: &[i32]) -> Result<(), SinkError> {
        let topic = Some(self.names.topic.as_str());
        // librdkafka adds only a partition that it knows to the transaction.
        let find = || self.client.client().fetch_metadata(topic, CALL).map(drop);
        self.repeated(ANSWER_WITHIN, |_| true, find)?;
        self.client.begin_transaction().map_err(|error| self.failure(&error))?;
        for &partition in partitions {
            let record = BaseRecord::<(), (), usize>::with_opaque_to(&self.names.topic, NO_DELIVERY);
            self.client.send(record.partition(partition)).map_err(|(error, _)| self.failure(&error))?;
        }
        // It adds the partition before it sends the record.
        self.client.purge(PurgeConfig::default().queue());
        let began = Instant::now();
        while began.elapsed() < REGISTERED && !self.is_over() {
            pause(LOOK);
        }
        self.repeated(ANSWER_WITHIN, is_timeout, || self.client.abort_transaction(CALL))
    }

    /// Writes and commits one transaction.
    fn transaction(&mut self) -> Result<(), SinkError> {
        pause(self.last_begin.map_or(Duration::ZERO, |begin| INTERVAL.saturating_sub(begin.elapsed())));
        let began = Instant::now();
        self.last_begin = Some(began);
        self.client.begin_transaction().map_err(|error| self.failure(&error))?;
        let records = self.write(began)?;
        self.wait_for_librdkafka(began);
        let left = COMMIT_WITHIN.saturating_sub(began.elapsed());
        let committing = Instant::now();
        if let Err(error) = self.repeated(left, is_timeout, || self.client.commit_transaction(CALL)) {
            if began.elapsed() >= COMMIT_WITHIN {
                self.reconnect_state.transaction_timed_out(records);
            }
            return Err(error);
        }
        self.wait_for_readers(committing)?;
        self.reconnect_state.transaction_committed();
        for (id, bytes) in self.gate.committed() {
            self.in_flight.report(id, bytes, Verdict::Durable);
        }
        Ok(())
    }

    /// Waits until librdkafka has let go of the records. The report on the last one is counted a moment before, and
    /// a commit before that would wait for a tenth of a second.
    fn wait_for_librdkafka(&self, began: Instant) {
        while self.client.in_flight_count() > 0 && began.elapsed() < COMMIT_WITHIN && !self.is_over() {
            pause(Duration::from_micros(50));
        }
    }

    /// Waits until readers see the transaction whose commit has begun at `began`. Later than [`READABLE_WITHIN`] it
    /// may be another bridge that has ended it.
    fn wait_for_readers(&mut self, began: Instant) -> Result<(), SinkError> {
        let end = self.gate.end();
        let committed = Instant::now();
        // A question that comes too early costs the brokers a request for nothing. The first one comes a little earlier
        // than the one that succeeded last, because the brokers may have become faster.
        let mut wait = self.visible_after * 3 / 4;
        let (mut next_wait, mut patience) = (FIRST_PAUSE.max(self.visible_after / 8), CALL);
        let mut answer = Ok(Vec::new());
        loop {
            pause(wait);
            let asked = committed.elapsed();
            let left = READABLE_WITHIN.saturating_sub(began.elapsed());
            if left.is_zero() || self.is_over() {
                let why = || match &answer {
                    Ok(hidden) if hidden.is_empty() => transaction_errors::given_up(&self.names),
                    Ok(hidden) => transaction_errors::hidden(hidden, &self.names),
                    Err(error) => transaction_errors::not_seen(error, &self.names),
                };
                return Err(self.in_flight.ending().unwrap_or_else(why));
            }
            answer = self.visibility.short_of(&end, patience.min(left));
            match &answer {
                Ok(hidden) if hidden.is_empty() && began.elapsed() < READABLE_WITHIN => {
                    self.visible_after = asked.min(LOOK);
                    return Ok(());
                }
                Ok(_) => self.in_flight.touch(),
                Err(error) => {
                    // Brokers may be slow, or far away.
                    if error.rdkafka_error_code() == Some(Code::OperationTimedOut) {
                        patience = (patience * 2).min(LONGEST_QUESTION);
                    }
                    // Who leads a partition may have changed.
                    let _asked_again = self.visibility.find_leaders(CALL);
                }
            }
            (wait, next_wait) = (next_wait, (next_wait * 2).min(LOOK));
        }
    }

    /// Sends what waits, as much as a transaction takes, and waits until all of it is accepted. Returns the
    /// number of records.
    fn write(&self, began: Instant) -> Result<usize, SinkError> {
        let taken = self.send(self.reconnect_state.transaction_records())?;
        let mut unreported = taken;
        loop {
            let progress = self.gate.progress(LOOK);
            if progress.is_spoilt || self.is_over() {
                let known = self.ended().or_else(|| self.in_flight.ending());
                return Err(known.unwrap_or_else(|| transaction_errors::given_up(&self.names)));
            }
            if progress.unreported < unreported {
                unreported = progress.unreported;
                self.in_flight.touch();
            }
            if unreported == 0 {
                return Ok(taken);
            }
            if began.elapsed() >= COMMIT_WITHIN {
                self.reconnect_state.transaction_timed_out(taken);
                return Err(transaction_errors::not_committed(&self.names));
            }
        }
    }

    fn send(&self, most: usize) -> Result<usize, SinkError> {
        let taken = self.gate.take(most);
        let count = taken.len();
        let mut taken = taken.into_iter();
        for (delivery, partition) in taken.by_ref() {
            match self.records.send(&self.client, &delivery, partition) {
                Ok(SendOutcome::Accepted) => {}
                Ok(SendOutcome::Rejected) => self.gate.rejected(),
                Err(error) => {
                    let unsent = std::iter::once((delivery, partition)).chain(taken);
                    for (delivery, _) in unsent {
                        self.gate.rejected();
                        let retry = Verdict::Retry(error.clone());
                        self.in_flight.report(delivery.id, size(&delivery), retry);
                    }
                    return Err(self.ended().unwrap_or(error));
                }
            }
        }
        Ok(count)
    }

    /// Repeats a call that goes on where it was when its time was over.
    fn repeated(
        &self,
        within: Duration,
        goes_on: impl Fn(&KafkaError) -> bool,
        call: impl Fn() -> KafkaResult<()>,
    ) -> Result<(), SinkError> {
        let began = Instant::now();
        while let Err(error) = call() {
            if !goes_on(&error) || self.is_over() || began.elapsed() >= within {
                return Err(self.failure(&error));
            }
        }
        Ok(())
    }

    /// Why librdkafka has ended the client, if it has.
    fn ended(&self) -> Option<SinkError> {
        let (code, reason) = self.client.client().fatal_error()?;
        Some(classify::fatal(code, &reason, &self.names))
    }

    fn failure(&self, error: &KafkaError) -> SinkError {
        self.ended().unwrap_or_else(|| {
            let code = match error {
                KafkaError::Transaction(error) => error.code(),
                error => error.rdkafka_error_code().unwrap_or(Code::Unknown),
            };
            transaction_errors::failed(code, error, &self.names)
        })
    }

    /// Gives everything back that has no verdict. Whether it is durable shows when the next connection has
    /// taken over the transactional id and read the topic.
    fn give_back(&self) {
        let retry = || Verdict::Retry(self.in_flight.collateral_failure());
        for (id, bytes) in self.gate.close() {
            self.in_flight.report(id, bytes, retry());
        }
        self.client.purge(PurgeConfig::default().queue().inflight());
        self.in_flight.abandon(self.gate.missing_reports(CALLED_BACK));
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, and librdkafka does not tell")]
fn pause(time: Duration) {
    sleep(time);
}

fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_retriable())
}

fn is_timeout(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.code() == Code::OperationTimedOut && error.is_retriable(),
        KafkaError::Flush(code) => *code == Code::OperationTimedOut,
        _ => false,
    }
}
