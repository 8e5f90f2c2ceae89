//! The contract of a sink. A sink opens into two halves, so that handing over events and learning what
//! became of them never wait for each other: a lane keeps the sink's whole window in flight.
//!
//! What every sink promises, and `tests/it/sink_contract.rs` proves for each:
//!
//! 1. **Fail-closed.** [`Verdict::Durable`] is said only when the destination itself has said so (D1).
//!    Silence, a drop, a panic or a closed channel is never success (I1).
//! 2. **One verdict per delivery.** Every accepted delivery gets exactly one verdict, or
//!    [`Verdicts::next`] fails; then all deliveries still in flight count as not durable and are handed
//!    over again after a new [`Sink::open`].
//! 3. **Order.** A sink that says [`Sink::keeps_order`] makes deliveries durable in the order of
//!    submission: once it answers [`Verdict::Retry`] for one, no later delivery *of the same key*
//!    already submitted becomes durable before that one was submitted again (I3). It says `Durable` of a delivery
//!    only when the earlier ones *of the same key* have their verdicts: one that is refused can be offered again
//!    only as long as no later one is durable. For a sink that can't promise this the lane keeps at most one
//!    event per key in flight.
//! 4. **No duplicates of its own making.** A delivery answered with `Retry` has left nothing behind that
//!    a reader would see, as far as the destination allows; where it can't be known the sink documents it.
//! 5. **Bounded.** It holds no more than what was submitted and not yet answered, and accepts less when
//!    full ([`Submit::submit`]).

use std::num::NonZeroU32;

use async_trait::async_trait;

use super::error::SinkError;
use crate::event::EventRef;

/// What every sink is told at its construction, whoever wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkContext {
    /// The sink's own name: `file` in `[sinks.file]`.
    pub sink: String,
    /// AtData's namespace.
    pub namespace: String,
    /// The destination id of the subscription, with the sink's suffix where sinks are mirrored.
    pub destination_id: String,
    /// The connection id of this process: no other that runs at the same time has it (D4).
    pub connection_id: String,
    /// The queue that the events come from.
    pub queue: String,
    /// `event.partitions`: the same number for every sink (D5).
    pub partitions: Option<NonZeroU32>,
    /// The sink's table, such as `sinks.file`: the full key of each of its options begins with it.
    pub table: String,
    /// `source.max_body`: no body is larger, in bytes.
    pub max_body: usize,
}

impl SinkContext {
    /// The full key of one of the sink's options, such as `sinks.nats.tls.ca_file`, for messages.
    pub fn option(&self, option: &str) -> String {
        format!("{}.{option}", self.table)
    }
}

/// Numbers the deliveries of one lane in the order of submission; a resubmission gets a new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// One event handed to a sink.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What the verdict must name.
    pub id: DeliveryId,
    /// The event.
    pub event: EventRef,
}

/// What became of one delivery.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The destination holds it durably, by its own word (D1).
    Durable,
    /// Not durable; the lane hands it over again, in order.
    Retry(SinkError),
    /// This event can never be delivered here; the lane writes a dead letter.
    Reject(Rejection),
}

/// Why an event can never be delivered to a sink, or has no usable key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// A short fixed word for metrics and dead letters, such as `too_large`.
    pub reason: &'static str,
    /// The whole story for a person.
    pub detail: String,
}

/// A destination. Built from checked settings without touching the outside world; [`Sink::open`] does.
#[async_trait]
pub trait Sink: Send {
    /// Whether deliveries become durable in the order of submission (promise 3 of the module text).
    fn keeps_order(&self) -> bool;

    /// Connects, repairs and locks what it needs. Called again, after a back-off, whenever it failed or
    /// one of the halves did; both halves of the previous opening are dropped by then.
    ///
    /// # Errors
    /// The lane retries for ever and shows the error.
    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError>;

    /// For `check`: reaches the destination without writing an event and without leaving anything behind.
    /// Returns lines worth knowing (what was found; a line that starts with `warning: ` is a warning).
    ///
    /// # Errors
    /// What would keep [`Sink::open`] from succeeding.
    async fn probe(&mut self) -> Result<Vec<String>, SinkError>;
}

/// The half that takes events.
#[async_trait]
pub trait Submit: Send {
    /// Takes as many deliveries as it has room for, in order, from the front, and says how many; never
    /// waits. A sink with nothing in flight takes at least one. After a short count the lane offers the
    /// rest once verdicts have come.
    ///
    /// # Errors
    /// The opening is broken: the lane drops both halves and opens anew.
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError>;

    /// Called once nothing is in flight any more: flushes, unlocks and releases.
    ///
    /// # Errors
    /// Reported, never fatal: every event is settled by then.
    async fn close(&mut self) -> Result<(), SinkError>;
}

/// The half that tells what became of them.
#[async_trait]
pub trait Verdicts: Send {
    /// Waits for the next verdicts, at least one, in any order but that of promise 3. Cancel-safe: a verdict is never lost when
    /// the future is dropped.
    ///
    /// # Errors
    /// The opening is broken; what is still in flight is not durable as far as anybody knows.
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError>;

    /// Whether the destination answers, as far as is known without asking it; looked at about once a second.
    /// For sinks whose client library rides out an outage by itself: deliveries just get no verdict
    /// meanwhile, and only this makes the trouble visible (D11). The lane goes on as if nothing were.
    ///
    /// # Errors
    /// The trouble it is in at the moment.
    fn health(&self) -> Result<(), SinkError> {
        Ok(())
    }
}
