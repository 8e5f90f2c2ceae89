//! Defines the contract of a sink. An open sink has two parts, a producer ([`Submit`]) and acks
//! ([`Verdicts`]), so that handing over events and reading verdicts never wait for each other. A worker can
//! keep the sink's whole window in flight.
//!
//! Every sink makes these promises, and `tests/it/sinks/contract` tests them for each sink:
//!
//! 1. **Fail-closed.** A sink gives [`Verdict::Durable`] only when the destination itself has confirmed the
//!    event (D1). A missing answer, a drop, a panic or a closed channel is never success (I1).
//! 2. **One verdict per delivery.** Every accepted delivery gets exactly one verdict, or [`Verdicts::next`]
//!    fails. In that case all deliveries in flight count as not durable. The worker hands them over again
//!    after a new [`Sink::open`].
//! 3. **Order.** A sink with [`Sink::keeps_order`] makes deliveries durable in the order of submission. After
//!    it answers [`Verdict::Retry`] for a delivery, no later delivery *of the same key* becomes durable
//!    before the first one is submitted again (I3). It answers `Durable` for a delivery only when all earlier
//!    ones *of the same key* have their verdicts, because a refused event can be offered again only as long
//!    as no later one is durable. For a sink that can't promise this, the worker keeps at most one event per
//!    key in flight.
//! 4. **No duplicates made by the sink.** A delivery answered with `Retry` has left nothing in the
//!    destination that a reader would see, as far as the destination allows this. A sink that can't know it
//!    documents the exception.
//! 5. **Bounded.** A sink holds only the deliveries that were submitted and not yet answered, and accepts
//!    fewer when it is full ([`Submit::submit`]).
//! 6. **It says what it holds.** A sink that can read its destination names the newest events in it
//!    ([`Sink::claim`]), so that what was stored before a crash is not stored again. It names only events for
//!    which it could give [`Verdict::Durable`]: the worker settles them (I1). A sink whose claim also ends every
//!    earlier writer of the queue reports it with [`SinkError::fenced`] when a later writer has ended its own
//!    connection. From then on it makes nothing durable that was submitted before.

use std::num::NonZeroU32;

use async_trait::async_trait;
use bytes::Bytes;

use super::error::SinkError;
use super::read_back::{Position, RecordSender};
use crate::event::EventRef;
use crate::finding::Finding;

/// The values that every sink gets when it is built, built-in or from another crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkContext {
    /// The sink's name in the configuration: `file` in `[sinks.file]`.
    pub sink: String,
    /// The AtData namespace that the events belong to.
    pub namespace: String,
    /// The destination id of the subscription, with the sink's suffix where sinks are mirrored.
    pub destination_id: String,
    /// The connection id of this process. No other process that runs at the same time has the same one (D4).
    pub connection_id: String,
    /// The queue that the events come from.
    pub queue: String,
    /// `event.partitions`: the same number for every sink (D5).
    pub partitions: Option<NonZeroU32>,
    /// The sink's table, such as `sinks.file`: the full key of each of its options begins with it.
    pub table: String,
    /// `source.max_body`: the largest size of a body, in bytes.
    pub max_body: usize,
    /// Whether the events are dead letters that are replayed, while a bridge may write events of the same queue.
    pub is_replay: bool,
}

impl SinkContext {
    /// Returns the full key of one of the sink's options, such as `sinks.nats.tls.ca_file`, for messages.
    pub fn option(&self, option: &str) -> String {
        format!("{}.{option}", self.table)
    }

    /// Returns the name under which the destination keeps what it knows of the writer of this queue, such as a
    /// transactional id. All bridges of the queue have the same one, and a replay has another one, because it must
    /// not end them.
    pub fn writer(&self) -> String {
        match self.is_replay {
            true => format!("{}.replay", self.queue),
            false => self.queue.clone(),
        }
    }
}

/// The number of a delivery. It grows in the order of submission within one worker; a resubmission gets a new
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// One event that a worker hands over to a sink.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The id that the verdict on this delivery must name.
    pub id: DeliveryId,
    /// The event, shared with its batch.
    pub event: EventRef,
}

/// The result of one delivery.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The destination has confirmed that the event is durable (D1).
    Durable,
    /// The event is not durable. The worker hands it over again, in order.
    Retry(SinkError),
    /// The event can never be delivered to this sink. The worker writes it as a dead letter.
    Reject(Rejection),
}

/// Why an event can never be delivered to a sink, or has no usable key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// A short fixed word for metrics and dead letters, such as `too_large`.
    pub reason: &'static str,
    /// A full explanation, for the operator.
    pub detail: String,
}

/// The newest events that a destination holds of the worker's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The message ids of events that are durable there, the newest last. Copies that were made for other queues
    /// or by other sinks do not count: they have the same ids.
    pub ids: Vec<Bytes>,
}

/// A destination of events. It is built from checked settings without any I/O; [`Sink::open`] does the I/O.
#[async_trait]
pub trait Sink: Send {
    /// Returns whether deliveries become durable in the order of submission (promise 3 of the module
    /// documentation).
    fn keeps_order(&self) -> bool;

    /// Returns whether a claim takes the queue over: no earlier writer can make anything durable after it. A
    /// connection can do that once, so the worker opens the sink again before a claim in a later session, and gives
    /// the session up when such a connection is lost. The worker remembers nothing of what it wrote, so every claim of
    /// such a sink must tell, or the bridge ends. A sink of dead letters must not take over.
    fn takes_over(&self) -> bool {
        false
    }

    /// Connects, and repairs and locks the files or resources it needs. It is called again, after a back-off,
    /// when it has failed, or when the producer or the acks have failed. Both parts of the previous
    /// connection are dropped before.
    ///
    /// # Errors
    /// The destination can't be opened now. The worker shows the error and retries for ever.
    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError>;

    /// Returns the newest events in the destination, at least the last `at_least` of the worker's queue as far
    /// as it has so many; `None` if the destination can't tell. The worker does not submit these events again.
    ///
    /// The worker calls it with nothing in flight, before the first delivery of each connection and of each
    /// session, and when the broker delivers an event again that the worker does not know.
    ///
    /// # Errors
    /// The destination can't be read now. The worker opens the sink again, after a back-off.
    async fn claim(&mut self, at_least: usize) -> Result<Option<Held>, SinkError> {
        let _ = at_least;
        Ok(None)
    }

    /// Checks the destination for the verb `check`, without writing an event and without leaving anything
    /// behind. Returns what it found, for the operator.
    ///
    /// # Errors
    /// The reason why [`Sink::open`] would fail.
    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError>;

    /// Sends the records that the destination holds at the time of the call to `records`, from the position
    /// `from` on, or all of them. Their order is the same each time. The sink need not be open. It changes
    /// nothing in the destination, and leaves nothing behind there.
    ///
    /// # Errors
    /// The destination can't be read now, or this kind of sink can't read at all. Records that were sent before
    /// are good.
    async fn read_back(&mut self, from: Option<Position>, records: RecordSender) -> Result<(), SinkError> {
        let _ = (from, records);
        Err(SinkError::misconfigured("this kind of sink can't be read back"))
    }
}

/// The producer of an open sink: takes events.
#[async_trait]
pub trait Submit: Send {
    /// Takes as many deliveries from the front as there is room for, in order, and returns how many. Never
    /// waits. A sink with nothing in flight takes at least one. If it takes fewer than offered, the worker
    /// offers the rest again after the next verdicts.
    ///
    /// # Errors
    /// The connection is broken. The worker drops the producer and the acks, and opens the sink again.
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError>;

    /// Flushes, unlocks and releases. It is called when nothing is in flight any more.
    ///
    /// # Errors
    /// Something could not be released. The error is logged only, because all events are settled.
    async fn close(&mut self) -> Result<(), SinkError>;
}

/// The acks of an open sink: gives the verdicts on events.
#[async_trait]
pub trait Verdicts: Send {
    /// Waits for the next verdicts and returns at least one. Their order is free, except for promise 3.
    /// Cancel-safe: no verdict is lost when the future is dropped.
    ///
    /// # Errors
    /// The connection is broken; the deliveries in flight count as not durable.
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError>;

    /// Returns whether the destination answers, as far as this is known without a request. The worker calls
    /// it about once a second. It is for sinks whose client library handles an outage by itself: deliveries
    /// get no verdict during the outage, and only this method makes the error visible (D11). The worker shows
    /// it and continues as usual.
    ///
    /// # Errors
    /// The current error of the destination.
    fn health(&self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Forgets an error that was about refused events. The worker calls it when none of them is left, because another
    /// replica has got them: nothing could show any more whether the error lasts.
    fn forget_refused(&self) {}
}
