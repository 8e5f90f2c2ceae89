//! Runs one sink worker: the task that hands events to one sink, retries, and reports what is settled. A
//! worker retries for ever and independently of the others. Whatever its sink does, the worker continues to
//! take batches and to follow the session, because its loop waits at one place only, for the next event of
//! any kind.

mod claim;
#[cfg(test)]
mod claim_tests;
mod dead_letter_writes;
mod fence;
#[cfg(test)]
mod fence_tests;
mod hold;
mod parts;
mod pending_event;
mod sink_io;
pub mod state;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, sleep_until};

use self::parts::{
    Boxed, Claims, DeadLetterWritten, Hold, Notice, SinkHappening, SinkIo, next_of, pending_write,
};
use self::state::WorkerState;
use crate::backoff::Backoff;
use crate::dead_letter::{DeadLetter, DeadLetterLimits, DeadLetterStore};
use crate::event::{Batch, Event, SessionId};
use crate::sink::{Delivery, Sink, SinkError, SinkErrorKind};
use crate::telemetry::counters::WorkerCounters;
use crate::telemetry::status::{Status, StatusReporter};
use crate::telemetry::watchdog::LoopMark;

/// The most deliveries offered to the sink at once.
const OFFER: usize = 256;

/// Tells the dispatcher which events a worker has settled.
#[derive(Debug)]
pub struct WorkerReport {
    pub worker: usize,
    /// The session that the positions belong to.
    pub session: SessionId,
    /// The settled positions in this session.
    pub positions: Vec<std::ops::RangeInclusive<u64>>,
    /// Another bridge has taken the queue over, or may have, so the worker settles nothing more in this session.
    pub is_fenced: bool,
}

/// What [`run`] needs besides the sink.
pub struct WorkerParts {
    /// The number of the worker in the ack tracker.
    pub number: usize,
    /// The sink's name, or `event` for the worker of events without a usable key.
    pub name: Arc<str>,
    /// The name of the queue.
    pub queue: Arc<str>,
    /// Chooses the events that this worker takes.
    pub takes: fn(&Event) -> bool,
    /// How many ids of durable events the worker remembers (I5).
    pub memory: usize,
    /// How many rejections are allowed, in a row and in total, before the worker holds. `None` in the worker
    /// of events without a usable key: the dispatcher counts those, and no sink has refused them.
    pub limits: Option<DeadLetterLimits>,
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// The waiting times between two attempts.
    pub backoff: Backoff,
    pub counters: Arc<WorkerCounters>,
    pub reporter: StatusReporter,
    pub loop_mark: LoopMark,
}

/// The channels between a sink worker and the dispatcher.
pub struct WorkerHandles {
    /// Batches of the current session; closed when no more batches will come.
    pub batches: mpsc::Receiver<Arc<Batch>>,
    /// The current session; `None` between two sessions.
    pub session: watch::Receiver<Option<SessionId>>,
    /// The reports on settled events.
    pub reports: mpsc::Sender<WorkerReport>,
}

/// The sink broke its contract, so its verdicts can't be trusted any more.
#[derive(Debug, thiserror::Error)]
#[error("sink {sink} broke its contract: {detail}")]
pub struct ContractError {
    sink: Arc<str>,
    detail: String,
}

/// Why a worker has ended before its batches did.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The sink broke its contract: a fault in the bridge.
    #[error(transparent)]
    BrokenContract(#[from] ContractError),
    /// The reader of the sink's output has closed it for good. This is no fault. Holds the name of the sink
    /// and its error.
    #[error("sink {0}: {1}")]
    ReaderGone(Arc<str>, String),
}

/// Hands events to `sink` until the batches end and all events taken are settled.
///
/// # Errors
/// The sink broke its contract, or the reader of its output has left.
pub async fn run(sink: Box<dyn Sink>, parts: WorkerParts, handles: WorkerHandles) -> Result<(), WorkerError> {
    SinkWorker::new(sink, parts, handles).run().await
}

struct SinkWorker {
    parts: WorkerParts,
    state: WorkerState,
    sink_io: SinkIo,
    claims: Claims,
    hold: Option<Hold>,
    notice: Notice,
    /// Rejected events that no dead-letter write includes yet.
    rejected: Vec<DeadLetter>,
    dead_letter_write: Option<Boxed<DeadLetterWritten>>,
    /// Before this moment the worker opens nothing, hands nothing over and writes no dead letters.
    wait_until: Option<Instant>,
    is_ready: bool,
    /// When the sink's health is checked. Also lets an idle loop tell the watchdog that it runs.
    health_ticks: Interval,
    /// The sink reports an error that its client library handles by itself, such as an outage.
    degraded: bool,
    /// The error text, once the reader of the sink's output has left. The worker ends when all settled events
    /// are reported.
    reader_gone: Option<String>,
    handles: WorkerHandles,
    ending: bool,
    /// The dispatcher has ended: no event is acknowledged any more.
    abandoned: bool,
    deliveries: Vec<Delivery>,
}

impl SinkWorker {
    fn new(sink: Box<dyn Sink>, parts: WorkerParts, handles: WorkerHandles) -> Self {
        Self {
            state: WorkerState::new(parts.takes, sink.keeps_order(), sink.takes_over(), parts.memory),
            sink_io: SinkIo::Closed(sink),
            claims: Claims::default(),
            parts,
            hold: None,
            notice: Notice::default(),
            rejected: Vec::new(),
            dead_letter_write: None,
            wait_until: None,
            is_ready: false,
            health_ticks: LoopMark::turns(),
            degraded: false,
            reader_gone: None,
            handles,
            ending: false,
            abandoned: false,
            deliveries: Vec::with_capacity(OFFER),
        }
    }

    async fn run(mut self) -> Result<(), WorkerError> {
        while !self.abandoned {
            self.parts.loop_mark.beat();
            self.follow_session();
            if let Some(why) = self.reader_gone.take_if(|_| !self.state.has_settled()) {
                return Err(WorkerError::ReaderGone(self.parts.name, why));
            }
            self.go_on();
            if self.ending && self.is_done() {
                return self.close().await;
            }
            self.step().await?;
        }
        Ok(())
    }

    /// Waits for the next thing to happen, and handles it. Every arm is cancel-safe, and no handler waits.
    /// The arms that finish events come before those that start new ones.
    async fn step(&mut self) -> Result<(), ContractError> {
        let reports = self.handles.reports.clone();
        tokio::select! {
            biased;
            room = reports.reserve(), if self.state.has_news() => match room {
                Ok(room) => self.report(room),
                Err(_) => self.abandoned = true,
            },
            happened = next_of(&mut self.sink_io) => match happened {
                SinkHappening::Opened(sink, opened) => self.on_opened(sink, opened),
                SinkHappening::Claimed(claim) => self.on_claimed(claim)?,
                SinkHappening::Verdicts(verdicts) => self.on_verdicts(verdicts)?,
            },
            (letters, outcome) = pending_write(&mut self.dead_letter_write) => self.on_dead_letters_written(letters, outcome),
            () = wait(self.wait_until) => self.wait_until = None,
            _ = self.health_ticks.tick() => {
                self.check_health();
                self.recover_without_events();
                self.tell_of_dead_letters(Instant::now());
            }
            changed = self.handles.session.changed(), if !self.ending => self.abandoned |= changed.is_err(),
            batch = self.handles.batches.recv(), if !self.ending => match batch {
                Some(batch) => {
                    self.follow_session();
                    self.state.take(&batch);
                }
                None => self.ending = true,
            },
        }
        Ok(())
    }

    fn report(&mut self, room: mpsc::Permit<'_, WorkerReport>) {
        if let Some(session) = self.state.session() {
            let (positions, is_fenced) = (self.state.take_settled(), self.state.take_fence());
            room.send(WorkerReport { worker: self.parts.number, session, positions, is_fenced });
        }
    }

    fn follow_session(&mut self) {
        let session = *self.handles.session.borrow_and_update();
        self.state.switch(session);
    }

    /// Starts all work that can start now.
    fn go_on(&mut self) {
        if self.wait_until.is_some() {
            return;
        }
        if self.dead_letter_write.is_none() && !self.rejected.is_empty() {
            self.write_dead_letters();
        }
        if matches!(self.sink_io, SinkIo::Closed(_)) {
            self.open();
        }
        if matches!(self.sink_io, SinkIo::Open { .. }) {
            self.renew();
        }
        if matches!(self.sink_io, SinkIo::Open { .. }) {
            self.parts.counters.retried.add(self.state.requeue_failed() as u64);
            self.hand_over();
            if self.state.wants_claim() {
                self.claim();
            }
        }
        let suppressed = self.state.take_suppressed();
        self.parts.counters.suppressed.add(suppressed.all);
        // They end a run of refused events, also if this process was started in the middle of the run.
        if self.hold.is_none()
            && let Some(limits) = &mut self.parts.limits
        {
            limits.good(suppressed.found);
        }
    }

    /// Reports the error, and starts the wait before the next attempt.
    fn report_error(&mut self, error: &SinkError) {
        if error.is_fenced() && !self.is_outlived() {
            self.state.fence();
        }
        self.show(error);
        self.wait(Duration::MAX);
    }

    /// Starts the wait before the next attempt, unless it runs already. It lasts at most `longest`.
    fn wait(&mut self, longest: Duration) {
        if self.wait_until.is_none() {
            let until = Instant::now() + self.parts.backoff.next_wait().min(longest);
            self.wait_until = Some(until);
            self.parts.reporter.next_try(until.into_std());
        }
    }

    fn show(&mut self, error: &SinkError) {
        self.is_ready = false;
        if error.is_reader_gone() {
            self.reader_gone = Some(error.to_string());
        } else {
            self.parts.reporter.report(match (&self.hold, error.kind) {
                (Some(hold), _) => Status::Held(format!("{}; and now: {error}", hold.text)),
                (None, SinkErrorKind::Unavailable) => Status::Retrying(error.to_string()),
                (None, SinkErrorKind::Misconfigured) => Status::Held(error.to_string()),
            });
        }
    }

    fn ready(&mut self) {
        // A sink that opens may still refuse the same events, so the waits between the offers must continue
        // to grow.
        if let Some(hold) = &self.hold {
            return self.parts.reporter.report(Status::Held(hold.text.clone()));
        }
        self.parts.backoff.reset();
        if !self.is_ready {
            self.is_ready = true;
            self.parts.reporter.report(Status::Ready);
        }
    }

    fn is_done(&self) -> bool {
        self.state.is_idle()
            && self.rejected.is_empty()
            && self.dead_letter_write.is_none()
            && !matches!(self.sink_io, SinkIo::Claiming(_))
    }

    /// Closes the sink. This may take as long as the drain may, so the watchdog must not expect a beat.
    async fn close(mut self) -> Result<(), WorkerError> {
        self.tell_the_last_dead_letters();
        drop(self.parts.loop_mark);
        if let SinkIo::Open { mut submit, .. } = self.sink_io
            && let Err(error) = submit.close().await
        {
            tracing::warn!(sink = &*self.parts.name, "closing: {error}");
        }
        Ok(())
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}
