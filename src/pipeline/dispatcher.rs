//! Takes messages from a source, makes events of them, gives them to the sink workers, and acknowledges the
//! settled prefix. One task, the dispatcher, owns the source and the ack tracker, so no locks are needed.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::ack_tracker::{AckTracker, NotOwedError, SinkSet};
use super::keyless_limits::KeylessLimits;
use super::keyless_sink::KeylessSink;
use super::worker::{ContractError, WorkerError, WorkerHandles, WorkerParts, WorkerReport};
use crate::backoff::{Backoff, BackoffConfig};
use crate::dead_letter::{DeadLetterLimits, DeadLetterStore};
use crate::event::{Batch, Event, EventTimes, Message, SessionId};
use crate::key::Keying;
use crate::sink::Sink;
use crate::source::{Disconnect, Incoming, Source};
use crate::telemetry::counters::{NO_SINK, SubscriptionCounters};
use crate::telemetry::status::{Status, StatusRegistry, StatusReporter};
use crate::telemetry::watchdog::{LoopMark, Watchdog};

/// The name of the worker that writes events without a usable key as dead letters.
const EVENT_WORKER: &str = "event";

/// How many ids are remembered for each event of the prefetch (I5).
pub const IDS_PER_EVENT: usize = 4;

/// The parts from which [`run`] builds a pipeline.
pub struct PipelineParts {
    /// Added to the names of its parts in the status registry and the watchdog, to distinguish them from
    /// those of other pipelines. `None` if there is only one pipeline.
    pub name: Option<String>,
    /// The name of the queue. Dead letters keep it, because several queues may share their place.
    pub queue: String,
    pub source: Box<dyn Source>,
    /// The sinks with their names: 1 to 63 of them.
    pub sinks: Vec<(String, Box<dyn Sink>)>,
    /// The rules by which the key is found in a body.
    pub keying: Keying,
    /// The source's prefetch: the most events that may be taken and not yet acknowledged.
    pub prefetch: usize,
    pub dead_letters: Arc<dyn DeadLetterStore>,
    pub limits: DeadLetterLimits,
    /// The waiting times between two attempts of a sink.
    pub backoff: BackoffConfig,
    pub counters: Arc<SubscriptionCounters>,
    pub statuses: StatusRegistry,
    pub watchdog: Watchdog,
}

impl PipelineParts {
    /// Returns the name of a part of this pipeline, in the status registry and the watchdog.
    fn label(&self, part: &str) -> String {
        self.name.as_ref().map_or_else(|| part.to_owned(), |name| format!("{part} {name}"))
    }
}

/// Why the bridge can't go on. The broker delivers the unacknowledged events to the next process.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A sink gave a verdict on a delivery that is not in flight.
    #[error(transparent)]
    BrokenContract(#[from] ContractError),
    /// A sink worker settled an event that it does not owe.
    #[error(transparent)]
    NotOwed(#[from] NotOwedError),
    /// The task of a sink worker panicked or ended by itself.
    #[error("sink worker {0} has ended: {1}")]
    WorkerEnded(String, String),
    /// The number of sinks is not supported, so no event is taken (I1). Without a sink every event would
    /// count as settled. With too many, two workers would share a number.
    #[error("a subscription has 1 to {most} sinks, not {0}", most = SinkSet::MOST - 1)]
    Sinks(usize),
    /// The source's task has ended by itself.
    #[error("the source has ended")]
    SourceEnded,
    /// The reader of a sink's output has closed it for good. This is no fault of the bridge, but it ends the
    /// bridge.
    #[error("{0}")]
    ReaderGone(String),
}

/// Runs until `drain` is cancelled and all events taken are settled and acknowledged. The result says whether
/// the broker has confirmed this. To abandon the pipeline, drop the future: nothing more is acknowledged
/// then. The parts are registered when this function returns, before the future is polled.
///
/// # Errors
/// A fault in the bridge itself, never an error of a broker or sink; or the reader of a sink's output has
/// left.
///
/// # Panics
/// If it is called outside a runtime, because it starts the tasks of the sink workers.
pub fn run(
    parts: PipelineParts,
    drain: CancellationToken,
) -> impl Future<Output = Result<Disconnect, PipelineError>> + Send {
    let dispatcher = match parts.sinks.len() {
        1..SinkSet::MOST => Ok(Dispatcher::start(parts)),
        sinks => Err(PipelineError::Sinks(sinks)),
    };
    async move { dispatcher?.run(drain).await }
}

/// The name of a sink worker, and its result.
type WorkerEnd = (String, Result<(), WorkerError>);

struct Dispatcher {
    parts: PipelineParts,
    ack_tracker: AckTracker,
    /// The workers that owe an event with a usable key.
    sinks: SinkSet,
    /// The worker that owes an event without a usable key.
    keyless_worker: SinkSet,
    batches: Vec<mpsc::Sender<Arc<Batch>>>,
    session: watch::Sender<Option<SessionId>>,
    reports: mpsc::Receiver<WorkerReport>,
    workers: JoinSet<WorkerEnd>,
    keyless: KeylessLimits,
    /// Too many events have no usable key: no more events are taken until a restart.
    held: bool,
    reporter: StatusReporter,
    loop_mark: Option<LoopMark>,
    draining: bool,
    /// How many events were taken and not settled when the last session was lost. 0 once a new session
    /// begins.
    unsettled: usize,
}

impl Dispatcher {
    /// Starts the workers: one for each sink, and one for events without a usable key.
    fn start(mut parts: PipelineParts) -> Self {
        let sinks = std::mem::take(&mut parts.sinks);
        let keyless_sink = Box::new(KeylessSink(Arc::clone(&parts.dead_letters)));
        let (report, reports) = mpsc::channel(64);
        let mut dispatcher = Self {
            ack_tracker: AckTracker::default(),
            sinks: (0..sinks.len()).map(SinkSet::of).fold(SinkSet::default(), SinkSet::with),
            keyless_worker: SinkSet::of(sinks.len()),
            batches: Vec::new(),
            session: watch::Sender::new(None),
            reports,
            workers: JoinSet::new(),
            keyless: KeylessLimits::new(parts.limits.clone(), parts.prefetch * IDS_PER_EVENT),
            held: false,
            reporter: parts.statuses.reporter(parts.label("events")),
            loop_mark: Some(parts.watchdog.loop_mark(parts.label("events"))),
            draining: false,
            unsettled: 0,
            parts,
        };
        dispatcher.reporter.report(Status::Ready);
        for (name, sink) in sinks {
            dispatcher.start_worker(name, sink, report.clone());
        }
        let keyless_worker = dispatcher.parts.label(EVENT_WORKER);
        dispatcher.start_worker(keyless_worker, keyless_sink, report);
        dispatcher
    }

    /// Starts the next worker: the workers are numbered in this order.
    fn start_worker(&mut self, name: String, sink: Box<dyn Sink>, reports: mpsc::Sender<WorkerReport>) {
        let parts = &self.parts;
        let number = self.batches.len();
        let is_keyless = SinkSet::of(number) == self.keyless_worker;
        let label = if is_keyless { parts.label("dead letters") } else { format!("sink {name}") };
        let worker_parts = WorkerParts {
            number,
            name: name.as_str().into(),
            queue: parts.queue.as_str().into(),
            takes: if is_keyless { |event| event.defect.is_some() } else { |event| event.defect.is_none() },
            memory: parts.prefetch * IDS_PER_EVENT,
            limits: (!is_keyless).then(|| parts.limits.clone()),
            dead_letters: Arc::clone(&parts.dead_letters),
            backoff: Backoff::new(parts.backoff),
            counters: parts.counters.workers.get(if is_keyless { NO_SINK } else { &name }),
            loop_mark: parts.watchdog.loop_mark(label.clone()),
            reporter: parts.statuses.reporter(label),
        };
        // Each waiting batch holds at least one unacknowledged event, so there are never more batches than
        // the prefetch.
        let (sender, batches) = mpsc::channel(parts.prefetch);
        self.batches.push(sender);
        let handles = WorkerHandles { batches, session: self.session.subscribe(), reports };
        let work = async move { (name, super::worker::run(sink, worker_parts, handles).await) };
        self.workers.spawn(self.parts.watchdog.task(work));
    }

    async fn run(mut self, drain: CancellationToken) -> Result<Disconnect, PipelineError> {
        let mut turns = LoopMark::turns();
        while !(self.draining && self.ack_tracker.outstanding() == 0) {
            self.show();
            // Every arm is cancel-safe. The arms that finish events come before the one that brings new
            // events.
            tokio::select! {
                biased;
                report = self.reports.recv() => self.on_report(report)?,
                ended = self.workers.join_next() => return Err(self.stop_after(ended).await),
                () = drain.cancelled(), if !self.draining => {
                    self.draining = true;
                    self.reporter.report(Status::Starting("draining".to_owned()));
                }
                incoming = self.parts.source.next() => {
                    let incoming = incoming.ok_or(PipelineError::SourceEnded)?;
                    self.on_incoming(incoming).await;
                }
                // The watchdog needs a beat from an idle loop too.
                _ = turns.tick() => {}
            }
        }
        self.show();
        self.finish().await
    }

    /// Disconnects, and lets the workers close their sinks.
    async fn finish(mut self) -> Result<Disconnect, PipelineError> {
        // Closing may take as long as the drain may, so the watchdog must not expect a beat.
        self.loop_mark = None;
        let mut disconnect = self.parts.source.close().await;
        if self.unsettled > 0 {
            tracing::warn!(
                "the connection was lost before {} of the events taken were settled: the broker delivers them again",
                self.unsettled
            );
            disconnect = Disconnect::Unsettled;
        }
        self.batches.clear();
        while let Some(ended) = self.workers.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                ended => return Err(worker_ended(Some(ended))),
            }
        }
        Ok(disconnect)
    }

    /// Stops because a worker has ended by itself. If the cause is only that its reader has left, all settled
    /// events are still acknowledged.
    async fn stop_after(&mut self, ended: Option<Result<WorkerEnd, JoinError>>) -> PipelineError {
        let error = worker_ended(ended);
        if matches!(error, PipelineError::ReaderGone(_)) {
            self.loop_mark = None;
            if self.parts.source.close().await != Disconnect::Confirmed {
                tracing::warn!("the broker did not confirm the disconnect: the last events may come again");
            }
        }
        error
    }

    /// Publishes the progress in the counters, and tells the watchdog that the loop runs.
    fn show(&self) {
        self.parts.counters.in_flight.set(self.ack_tracker.outstanding() as u64);
        let oldest = self.ack_tracker.oldest();
        self.parts.counters.oldest.set(oldest.map(|times| times.received));
        self.parts.counters.oldest_sent.set(oldest.and_then(|times| times.sent).map_or(0, i64::unsigned_abs));
        let is_subscribed = self.ack_tracker.session().is_some();
        self.parts.counters.is_subscribed.set(is_subscribed.into());
        let taken = if is_subscribed { self.ack_tracker.next_position().saturating_sub(1) } else { 0 };
        self.parts.counters.taken.set(taken);
        if let Some(loop_mark) = &self.loop_mark {
            loop_mark.beat();
        }
    }

    fn on_report(&mut self, report: Option<WorkerReport>) -> Result<(), PipelineError> {
        let Some(WorkerReport { worker, session, positions, is_fenced }) = report else {
            return Ok(());
        };
        let mut newest = None;
        for range in positions {
            newest = self.ack_tracker.settle(session, worker, range)?.or(newest);
        }
        if let Some(through) = newest {
            self.parts.source.ack(session, through);
        }
        if is_fenced && self.ack_tracker.session() == Some(session) {
            self.parts.source.give_up(session);
        }
        Ok(())
    }

    async fn on_incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Session(session) => {
                self.ack_tracker.begin(session);
                self.keyless.begin_session();
                self.session.send_replace(Some(session));
                self.unsettled = 0;
                self.parts.counters.left.set(0);
            }
            Incoming::Lost(_) => {
                self.unsettled = self.ack_tracker.outstanding();
                self.ack_tracker.end();
                self.session.send_replace(None);
            }
            // Messages that are not taken stay unacknowledged, so the broker delivers them again.
            Incoming::Messages(messages) if self.draining || self.held => {
                self.leave(messages.len(), oldest_sent(&messages));
            }
            Incoming::Messages(messages) => self.take(messages).await,
        }
    }

    async fn take(&mut self, messages: Vec<Message>) {
        let Some(session) = self.ack_tracker.session() else {
            return;
        };
        let count = messages.len();
        let redelivered = messages.iter().filter(|message| message.redelivered).count();
        self.parts.counters.redelivered.add(redelivered as u64);
        let events: Vec<Event> =
            messages.into_iter().map(|message| Event::new(message, &self.parts.keying)).collect();
        if let Err(why) = self.keyless.count(&events) {
            self.reporter.report(Status::Held(why));
            self.held = true;
            return self.leave(count, oldest_sent(events.iter().map(|event| &event.message)));
        }
        let received = Instant::now();
        let sent = oldest_sent(events.iter().map(|event| &event.message));
        let first = self.ack_tracker.next_position();
        let (sinks, keyless_worker) = (self.sinks, self.keyless_worker);
        let owed = events.iter().map(|event| if event.defect.is_some() { keyless_worker } else { sinks });
        self.ack_tracker.take(EventTimes { received, sent }, owed);
        let batch = Arc::new(Batch { session, first, events, received });
        for worker in &self.batches {
            // The channel is never full (see `start_worker`). It is closed only if the worker has ended; the
            // main loop detects that in its next turn.
            if worker.send(Arc::clone(&batch)).await.is_err() {
                return;
            }
        }
    }

    /// Counts messages that are not taken and stay with the broker. `sent` is when the oldest of them was sent.
    fn leave(&self, count: usize, sent: Option<i64>) {
        let counters = &self.parts.counters;
        if counters.left.get() == 0 {
            counters.left_sent.set(sent.map_or(0, i64::unsigned_abs));
        }
        counters.left.add(count as u64);
    }
}

/// Returns when the oldest of the messages was sent, as far as their timestamps tell.
fn oldest_sent<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Option<i64> {
    messages.into_iter().filter_map(Message::sent).min()
}

fn worker_ended(ended: Option<Result<WorkerEnd, JoinError>>) -> PipelineError {
    match ended {
        Some(Ok((_, Err(WorkerError::BrokenContract(broken))))) => PipelineError::BrokenContract(broken),
        Some(Ok((_, Err(gone @ WorkerError::ReaderGone(..))))) => PipelineError::ReaderGone(gone.to_string()),
        Some(Ok((name, Ok(())))) => PipelineError::WorkerEnded(name, "its batches were closed".to_owned()),
        Some(Err(error)) => PipelineError::WorkerEnded("?".to_owned(), error.to_string()),
        None => PipelineError::WorkerEnded("?".to_owned(), "there are no workers".to_owned()),
    }
}
