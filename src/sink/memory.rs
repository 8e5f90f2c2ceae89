//! A sink in memory whose verdicts are scripted: for tests of everything around a sink, and the simplest
//! example of the contract.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Delivery, DeliveryId, Rejection, Sink, SinkError, Submit, Verdict, Verdicts};
use crate::event::Event;

/// What the script wants for one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptedVerdict {
    /// Keep it.
    Durable,
    /// Refuse it for now.
    Retry,
    /// Refuse it for ever.
    Reject,
    /// Break the opening; this event and all behind it get no verdict.
    Break,
    /// Keep it, and break the opening before the verdict is out: the duplicate that no sink can avoid.
    KeepAndBreak,
}

type Script = Box<dyn FnMut(&Event) -> ScriptedVerdict + Send>;

/// The sink; [`MemorySink::handle`] steers it and reads what it holds.
pub struct MemorySink {
    keeps_order: bool,
    handle: MemoryHandle,
}

/// Steers a [`MemorySink`] from outside. Cheap to clone.
#[derive(Clone)]
pub struct MemoryHandle(Arc<MemoryShared>);

struct MemoryShared {
    state: Mutex<MemoryState>,
    changed: Notify,
}

struct MemoryState {
    script: Script,
    window: usize,
    /// Whether it answers; while not, nothing becomes durable and nothing gets a verdict.
    answering: bool,
    reachable: bool,
    ails: bool,
    /// Which opening is current: halves of an earlier one are dead.
    opening: u64,
    in_flight: VecDeque<Delivery>,
    log: Vec<Arc<str>>,
    closed: u64,
}

impl MemorySink {
    /// Holds at most `window` deliveries in flight and answers each `Durable`. With `keeps_order` a retry
    /// fails everything behind it (promise 3 of the contract); without, each delivery stands for itself, and
    /// the newest becomes durable first.
    pub fn new(keeps_order: bool, window: usize) -> Self {
        let state = MemoryState {
            script: Box::new(|_| ScriptedVerdict::Durable),
            window: window.max(1),
            answering: true,
            reachable: true,
            ails: false,
            opening: 0,
            in_flight: VecDeque::new(),
            log: Vec::new(),
            closed: 0,
        };
        let shared = MemoryShared { state: Mutex::new(state), changed: Notify::new() };
        Self { keeps_order, handle: MemoryHandle(Arc::new(shared)) }
    }

    /// A handle on this sink.
    pub fn handle(&self) -> MemoryHandle {
        self.handle.clone()
    }
}

impl MemoryHandle {
    fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut MemoryState)) {
        change(&mut self.state());
        self.0.changed.notify_waiters();
    }

    /// Asks `script` about each delivery, in order, just before its verdict.
    pub fn script(&self, script: impl FnMut(&Event) -> ScriptedVerdict + Send + 'static) {
        self.change(|state| state.script = Box::new(script));
    }

    /// Stops answering, or begins again: an outage that keeps the connection.
    pub fn answering(&self, answering: bool) {
        self.change(|state| state.answering = answering);
    }

    /// Breaks the opening and refuses new ones, or accepts them again: an outage.
    pub fn reachable(&self, reachable: bool) {
        self.change(|state| {
            state.reachable = reachable;
            if !reachable {
                state.opening += 1;
                state.in_flight.clear();
            }
        });
    }

    /// Says that it is in a trouble that it rides out by itself, or no longer: see [`Verdicts::health`].
    pub fn set_degraded(&self, ails: bool) {
        self.change(|state| state.ails = ails);
    }

    /// The message ids of what is durable, in the order in which it became so.
    pub fn log(&self) -> Vec<Arc<str>> {
        self.state().log.clone()
    }

    /// How many deliveries have no verdict yet.
    pub fn in_flight(&self) -> usize {
        self.state().in_flight.len()
    }

    /// How often an opening was closed in good order.
    pub fn closed(&self) -> u64 {
        self.state().closed
    }
}

impl MemoryState {
    /// Decides everything in flight, as far as the script lets it.
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
                ScriptedVerdict::Break | ScriptedVerdict::KeepAndBreak => {
                    if answer == ScriptedVerdict::KeepAndBreak {
                        self.keep(&delivery);
                    }
                    self.opening += 1;
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

    fn keep(&mut self, delivery: &Delivery) {
        self.log.push(delivery.event.message_id().into());
    }
}

fn broken() -> SinkError {
    SinkError::unavailable("the memory sink broke off")
}

struct MemoryHalf {
    handle: MemoryHandle,
    keeps_order: bool,
    opening: u64,
}

#[async_trait]
impl Sink for MemorySink {
    fn keeps_order(&self) -> bool {
        self.keeps_order
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        let mut state = self.handle.state();
        if !state.reachable {
            return Err(SinkError::unavailable("the memory sink is away"));
        }
        state.opening += 1;
        state.in_flight.clear();
        let half = || MemoryHalf {
            handle: self.handle.clone(),
            keeps_order: self.keeps_order,
            opening: state.opening,
        };
        Ok((Box::new(half()), Box::new(half())))
    }

    async fn probe(&mut self) -> Result<Vec<String>, SinkError> {
        if self.handle.state().reachable {
            Ok(vec!["in memory: lost at the end of the process".to_owned()])
        } else {
            Err(SinkError::unavailable("the memory sink is away"))
        }
    }
}

#[async_trait]
impl Submit for MemoryHalf {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        let mut taken = 0;
        self.handle.change(|state| {
            if state.opening == self.opening {
                taken = state.window.saturating_sub(state.in_flight.len()).min(deliveries.len());
                state.in_flight.extend(deliveries[..taken].iter().cloned());
            }
        });
        if self.handle.state().opening == self.opening { Ok(taken) } else { Err(broken()) }
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.handle.change(|state| state.closed += 1);
        Ok(())
    }
}

#[async_trait]
impl Verdicts for MemoryHalf {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        loop {
            let changed = self.handle.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.handle.state();
                if state.opening != self.opening {
                    return Err(broken());
                }
                if state.answering && !state.in_flight.is_empty() {
                    return state.decide(self.keeps_order);
                }
            }
            changed.await;
        }
    }

    fn health(&self) -> Result<(), SinkError> {
        match self.handle.state().ails {
            true => Err(SinkError::unavailable("the memory sink ails")),
            false => Ok(()),
        }
    }
}
