//! Sends generated events at a given rate.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::generator::{Generator, GeneratorConfig};
use super::state::SimulatorState;
use super::stream::{Content, EventStream, Run};

/// Which events to generate, and how fast.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The number of events; `None` means without end.
    pub events: Option<u64>,
    /// How fast the events are sent.
    pub rate: Rate,
    /// The settings of the events.
    pub generator: GeneratorConfig,
}

/// How fast events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// As fast as they are consumed: at most so many wait in the deepest queue, like a producer under
    /// ActiveMQ's flow control. `u64::MAX` with a number of events sends them all at once.
    FlatOut {
        /// The most events that wait in a queue; at least 2.
        ahead: u64,
    },
    /// So many events per second, however many wait.
    PerSecond(NonZeroU32),
}

impl Default for Rate {
    fn default() -> Self {
        Self::FlatOut { ahead: 100_000 }
    }
}

/// More events than anybody waits for, and small enough to add up.
const ENDLESS: u64 = 1 << 48;

/// The interval between two batches of events.
const TICK: Duration = Duration::from_millis(5);

/// Sends everything, beginning when the first queue for `namespace` exists. Events sent before would reach no
/// queue.
pub(crate) async fn run(shared: Arc<SimulatorState>, namespace: String, generation: Generation) {
    let rate = match generation.rate {
        Rate::FlatOut { .. } => None,
        Rate::PerSecond(rate) => Some(f64::from(rate.get())),
    };
    let mut changed = shared.changed.subscribe();
    changed.mark_changed();
    while shared.broker().deepest(&namespace).is_none() {
        if changed.changed().await.is_err() {
            return;
        }
    }
    let content = Content::Generated(Generator::new(generation.generator));
    let stream = shared.stream(&namespace, rate, content);
    let producer = Producer { shared, stream, sent: 0, total: generation.events.unwrap_or(ENDLESS) };
    match generation.rate {
        Rate::FlatOut { ahead } => producer.flat_out(ahead.clamp(2, ENDLESS)).await,
        Rate::PerSecond(rate) => producer.per_second(f64::from(rate.get())).await,
    }
}

struct Producer {
    shared: Arc<SimulatorState>,
    stream: Arc<EventStream>,
    sent: u64,
    total: u64,
}

impl Producer {
    async fn flat_out(mut self, ahead: u64) {
        let mut changed = self.shared.changed.subscribe();
        while self.sent < self.total {
            changed.mark_unchanged();
            let waiting = self.shared.broker().deepest(&self.stream.namespace).unwrap_or(0);
            if waiting <= ahead / 2 {
                self.send(ahead - waiting);
            } else if changed.changed().await.is_err() {
                return;
            }
        }
    }

    async fn per_second(mut self, rate: f64) {
        let (start, mut ticks) = (Instant::now(), interval(TICK));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while self.sent < self.total {
            ticks.tick().await;
            let due = (start.elapsed().as_secs_f64() * rate) as u64;
            self.send(due.saturating_sub(self.sent));
        }
    }

    fn send(&mut self, count: u64) {
        let count = count.min(self.total - self.sent);
        if count > 0 {
            let run = Run::new(Arc::clone(&self.stream), self.sent + 1, count);
            self.shared.change(|broker| broker.publish(&run));
            self.sent += count;
        }
    }
}
