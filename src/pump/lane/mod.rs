//! One sink's queue, task and retry. A lane retries alone and for ever; whatever its sink does, it goes on
//! taking batches and switching sessions, since nothing in its loop waits for anything but the next thing
//! to happen.

mod burial;
pub mod core;
mod sinking;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, sleep_until};

use self::burial::{Buried, Hold, Notice, burial};
use self::core::Core;
use self::sinking::{Happened, Sinking, next_of};
use super::dead_letters::{DeadLetter, DeadLetterStore, Limits};
use crate::backoff::Backoff;
use crate::event::{Batch, Event, SessionId};
use crate::sink::{Delivery, Sink, SinkError, SinkErrorKind};
use crate::telemetry::counters::LaneCounters;
use crate::telemetry::pulse::Pulse;
use crate::telemetry::states::{Reporter, State};

/// Deliveries offered to the sink at once.
const OFFER: usize = 256;

/// What a lane has settled, for the pump.
#[derive(Debug)]
pub struct Report {
    /// Which lane.
    pub lane: usize,
    /// The session it is about.
    pub session: SessionId,
    /// Positions in it.
    pub positions: Vec<std::ops::RangeInclusive<u64>>,
}

/// What a lane is made of.
pub struct LaneParts {
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
    pub limits: Option<Limits>,
    /// Where rejected events go.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// Between tries.
    pub backoff: Backoff,
    /// What it counts.
    pub counters: Arc<LaneCounters>,
    /// Where it says how it is.
    pub reporter: Reporter,
    /// Whether it turns.
    pub pulse: Pulse,
}

/// How a lane is connected to the pump.
pub struct LaneWiring {
    /// Batches of the current session; closed when nothing more will come.
    pub batches: mpsc::Receiver<Arc<Batch>>,
    /// The current session.
    pub session: watch::Receiver<Option<SessionId>>,
    /// What was settled.
    pub reports: mpsc::Sender<Report>,
}

/// The sink broke its contract: nothing it says can be trusted any more.
#[derive(Debug, thiserror::Error)]
#[error("sink {sink} broke its contract: {detail}")]
pub struct BrokenContract {
    sink: Arc<str>,
    detail: String,
}

/// Why a lane has ended before its batches did.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// A fault.
    #[error(transparent)]
    BrokenContract(#[from] BrokenContract),
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
pub async fn run(parts: LaneParts, wiring: LaneWiring) -> Result<(), LaneError> {
    Lane::new(parts, wiring).run().await
}

struct Lane {
    number: usize,
    name: Arc<str>,
    core: Core,
    sinking: Sinking,
    limits: Option<Limits>,
    hold: Option<Hold>,
    notice: Notice,
    dead_letters: Arc<dyn DeadLetterStore>,
    /// Rejected, and not yet being written.
    rejected: Vec<DeadLetter>,
    burial: Option<Boxed<Buried>>,
    backoff: Backoff,
    /// Nothing is opened, handed over or buried before this moment.
    wait_until: Option<Instant>,
    counters: Arc<LaneCounters>,
    reporter: Reporter,
    pulse: Pulse,
    is_ready: bool,
    /// When the sink's health is looked at, and an idle loop turns.
    looks: Interval,
    /// The sink is in a trouble that it rides out by itself.
    ailing: bool,
    /// The sink's reader has left, in its words: the lane ends once all that is settled is reported.
    reader_gone: Option<String>,
    wiring: LaneWiring,
    ending: bool,
    /// The pump is gone: nothing that is settled from now on will be acknowledged.
    abandoned: bool,
    deliveries: Vec<Delivery>,
}

impl Lane {
    fn new(parts: LaneParts, wiring: LaneWiring) -> Self {
        Self {
            number: parts.number,
            name: parts.name,
            core: Core::new(parts.takes, parts.sink.keeps_order(), parts.memory),
            sinking: Sinking::Closed(parts.sink),
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
            looks: Pulse::turns(),
            ailing: false,
            reader_gone: None,
            wiring,
            ending: false,
            abandoned: false,
            deliveries: Vec::with_capacity(OFFER),
        }
    }

    async fn run(mut self) -> Result<(), LaneError> {
        while !self.abandoned {
            self.pulse.beat();
            self.follow_session();
            if let Some(why) = self.reader_gone.take_if(|_| !self.core.has_settled()) {
                return Err(LaneError::ReaderGone { sink: self.name, why });
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
    async fn step(&mut self) -> Result<(), BrokenContract> {
        let reports = self.wiring.reports.clone();
        tokio::select! {
            biased;
            room = reports.reserve(), if self.core.has_settled() => match room {
                Ok(room) => self.report(room),
                Err(_) => self.abandoned = true,
            },
            happened = next_of(&mut self.sinking) => match happened {
                Happened::Opened(sink, opened) => self.on_opened(sink, opened),
                Happened::Verdicts(verdicts) => self.on_verdicts(verdicts)?,
            },
            (letters, outcome) = burial(&mut self.burial) => self.on_buried(letters, outcome),
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

    fn report(&mut self, room: mpsc::Permit<'_, Report>) {
        if let Some(session) = self.core.session() {
            let positions = self.core.take_settled();
            room.send(Report { lane: self.number, session, positions });
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
            self.bury();
        }
        if matches!(self.sinking, Sinking::Closed(_)) {
            self.open();
        }
        if matches!(self.sinking, Sinking::Open { .. }) {
            self.counters.retried.add(self.core.regroup() as u64);
            self.hand_over();
        }
        self.counters.suppressed.add(self.core.take_suppressed());
    }

    /// Waits before the next try and says why.
    fn trouble(&mut self, error: &SinkError) {
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
                (Some(hold), _) => State::Held(format!("{}; and now: {error}", hold.text)),
                (None, SinkErrorKind::Unavailable) => State::Retrying(error.to_string()),
                (None, SinkErrorKind::Misconfigured) => State::Held(error.to_string()),
            });
        }
    }

    fn ready(&mut self) {
        // That the sink opens says nothing about what it refuses: the waits between offers go on growing.
        if let Some(hold) = &self.hold {
            return self.reporter.report(State::Held(hold.text.clone()));
        }
        self.backoff.reset();
        if !self.is_ready {
            self.is_ready = true;
            self.reporter.report(State::Ready);
        }
    }

    fn is_done(&self) -> bool {
        self.core.is_idle() && self.rejected.is_empty() && self.burial.is_none()
    }

    /// Closing is no turn: it may take as long as the drain may.
    async fn close(mut self) -> Result<(), LaneError> {
        self.tell_the_last_dead_letters();
        drop(self.pulse);
        if let Sinking::Open { mut submit, .. } = self.sinking
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
