//! Dead letters: events that can never be delivered, kept with their reason (I6).

pub mod config;
pub mod limits;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::event::EventRef;
use crate::sink::{Rejection, SinkError};

/// An event that can never be delivered, and why.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event.
    pub event: EventRef,
    /// Why.
    pub rejection: Rejection,
    /// The sink that refused it, or `event` when its key is unusable.
    pub sink: Arc<str>,
    /// How often it was handed over.
    pub attempts: u32,
    /// When it was handed over first.
    pub first: SystemTime,
    /// When it was refused.
    pub last: SystemTime,
}

/// Where dead letters are kept.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// Keeps all of them, durably, before it answers.
    ///
    /// # Errors
    /// None of them counts as kept; the lane tries again, for ever.
    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError>;
}
