//! Dead letters: events that can never be delivered, kept with their reason (I6, D14).

pub mod config;
pub mod file;
mod letter;
mod limits;

use async_trait::async_trait;

pub use self::letter::DeadLetter;
pub use self::limits::{LimitExceeded, Limits};
use crate::sink::SinkError;

/// Where dead letters are kept. All lanes share one.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// Keeps all of them, durably, before it answers. Dropping the future leaves open whether they are kept.
    ///
    /// # Errors
    /// None of them counts as kept; the lane tries again, for ever.
    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError>;

    /// Nothing more will be written: finishes files, gives locks back.
    async fn close(&self);
}
