//! Defines an event that a worker has taken, and what the verdict on it means.

use std::time::SystemTime;

use crate::event::{EventRef, EventTimes};
use crate::sink::{Rejection, SinkError};

/// An event that the worker has taken and not settled.
#[derive(Clone, Debug)]
pub struct PendingEvent {
    pub event: EventRef,
    /// How many times it was handed over to the sink.
    pub attempts: u32,
    /// When it was handed over for the first time.
    pub since: Option<SystemTime>,
}

/// How many events were settled without being handed over, because the sink has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suppressed {
    pub all: u64,
    /// Those that another process wrote.
    pub found: u64,
}

/// The sink gave a verdict on a delivery that is not in flight, or a second verdict on the same delivery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sink gave a verdict on delivery {0}, which is not in flight")]
pub struct UnknownDeliveryError(pub u64);

/// What the worker must do after a verdict.
#[derive(Debug)]
pub enum VerdictEffect {
    /// The event is settled, or belongs to an earlier session. Holds the times of the event.
    Durable(EventTimes),
    /// The event must be handed over again, after a wait.
    Retry(SinkError),
    /// The event must be handed over again, because the limits allow no dead letter.
    Refused,
    /// The event must be written as a dead letter; `WorkerState::dead_letters_written` then settles it.
    WriteDeadLetter(PendingEvent, Rejection),
}
