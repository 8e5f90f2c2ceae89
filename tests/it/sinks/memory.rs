//! Implements a sink in memory whose verdicts come from a script, for tests of the code around a sink.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use atdata_bridge::event::Event;
use atdata_bridge::finding::{Code, Finding};
use atdata_bridge::sink::{
    Delivery, DeliveryId, Held, Rejection, Sink, SinkError, Submit, Verdict, Verdicts,
};
use bytes::Bytes;
use tokio::sync::Notify;

/// The answer of the script for one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptedVerdict {
    /// Keeps the event and gives the verdict `Durable`.
    Durable,
    /// Refuses the event for now, with the verdict `Retry`.
    Retry,
    /// Refuses the event for ever, with the verdict `Reject`.
    Reject,
    /// Breaks the connection: this event and all behind it get no verdict.
    Break,
    /// Keeps the event, and breaks the connection before the verdict is given. This makes the duplicate that
    /// no sink can avoid.
    KeepAndBreak,
    /// Breaks the connection while this event and all behind it are on their way:
    /// [`MemoryHandle::deliver_late`].
    BreakAndDelay,
    /// Breaks the connection, because another bridge has taken the queue over.
    Fenced,
}

type Script = Box<dyn FnMut(&Event) -> ScriptedVerdict + Send>;

/// A sink in memory. [`MemorySink::handle`] returns the handle that controls it and reads its events.
pub struct MemorySink {
    keeps_order: bool,
    handle: MemoryHandle,
}

/// Controls a [`MemorySink`] from a test. Cheap to clone.
#[derive(Clone)]
pub struct MemoryHandle(Arc<MemoryShared>);

struct MemoryShared {
    state: Mutex<MemoryState>,
    changed: Notify,
}

struct MemoryState {
    script: Script,
    window: usize,
    /// Whether the sink answers. If not, no event becomes durable and no delivery gets a verdict.
    answering: bool,
    reachable: bool,
    degraded: bool,
    /// Whether a lost connection counts as an error until an event is durable, or none is left.
    remembers_losses: bool,
    remembers_a_loss: bool,
    /// Whether the sink says what it holds.
    readable: bool,
    /// How many times it was asked for that.
    claims: u64,
    /// How many of the next answers fail.
    failing_claims: u64,
    /// Whether its answer waits until the test allows it.
    claims_wait: bool,
    /// The number of the current connection. The producer and acks of an earlier one only return errors.
    connection: u64,
    in_flight: VecDeque<Delivery>,
    /// Events that a lost connection has sent and that have not arrived.
    late: Vec<Arc<str>>,
    /// How many events were durable when that connection was lost.
    durable_at_loss: usize,
    /// Whether a claim takes the queue over.
    takes_over: bool,
    /// How many times another bridge has taken over.
    fences: u64,
    log: Vec<Arc<str>>,
    closed: u64,
}

impl MemorySink {
    /// Creates a sink with at most `window` deliveries in flight that answers `Durable` to each. With
    /// `keeps_order`, a retry fails all deliveries behind it (promise 3 of the contract). Without it,
    /// deliveries are independent, and the newest becomes durable first.
    pub fn new(keeps_order: bool, window: usize) -> Self {
        let state = MemoryState {
            script: Box::new(|_| ScriptedVerdict::Durable),
            window: window.max(1),
            answering: true,
            reachable: true,
            degraded: false,
            remembers_losses: false,
            remembers_a_loss: false,
            readable: false,
            claims: 0,
            failing_claims: 0,
            claims_wait: false,
            connection: 0,
            in_flight: VecDeque::new(),
            late: Vec::new(),
            durable_at_loss: 0,
            takes_over: false,
            fences: 0,
            log: Vec::new(),
            closed: 0,
        };
        let shared = MemoryShared { state: Mutex::new(state), changed: Notify::new() };
        Self { keeps_order, handle: MemoryHandle(Arc::new(shared)) }
    }

    /// Returns a handle that controls this sink.
    pub fn handle(&self) -> MemoryHandle {
        self.handle.clone()
    }
}

impl MemoryHandle {
    /// Creates another sink with the same events, as a restarted bridge has it. Only the last one that is
    /// opened is connected.
    pub fn sink(&self, keeps_order: bool) -> MemorySink {
        MemorySink { keeps_order, handle: self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut MemoryState) -> T) -> T {
        let changed = change(&mut self.state());
        self.0.changed.notify_waiters();
        changed
    }

    /// Sets the script. The sink calls it for each delivery, in order, just before its verdict.
    pub fn script(&self, script: impl FnMut(&Event) -> ScriptedVerdict + Send + 'static) {
        self.change(|state| state.script = Box::new(script));
    }

    /// Stops answering, or begins again. This simulates an outage that keeps the connection.
    pub fn answering(&self, answering: bool) {
        self.change(|state| state.answering = answering);
    }

    /// Breaks the connection and refuses new ones, or accepts them again. This simulates an outage.
    pub fn reachable(&self, reachable: bool) {
        self.change(|state| {
            state.reachable = reachable;
            if !reachable {
                state.connection += 1;
                state.in_flight.clear();
            }
        });
    }

    /// Makes [`Verdicts::health`] report an error that the sink handles by itself, or no longer.
    pub fn set_degraded(&self, degraded: bool) {
        self.change(|state| state.degraded = degraded);
    }

    /// Makes [`Verdicts::health`] report that a connection was lost until an event is durable, or none is left that was
    /// refused.
    pub fn remember_losses(&self) {
        self.change(|state| state.remembers_losses = true);
    }

    /// Lets the sink say what it holds, or no longer. A new sink does not.
    pub fn readable(&self, readable: bool) {
        self.change(|state| state.readable = readable);
    }

    /// Makes a claim take the queue over, or no longer. A new sink does not. What a lost connection has sent never
    /// arrives if such a claim is the first thing that its successor does.
    pub fn takes_over(&self, takes_over: bool) {
        self.change(|state| state.takes_over = takes_over);
    }

    /// Makes the sink fail the next times that it is asked what it holds.
    pub fn fail_claims(&self, times: u64) {
        self.change(|state| state.failing_claims = times);
    }

    /// Returns another sink with the same content, as after a restart.
    pub fn restarted(&self, keeps_order: bool) -> MemorySink {
        MemorySink { keeps_order, handle: self.clone() }
    }

    /// Lets the sink be slow to say what it holds, until this is called with `false`. It still fails at once.
    pub fn delay_claims(&self, delay: bool) {
        self.change(|state| state.claims_wait = delay);
    }

    /// Returns how many times the sink was asked what it holds.
    pub fn claims(&self) -> u64 {
        self.state().claims
    }

    /// Waits until `look` finds something.
    async fn until<T>(&self, mut look: impl FnMut(&mut MemoryState) -> Option<T> + Send) -> T {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let found = look(&mut self.state());
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }

    /// Returns the message ids of the durable events, in the order in which they became durable.
    pub fn log(&self) -> Vec<Arc<str>> {
        self.state().log.clone()
    }

    /// Returns how many times another bridge has taken over the queue.
    pub fn fences(&self) -> u64 {
        self.state().fences
    }

    /// Adds a durable event with this message id, as another bridge would.
    pub fn add(&self, id: &str) {
        self.change(|state| state.log.push(id.into()));
    }

    /// Lets the events arrive that a lost connection has sent ([`ScriptedVerdict::BreakAndDelay`]). Returns how many.
    pub fn deliver_late(&self) -> usize {
        self.change(|state| {
            let late = state.late.len();
            state.log.append(&mut state.late);
            late
        })
    }

    /// Returns how many times a connection was closed with [`Submit::close`].
    pub fn closed(&self) -> u64 {
        self.state().closed
    }
}

impl MemoryState {
    /// Gives a verdict on every delivery in flight, until the script breaks the connection.
    fn decide(&mut self, keeps_order: bool) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        let mut verdicts = Vec::new();
        let mut refusing = false;
        while let Some(delivery) =
            if keeps_order { self.in_flight.pop_front() } else { self.in_flight.pop_back() }
        {
            let answer = if refusing { ScriptedVerdict::Retry } else { (self.script)(&delivery.event) };
            let verdict = match answer {
                ScriptedVerdict::Durable => {
                    self.keep(&delivery);
                    Verdict::Durable
                }
                ScriptedVerdict::Retry => {
                    refusing = keeps_order;
                    Verdict::Retry(SinkError::unavailable("the script says: retry"))
                }
                ScriptedVerdict::Reject => Verdict::Reject(Rejection {
                    reason: "scripted",
                    detail: "the script says: reject".to_owned(),
                }),
                ScriptedVerdict::Fenced => {
                    self.connection += 1;
                    self.in_flight.clear();
                    self.fences += 1;
                    return Err(SinkError::fenced("another bridge has taken over the queue"));
                }
                ScriptedVerdict::Break | ScriptedVerdict::KeepAndBreak | ScriptedVerdict::BreakAndDelay => {
                    if answer == ScriptedVerdict::KeepAndBreak {
                        self.keep(&delivery);
                    }
                    if answer == ScriptedVerdict::BreakAndDelay {
                        let on_their_way = std::iter::once(&delivery).chain(&self.in_flight);
                        self.durable_at_loss = self.log.len();
                        self.late.extend(on_their_way.map(|sent| Arc::<str>::from(sent.event.message_id())));
                    }
                    self.connection += 1;
                    self.remembers_a_loss = self.remembers_losses;
                    self.in_flight.clear();
                    if verdicts.is_empty() {
                        return Err(broken());
                    }
                    break;
                }
            };
            verdicts.push((delivery.id, verdict));
        }
        Ok(verdicts)
    }

    fn held(&mut self) -> Result<Option<Held>, SinkError> {
        if !self.reachable || self.failing_claims > 0 {
            self.failing_claims = self.failing_claims.saturating_sub(1);
            return Err(broken());
        }
        if self.takes_over && self.log.len() == self.durable_at_loss {
            self.late.clear();
        }
        let ids = || self.log.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect();
        Ok(self.readable.then(|| Held { ids: ids() }))
    }

    fn keep(&mut self, delivery: &Delivery) {
        self.log.push(delivery.event.message_id().into());
    }
}

fn broken() -> SinkError {
    SinkError::unavailable("the memory sink broke off")
}

struct MemoryConnection {
    handle: MemoryHandle,
    keeps_order: bool,
    connection: u64,
}

#[async_trait]
impl Sink for MemorySink {
    fn keeps_order(&self) -> bool {
        self.keeps_order
    }

    fn takes_over(&self) -> bool {
        self.handle.state().takes_over
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        let mut state = self.handle.state();
        if !state.reachable {
            return Err(SinkError::unavailable("the memory sink is away"));
        }
        state.connection += 1;
        state.in_flight.clear();
        let part = || MemoryConnection {
            handle: self.handle.clone(),
            keeps_order: self.keeps_order,
            connection: state.connection,
        };
        Ok((Box::new(part()), Box::new(part())))
    }

    async fn claim(&mut self, _at_least: usize) -> Result<Option<Held>, SinkError> {
        self.handle.change(|state| state.claims += 1);
        let answer =
            |state: &mut MemoryState| (!state.claims_wait || state.failing_claims > 0).then(|| state.held());
        self.handle.until(answer).await
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        match self.handle.state().reachable {
            true => Ok(vec![Finding::detail(Code::new("memory"), "lost at the end of the process")]),
            false => Err(SinkError::unavailable("the memory sink is away")),
        }
    }
}

#[async_trait]
impl Submit for MemoryConnection {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        self.handle.change(|state| {
            if state.connection != self.connection {
                return Err(broken());
            }
            let taken = state.window.saturating_sub(state.in_flight.len()).min(deliveries.len());
            state.in_flight.extend(deliveries[..taken].iter().cloned());
            Ok(taken)
        })
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.handle.change(|state| state.closed += 1);
        Ok(())
    }
}

#[async_trait]
impl Verdicts for MemoryConnection {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        let (connection, keeps_order) = (self.connection, self.keeps_order);
        let verdicts = |state: &mut MemoryState| {
            if state.connection != connection {
                return Some(Err(broken()));
            }
            (state.answering && !state.in_flight.is_empty()).then(|| state.decide(keeps_order))
        };
        self.handle.until(verdicts).await
    }

    fn health(&self) -> Result<(), SinkError> {
        let state = self.handle.state();
        match state.degraded || state.remembers_a_loss {
            true => Err(SinkError::unavailable("the memory sink is degraded")),
            false => Ok(()),
        }
    }

    fn forget_refused(&self) {
        self.handle.change(|state| state.remembers_a_loss = false);
    }
}
