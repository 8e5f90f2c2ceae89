//! The task that owns a source and its ledger: takes messages, makes events of them, shares them out to
//! the lanes, and acknowledges the settled prefix. Single owner, no locks.

pub mod ack_tracker;
mod keyless_limits;
mod keyless_sink;
mod recent_ids;
pub mod worker;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::ack_tracker::{AckTracker, NotOwedError, SinkSet};
use self::keyless_limits::KeylessLimits;
use self::keyless_sink::KeylessSink;
use self::worker::{ContractError, WorkerError, WorkerHandles, WorkerParts, WorkerReport};
use crate::backoff::{Backoff, BackoffConfig};
use crate::dead_letter::{DeadLetterLimits, DeadLetterStore};
use crate::event::{Batch, Event, Message, SessionId};
use crate::key::Keying;
use crate::sink::Sink;
use crate::source::{Disconnect, Incoming, Source};
use crate::telemetry::counters::{NO_SINK, SubscriptionCounters};
use crate::telemetry::status::{Status, StatusRegistry, StatusReporter};
use crate::telemetry::watchdog::{LoopMark, Watchdog};

/// The name of the lane that buries events without a usable key.
const EVENT_LANE: &str = "event";

/// So many ids are remembered for each event that may be on the way (I5).
const IDS_PER_EVENT: usize = 4;

/// What a pump is made of.
pub struct PipelineParts {
    /// What tells its parts from those of other pumps, on the boards; `None` where it is the only one.
    pub name: Option<String>,
    /// Where events come from.
    pub source: Box<dyn Source>,
    /// The sinks, by name: 1 to 63.
    pub sinks: Vec<(String, Box<dyn Sink>)>,
    /// Where keys are.
    pub keying: Keying,
    /// The source's prefetch: as many events may be on the way.
    pub prefetch: usize,
    /// Where rejected events go.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// How many may.
    pub limits: DeadLetterLimits,
    /// Between the tries of a sink.
    pub backoff: BackoffConfig,
    /// What is counted.
    pub counters: Arc<SubscriptionCounters>,
    /// Who is in which state.
    pub states: StatusRegistry,
    /// Whose loops turn.
    pub pulses: Watchdog,
}

/// The bridge can't go on; what is un-acked comes again to the next process.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A sink gave a verdict nobody asked for.
    #[error(transparent)]
    BrokenContract(#[from] ContractError),
    /// A lane settled what it does not owe.
    #[error(transparent)]
    NotOwed(#[from] NotOwedError),
    /// A lane's task panicked or ended by itself.
    #[error("lane {0} has ended: {1}")]
    LaneEnded(String, String),
    /// An event that no lane owes would count as settled, and a lane beyond the last would be taken for
    /// another: nothing is taken at all (I1).
    #[error("a subscription has 1 to {most} sinks, not {0}", most = SinkSet::MOST - 1)]
    Sinks(usize),
    /// The source's task has ended by itself.
    #[error("the source has ended")]
    SourceEnded,
    /// No fault, but an end all the same: whoever read what a sink writes has left for good.
    #[error("{0}")]
    ReaderGone(String),
}

/// Runs until `drain` is cancelled and everything taken is settled and acknowledged; how sure that is, the broker
/// has said. Dropping the future instead abandons: nothing more is acknowledged. Its parts are on the boards when this returns, before the
/// future is polled.
///
/// # Errors
/// A fault in the bridge itself, never trouble of a broker or sink.
///
/// # Panics
/// Outside a runtime, since it starts the lanes.
pub fn run(
    parts: PipelineParts,
    drain: CancellationToken,
) -> impl Future<Output = Result<Disconnect, PipelineError>> + Send {
    let pump = match parts.sinks.len() {
        1..SinkSet::MOST => Ok(Dispatcher::new(parts)),
        sinks => Err(PipelineError::Sinks(sinks)),
    };
    async move { pump?.run(drain).await }
}

/// A lane's name and how it ended.
type WorkerEnd = (String, Result<(), WorkerError>);

struct Dispatcher {
    source: Box<dyn Source>,
    keying: Keying,
    ledger: AckTracker,
    /// The lanes that owe an event with a usable key.
    sinks: SinkSet,
    /// The lane that owes an event without.
    refusal: SinkSet,
    batches: Vec<mpsc::Sender<Arc<Batch>>>,
    session: watch::Sender<Option<SessionId>>,
    reports: mpsc::Receiver<WorkerReport>,
    lanes: JoinSet<WorkerEnd>,
    keyless: KeylessLimits,
    /// Too many events have no usable key: nothing more is taken before a restart.
    held: bool,
    reporter: StatusReporter,
    counters: Arc<SubscriptionCounters>,
    pulse: Option<LoopMark>,
    draining: bool,
    /// Events of the last session that were taken and not settled when it was lost, until there is another.
    unsettled: usize,
}

impl Dispatcher {
    fn new(parts: PipelineParts) -> Self {
        let part = |part: &str| match &parts.name {
            Some(name) => format!("{part} {name}"),
            None => part.to_owned(),
        };
        let (session, _) = watch::channel(None);
        let (report, reports) = mpsc::channel(64);
        let mut pump = Self {
            source: parts.source,
            keying: parts.keying,
            ledger: AckTracker::default(),
            sinks: SinkSet::default(),
            refusal: SinkSet::of(parts.sinks.len()),
            batches: Vec::new(),
            session,
            reports,
            lanes: JoinSet::new(),
            keyless: KeylessLimits::new(parts.limits.clone(), parts.prefetch * IDS_PER_EVENT),
            held: false,
            reporter: parts.states.reporter(part("events")),
            counters: Arc::clone(&parts.counters),
            pulse: Some(parts.pulses.pulse(part("events"))),
            draining: false,
            unsettled: 0,
        };
        pump.reporter.report(Status::Ready);
        let refusal = Box::new(KeylessSink(Arc::clone(&parts.dead_letters)));
        let refusal: (String, Box<dyn Sink>) = (EVENT_LANE.to_owned(), refusal);
        for (number, (name, sink)) in parts.sinks.into_iter().chain([refusal]).enumerate() {
            let refuses = SinkSet::of(number) == pump.refusal;
            if !refuses {
                pump.sinks = pump.sinks.with(SinkSet::of(number));
            }
            let label = if refuses { part("dead letters") } else { format!("sink {name}") };
            let lane = WorkerParts {
                number,
                counters: parts.counters.worker(if refuses { NO_SINK } else { &name }),
                pulse: parts.pulses.pulse(label.clone()),
                reporter: parts.states.reporter(label),
                name: name.into(),
                sink,
                takes: if refuses { |event| event.defect.is_some() } else { |event| event.defect.is_none() },
                memory: parts.prefetch * IDS_PER_EVENT,
                limits: (!refuses).then(|| parts.limits.clone()),
                dead_letters: Arc::clone(&parts.dead_letters),
                backoff: Backoff::new(parts.backoff),
            };
            pump.start_worker(lane, report.clone(), parts.prefetch);
        }
        pump
    }

    fn start_worker(&mut self, lane: WorkerParts, reports: mpsc::Sender<WorkerReport>, prefetch: usize) {
        // Every batch that waits here holds an un-acked event, so there are never more than the prefetch.
        let (sender, batches) = mpsc::channel(prefetch);
        self.batches.push(sender);
        let wiring = WorkerHandles { batches, session: self.session.subscribe(), reports };
        let name = lane.name.to_string();
        self.lanes.spawn(async move { (name, worker::run(lane, wiring).await) });
    }

    async fn run(mut self, drain: CancellationToken) -> Result<Disconnect, PipelineError> {
        let mut turns = LoopMark::turns();
        while !(self.draining && self.ledger.outstanding() == 0) {
            self.show();
            // Every arm is cancel-safe; what finishes events comes before what brings new ones.
            tokio::select! {
                biased;
                report = self.reports.recv() => self.on_report(report)?,
                ended = self.lanes.join_next() => return Err(self.stop_after(ended).await),
                () = drain.cancelled(), if !self.draining => {
                    self.draining = true;
                    self.reporter.report(Status::Starting("draining".to_owned()));
                }
                incoming = self.source.next() => {
                    let incoming = incoming.ok_or(PipelineError::SourceEnded)?;
                    self.on_incoming(incoming).await;
                }
                // An idle loop turns all the same.
                _ = turns.tick() => {}
            }
        }
        self.show();
        // Closing is no turn: it may take as long as the drain may.
        self.pulse = None;
        let mut goodbye = self.source.close().await;
        if self.unsettled > 0 {
            tracing::warn!(
                "the connection was lost before {} of the events taken were settled: the broker delivers them again",
                self.unsettled
            );
            goodbye = Disconnect::Unsettled;
        }
        self.batches.clear();
        while let Some(ended) = self.lanes.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                ended => return Err(worker_ended(Some(ended))),
            }
        }
        Ok(goodbye)
    }

    /// A lane has ended by itself. Where only its reader has left, the broker still hears of all that is settled.
    async fn stop_after(&mut self, ended: Option<Result<WorkerEnd, JoinError>>) -> PipelineError {
        let fault = worker_ended(ended);
        if matches!(fault, PipelineError::ReaderGone(_)) {
            self.pulse = None;
            if self.source.close().await != Disconnect::Confirmed {
                tracing::warn!("the broker did not confirm the goodbye: the last events may come again");
            }
        }
        fault
    }

    /// Leaves for others to see how far it is.
    fn show(&self) {
        self.counters.in_flight.set(self.ledger.outstanding() as u64);
        self.counters.oldest.set(self.ledger.oldest());
        if let Some(pulse) = &self.pulse {
            pulse.beat();
        }
    }

    fn on_report(&mut self, report: Option<WorkerReport>) -> Result<(), PipelineError> {
        let Some(WorkerReport { lane, session, positions }) = report else {
            return Ok(());
        };
        let mut newest = None;
        for range in positions {
            newest = self.ledger.settle(session, lane, range)?.or(newest);
        }
        if let Some(through) = newest {
            self.source.ack(session, through);
        }
        Ok(())
    }

    async fn on_incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Session(session) => {
                self.ledger.begin(session);
                self.keyless.begin_session();
                self.session.send_replace(Some(session));
                self.unsettled = 0;
                self.counters.left.set(0);
            }
            Incoming::Lost(_) => {
                self.unsettled = self.ledger.outstanding();
                self.ledger.end();
                self.session.send_replace(None);
            }
            // What is not taken stays un-acked and comes again.
            Incoming::Messages(messages) if self.draining || self.held => self.leave(messages.len()),
            Incoming::Messages(messages) => self.take(messages).await,
        }
    }

    async fn take(&mut self, messages: Vec<Message>) {
        let Some(session) = self.ledger.session() else {
            return;
        };
        let count = messages.len();
        let redelivered = messages.iter().filter(|message| message.redelivered).count();
        self.counters.redelivered.add(redelivered as u64);
        let events: Vec<Event> =
            messages.into_iter().map(|message| Event::new(message, &self.keying)).collect();
        if let Err(why) = self.keyless.count(&events) {
            self.reporter.report(Status::Held(why));
            self.held = true;
            return self.leave(count);
        }
        let received = Instant::now();
        let first = self.ledger.next_position();
        let (sinks, refusal) = (self.sinks, self.refusal);
        let owed = events.iter().map(|event| if event.defect.is_some() { refusal } else { sinks });
        self.ledger.take(received, owed);
        let batch = Arc::new(Batch { session, first, events, received });
        for lane in &self.batches {
            // Never full (see `start_lane`), and closed only when the lane has ended, which is a fault
            // that the next turn of the loop finds.
            if lane.send(Arc::clone(&batch)).await.is_err() {
                return;
            }
        }
    }

    /// Counts messages that stay with the broker.
    fn leave(&self, count: usize) {
        self.counters.left.add(count as u64);
    }
}

fn worker_ended(ended: Option<Result<WorkerEnd, JoinError>>) -> PipelineError {
    match ended {
        Some(Ok((_, Err(WorkerError::BrokenContract(broken))))) => PipelineError::BrokenContract(broken),
        Some(Ok((_, Err(gone @ WorkerError::ReaderGone { .. })))) => {
            PipelineError::ReaderGone(gone.to_string())
        }
        Some(Ok((name, Ok(())))) => PipelineError::LaneEnded(name, "its batches were closed".to_owned()),
        Some(Err(error)) => PipelineError::LaneEnded("?".to_owned(), error.to_string()),
        None => PipelineError::LaneEnded("?".to_owned(), "there are no lanes".to_owned()),
    }
}
