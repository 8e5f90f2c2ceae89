//! Defines the contract of a store of dead letters.
//!
//! A letter that the store already has is not written again, as far as the store can tell. The broker
//! delivers an event again whose letter is durable, if the bridge was killed before the acknowledgement. The
//! workers do not know such letters; the store finds them in its place (D7).

use async_trait::async_trait;

use super::record::DeadLetter;
use super::replay_mark::ReplayMark;
use crate::finding::Finding;
use crate::sink::{Position, RecordSender, SinkError};

/// A store to which a replay adds its marks.
#[async_trait]
pub trait ReplayMarks: DeadLetterStore {
    /// Adds the marks, and returns when all are durable.
    ///
    /// # Errors
    /// A mark can't be written. None of them counts as written.
    async fn add(&self, marks: &[ReplayMark]) -> Result<(), SinkError>;
}

/// A store of dead letters. All sink workers of a subscription share one store.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// Returns where the dead letters are kept, for messages: a directory or a topic.
    fn place(&self) -> &str;

    /// Writes the letters that the store does not have yet, and returns when all are durable. If the future
    /// is dropped, they may be written or not.
    ///
    /// # Errors
    /// The store can't write a letter, or can't find out which it has. None of the letters counts as written;
    /// the worker tries again, for ever.
    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError>;

    /// Opens the store, unless it is open, so that an error shows before there is a letter. Cancel-safe.
    ///
    /// # Errors
    /// The reason why the store can't be written to.
    async fn open(&self) -> Result<(), SinkError>;

    /// Checks for the verb `check` whether the store could be opened, and leaves nothing behind. Returns
    /// what it found, for the operator.
    ///
    /// # Errors
    /// The reason why [`Self::open`] would fail.
    async fn probe(&self) -> Result<Vec<Finding>, SinkError>;

    /// Sends all records in the place to `records`, also those of other queues and of other bridges, from the
    /// position `from` on, in an order that is the same each time. Changes nothing in the place. Not every
    /// record need be a letter: [`StoredLine::parse`](super::StoredLine::parse) tells.
    ///
    /// # Errors
    /// The place can't be read. Records that were sent before are good.
    async fn read_back(&self, from: Option<Position>, records: RecordSender) -> Result<(), SinkError>;

    /// Finishes the files and releases the locks. No letter is written after this call.
    async fn close(&self);
}
