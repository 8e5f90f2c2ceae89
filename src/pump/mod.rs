//! The task that owns a source and its ledger: takes messages, makes events of them, shares them out to
//! the lanes, and acknowledges the settled prefix. Single owner, no locks.

pub mod dead_letters;
mod keyless;
pub mod lane;
pub mod ledger;
mod memory;
mod refusal;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::dead_letters::{DeadLetterStore, Limits};
use self::keyless::Keyless;
use self::lane::{BrokenContract, LaneError, LaneParts, LaneWiring, Report};
use self::ledger::{LaneSet, Ledger, NotOwed};
use self::refusal::Refusal;
use crate::backoff::{Backoff, BackoffConfig};
use crate::event::{Batch, Event, Message, SessionId};
use crate::key::Keying;
use crate::sink::Sink;
use crate::source::{Goodbye, Incoming, Source};
use crate::telemetry::counters::{NO_SINK, SubscriptionCounters};
use crate::telemetry::pulse::{Pulse, Pulses};
use crate::telemetry::states::{Reporter, State, States};

/// The name of the lane that buries events without a usable key.
const EVENT_LANE: &str = "event";

/// So many ids are remembered for each event that may be on the way (I5).
const IDS_PER_EVENT: usize = 4;

/// What a pump is made of.
pub struct PumpParts {
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
    pub limits: Limits,
    /// Between the tries of a sink.
    pub backoff: BackoffConfig,
    /// What is counted.
    pub counters: Arc<SubscriptionCounters>,
    /// Who is in which state.
    pub states: States,
    /// Whose loops turn.
    pub pulses: Pulses,
}

/// The bridge can't go on; what is un-acked comes again to the next process.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A sink gave a verdict nobody asked for.
    #[error(transparent)]
    BrokenContract(#[from] BrokenContract),
    /// A lane settled what it does not owe.
    #[error(transparent)]
    NotOwed(#[from] NotOwed),
    /// A lane's task panicked or ended by itself.
    #[error("lane {0} has ended: {1}")]
    LaneEnded(String, String),
    /// An event that no lane owes would count as settled, and a lane beyond the last would be taken for
    /// another: nothing is taken at all (I1).
    #[error("a subscription has 1 to {most} sinks, not {0}", most = LaneSet::MOST - 1)]
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
    parts: PumpParts,
    drain: CancellationToken,
) -> impl Future<Output = Result<Goodbye, Fault>> + Send {
    let pump = match parts.sinks.len() {
        1..LaneSet::MOST => Ok(Pump::new(parts)),
        sinks => Err(Fault::Sinks(sinks)),
    };
    async move { pump?.run(drain).await }
}

/// A lane's name and how it ended.
type LaneEnd = (String, Result<(), LaneError>);

struct Pump {
    source: Box<dyn Source>,
    keying: Keying,
    ledger: Ledger,
    /// The lanes that owe an event with a usable key.
    sinks: LaneSet,
    /// The lane that owes an event without.
    refusal: LaneSet,
    batches: Vec<mpsc::Sender<Arc<Batch>>>,
    session: watch::Sender<Option<SessionId>>,
    reports: mpsc::Receiver<Report>,
    lanes: JoinSet<LaneEnd>,
    keyless: Keyless,
    /// Too many events have no usable key: nothing more is taken before a restart.
    held: bool,
    reporter: Reporter,
    counters: Arc<SubscriptionCounters>,
    pulse: Option<Pulse>,
    draining: bool,
    /// Events of the last session that were taken and not settled when it was lost, until there is another.
    unsettled: usize,
}

impl Pump {
    fn new(parts: PumpParts) -> Self {
        let part = |part: &str| match &parts.name {
            Some(name) => format!("{part} {name}"),
            None => part.to_owned(),
        };
        let (session, _) = watch::channel(None);
        let (report, reports) = mpsc::channel(64);
        let mut pump = Self {
            source: parts.source,
            keying: parts.keying,
            ledger: Ledger::default(),
            sinks: LaneSet::default(),
            refusal: LaneSet::of(parts.sinks.len()),
            batches: Vec::new(),
            session,
            reports,
            lanes: JoinSet::new(),
            keyless: Keyless::new(parts.limits.clone(), parts.prefetch * IDS_PER_EVENT),
            held: false,
            reporter: parts.states.reporter(part("events")),
            counters: Arc::clone(&parts.counters),
            pulse: Some(parts.pulses.pulse(part("events"))),
            draining: false,
            unsettled: 0,
        };
        pump.reporter.report(State::Ready);
        let refusal = Box::new(Refusal(Arc::clone(&parts.dead_letters)));
        let refusal: (String, Box<dyn Sink>) = (EVENT_LANE.to_owned(), refusal);
        for (number, (name, sink)) in parts.sinks.into_iter().chain([refusal]).enumerate() {
            let refuses = LaneSet::of(number) == pump.refusal;
            if !refuses {
                pump.sinks = pump.sinks.with(LaneSet::of(number));
            }
            let label = if refuses { part("dead letters") } else { format!("sink {name}") };
            let lane = LaneParts {
                number,
                counters: parts.counters.lane(if refuses { NO_SINK } else { &name }),
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
            pump.start_lane(lane, report.clone(), parts.prefetch);
        }
        pump
    }

    fn start_lane(&mut self, lane: LaneParts, reports: mpsc::Sender<Report>, prefetch: usize) {
        // Every batch that waits here holds an un-acked event, so there are never more than the prefetch.
        let (sender, batches) = mpsc::channel(prefetch);
        self.batches.push(sender);
        let wiring = LaneWiring { batches, session: self.session.subscribe(), reports };
        let name = lane.name.to_string();
        self.lanes.spawn(async move { (name, lane::run(lane, wiring).await) });
    }

    async fn run(mut self, drain: CancellationToken) -> Result<Goodbye, Fault> {
        let mut turns = Pulse::turns();
        while !(self.draining && self.ledger.outstanding() == 0) {
            self.show();
            // Every arm is cancel-safe; what finishes events comes before what brings new ones.
            tokio::select! {
                biased;
                report = self.reports.recv() => self.on_report(report)?,
                ended = self.lanes.join_next() => return Err(self.stop_after(ended).await),
                () = drain.cancelled(), if !self.draining => {
                    self.draining = true;
                    self.reporter.report(State::Starting("draining".to_owned()));
                }
                incoming = self.source.next() => {
                    let incoming = incoming.ok_or(Fault::SourceEnded)?;
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
            goodbye = Goodbye::Unsettled;
        }
        self.batches.clear();
        while let Some(ended) = self.lanes.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                ended => return Err(lane_ended(Some(ended))),
            }
        }
        Ok(goodbye)
    }

    /// A lane has ended by itself. Where only its reader has left, the broker still hears of all that is settled.
    async fn stop_after(&mut self, ended: Option<Result<LaneEnd, JoinError>>) -> Fault {
        let fault = lane_ended(ended);
        if matches!(fault, Fault::ReaderGone(_)) {
            self.pulse = None;
            if self.source.close().await != Goodbye::Confirmed {
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

    fn on_report(&mut self, report: Option<Report>) -> Result<(), Fault> {
        let Some(Report { lane, session, positions }) = report else {
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
            self.reporter.report(State::Held(why));
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

fn lane_ended(ended: Option<Result<LaneEnd, JoinError>>) -> Fault {
    match ended {
        Some(Ok((_, Err(LaneError::BrokenContract(broken))))) => Fault::BrokenContract(broken),
        Some(Ok((_, Err(gone @ LaneError::ReaderGone { .. })))) => Fault::ReaderGone(gone.to_string()),
        Some(Ok((name, Ok(())))) => Fault::LaneEnded(name, "its batches were closed".to_owned()),
        Some(Err(error)) => Fault::LaneEnded("?".to_owned(), error.to_string()),
        None => Fault::LaneEnded("?".to_owned(), "there are no lanes".to_owned()),
    }
}
