//! One sink's queue, task and retry. A lane retries alone and for ever; whatever its sink does, it goes on
//! taking batches and switching sessions, since nothing in its loop waits for anything but the next thing
//! to happen.

mod dead_letter_writes;
mod sink_io;
pub mod state;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, sleep_until};

use self::dead_letter_writes::{DeadLetterWritten, Hold, Notice, pending_write};
use self::sink_io::{SinkHappening, SinkIo, next_of};
use self::state::WorkerState;
use crate::backoff::Backoff;
use crate::dead_letter::{DeadLetter, DeadLetterLimits, DeadLetterStore};
use crate::event::{Batch, Event, SessionId};
use crate::sink::{Delivery, Sink, SinkError, SinkErrorKind};
use crate::telemetry::counters::WorkerCounters;
use crate::telemetry::status::{Status, StatusReporter};
use crate::telemetry::watchdog::LoopMark;

/// Deliveries offered to the sink at once.
const OFFER: usize = 256;

/// What a lane has settled, for the pump.
#[derive(Debug)]
pub struct WorkerReport {
    /// Which lane.
    pub lane: usize,
    /// The session it is about.
    pub session: SessionId,
    /// Positions in it.
    pub positions: Vec<std::ops::RangeInclusive<u64>>,
}

/// What a lane is made of.
pub struct WorkerParts {
    /// Its number in the ledger.
    pub number: usize,
    /// The sink's name, or `event` for the lane of events without a usable key.
    pub name: Arc<str>,
    /// The destination.
    pub sink: Box<dyn Sink>,
    /// Which events it takes.
    pub takes: fn(&Event) -> bool,
    /// How many ids it remembers (I5).
    pub memory: usize,
    /// How many rejections in a row, or altogether, before it holds. `None` in the lane of events without a
    /// usable key: the pump counts those, and no sink has refused them.
    pub limits: Option<DeadLetterLimits>,
    /// Where rejected events go.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// Between tries.
    pub backoff: Backoff,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
    /// Where it says how it is.
    pub reporter: StatusReporter,
    /// Whether it turns.
    pub pulse: LoopMark,
}

/// How a lane is connected to the pump.
pub struct WorkerHandles {
    /// Batches of the current session; closed when nothing more will come.
    pub batches: mpsc::Receiver<Arc<Batch>>,
    /// The current session.
    pub session: watch::Receiver<Option<SessionId>>,
    /// What was settled.
    pub reports: mpsc::Sender<WorkerReport>,
}

/// The sink broke its contract: nothing it says can be trusted any more.
#[derive(Debug, thiserror::Error)]
#[error("sink {sink} broke its contract: {detail}")]
pub struct ContractError {
    sink: Arc<str>,
    detail: String,
}

/// Why a lane has ended before its batches did.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A fault.
    #[error(transparent)]
    BrokenContract(#[from] ContractError),
    /// No fault: whoever read what the sink writes has left for good.
    #[error("sink {sink}: {why}")]
    ReaderGone {
        /// Its name.
        sink: Arc<str>,
        /// In the sink's words.
        why: String,
    },
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs a lane until its batches end and everything taken is settled.
///
/// # Errors
/// The sink broke its contract, or its reader has left.
pub async fn run(parts: WorkerParts, wiring: WorkerHandles) -> Result<(), WorkerError> {
    SinkWorker::new(parts, wiring).run().await
}

struct SinkWorker {
    number: usize,
    name: Arc<str>,
    core: WorkerState,
    sinking: SinkIo,
    limits: Option<DeadLetterLimits>,
    hold: Option<Hold>,
    notice: Notice,
    dead_letters: Arc<dyn DeadLetterStore>,
    /// Rejected, and not yet being written.
    rejected: Vec<DeadLetter>,
    burial: Option<Boxed<DeadLetterWritten>>,
    backoff: Backoff,
    /// Nothing is opened, handed over or buried before this moment.
    wait_until: Option<Instant>,
    counters: Arc<WorkerCounters>,
    reporter: StatusReporter,
    pulse: LoopMark,
    is_ready: bool,
    /// When the sink's health is looked at, and an idle loop turns.
    looks: Interval,
    /// The sink is in a trouble that it rides out by itself.
    ailing: bool,
    /// The sink's reader has left, in its words: the lane ends once all that is settled is reported.
    reader_gone: Option<String>,
    wiring: WorkerHandles,
    ending: bool,
    /// The pump is gone: nothing that is settled from now on will be acknowledged.
    abandoned: bool,
    deliveries: Vec<Delivery>,
}

impl SinkWorker {
    fn new(parts: WorkerParts, wiring: WorkerHandles) -> Self {
        Self {
            number: parts.number,
            name: parts.name,
            core: WorkerState::new(parts.takes, parts.sink.keeps_order(), parts.memory),
            sinking: SinkIo::Closed(parts.sink),
            limits: parts.limits,
            hold: None,
            notice: Notice::default(),
            dead_letters: parts.dead_letters,
            rejected: Vec::new(),
            burial: None,
            backoff: parts.backoff,
            wait_until: None,
            counters: parts.counters,
            reporter: parts.reporter,
            pulse: parts.pulse,
            is_ready: false,
            looks: LoopMark::turns(),
            ailing: false,
            reader_gone: None,
            wiring,
            ending: false,
            abandoned: false,
            deliveries: Vec::with_capacity(OFFER),
        }
    }

    async fn run(mut self) -> Result<(), WorkerError> {
        while !self.abandoned {
            self.pulse.beat();
            self.follow_session();
            if let Some(why) = self.reader_gone.take_if(|_| !self.core.has_settled()) {
                return Err(WorkerError::ReaderGone { sink: self.name, why });
            }
            self.go_on();
            if self.ending && self.is_done() {
                return self.close().await;
            }
            self.step().await?;
        }
        Ok(())
    }

    /// Waits for the next thing to happen. Every arm is cancel-safe, none waits inside, and what finishes
    /// an event comes before what starts one.
    async fn step(&mut self) -> Result<(), ContractError> {
        let reports = self.wiring.reports.clone();
        tokio::select! {
            biased;
            room = reports.reserve(), if self.core.has_settled() => match room {
                Ok(room) => self.report(room),
                Err(_) => self.abandoned = true,
            },
            happened = next_of(&mut self.sinking) => match happened {
                SinkHappening::Opened(sink, opened) => self.on_opened(sink, opened),
                SinkHappening::Verdicts(verdicts) => self.on_verdicts(verdicts)?,
            },
            (letters, outcome) = pending_write(&mut self.burial) => self.on_dead_letters_written(letters, outcome),
            () = wait(self.wait_until) => self.wait_until = None,
            _ = self.looks.tick() => {
                self.look_after_the_sink();
                self.end_hold_without_events();
                self.tell_of_dead_letters(Instant::now());
            }
            changed = self.wiring.session.changed(), if !self.ending => self.abandoned |= changed.is_err(),
            batch = self.wiring.batches.recv(), if !self.ending => match batch {
                Some(batch) => {
                    self.follow_session();
                    self.core.take(&batch);
                }
                None => self.ending = true,
            },
        }
        Ok(())
    }

    fn report(&mut self, room: mpsc::Permit<'_, WorkerReport>) {
        if let Some(session) = self.core.session() {
            let positions = self.core.take_settled();
            room.send(WorkerReport { lane: self.number, session, positions });
        }
    }

    fn follow_session(&mut self) {
        let session = *self.wiring.session.borrow_and_update();
        self.core.switch(session);
    }

    /// Begins whatever can begin now.
    fn go_on(&mut self) {
        if self.wait_until.is_some() {
            return;
        }
        if self.burial.is_none() && !self.rejected.is_empty() {
            self.write_dead_letters();
        }
        if matches!(self.sinking, SinkIo::Closed(_)) {
            self.open();
        }
        if matches!(self.sinking, SinkIo::Open { .. }) {
            self.counters.retried.add(self.core.requeue_failed() as u64);
            self.hand_over();
        }
        self.counters.suppressed.add(self.core.take_suppressed());
    }

    /// Waits before the next try and says why.
    fn report_error(&mut self, error: &SinkError) {
        self.show(error);
        if self.wait_until.is_none() {
            let wait = self.backoff.next_wait();
            self.wait(wait);
        }
    }

    fn wait(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        self.wait_until = Some(until);
        self.reporter.next_try(until.into_std());
    }

    fn show(&mut self, error: &SinkError) {
        self.is_ready = false;
        if error.is_reader_gone() {
            self.reader_gone = Some(error.to_string());
        } else {
            self.reporter.report(match (&self.hold, error.kind) {
                (Some(hold), _) => Status::Held(format!("{}; and now: {error}", hold.text)),
                (None, SinkErrorKind::Unavailable) => Status::Retrying(error.to_string()),
                (None, SinkErrorKind::Misconfigured) => Status::Held(error.to_string()),
            });
        }
    }

    fn ready(&mut self) {
        // That the sink opens says nothing about what it refuses: the waits between offers go on growing.
        if let Some(hold) = &self.hold {
            return self.reporter.report(Status::Held(hold.text.clone()));
        }
        self.backoff.reset();
        if !self.is_ready {
            self.is_ready = true;
            self.reporter.report(Status::Ready);
        }
    }

    fn is_done(&self) -> bool {
        self.core.is_idle() && self.rejected.is_empty() && self.burial.is_none()
    }

    /// Closing is no turn: it may take as long as the drain may.
    async fn close(mut self) -> Result<(), WorkerError> {
        self.tell_the_last_dead_letters();
        drop(self.pulse);
        if let SinkIo::Open { mut submit, .. } = self.sinking
            && let Err(error) = submit.close().await
        {
            tracing::warn!(sink = &*self.name, "closing: {error}");
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
