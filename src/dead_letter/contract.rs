//! The contract of a store of dead letters.

use async_trait::async_trait;

use super::record::DeadLetter;
use crate::sink::SinkError;

/// Where dead letters are kept. All lanes share one.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// Where they are kept, for people: a directory, a topic.
    fn place(&self) -> &str;

    /// Keeps all of them, durably, before it answers. Dropping the future leaves open whether they are kept.
    ///
    /// # Errors
    /// None of them counts as kept; the lane tries again, for ever.
    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError>;

    /// Opens it, unless it is open: trouble shows before there are any letters. Cancel-safe.
    ///
    /// # Errors
    /// What keeps it from being written to.
    async fn open(&self) -> Result<(), SinkError>;

    /// For `check`: whether it could be opened, without leaving anything behind. Returns lines worth
    /// knowing; one that begins with `warning: ` is a warning.
    ///
    /// # Errors
    /// What would keep it from being opened.
    async fn probe(&self) -> Result<Vec<String>, SinkError>;

    /// Nothing more will be written: finishes files, gives locks back.
    async fn close(&self);
}
