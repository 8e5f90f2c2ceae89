//! Dead letters: events that can never be delivered, kept with their reason (I6, D14).

pub mod config;
pub mod file_store;
mod limits;
mod record;
pub mod sink_store;

use std::sync::Arc;

use async_trait::async_trait;

use self::config::{DeadLetterPlace, DeadLetterSettings};
use self::file_store::FileDeadLetters;
pub use self::limits::{DeadLetterLimits, LimitExceededError};
pub use self::record::DeadLetter;
use self::sink_store::SinkDeadLetters;
use crate::sink::{SinkContext, SinkError};

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

/// The store that the settings describe; touches nothing yet. `context` is that of the bridge as a whole.
pub fn build(settings: &DeadLetterSettings, context: SinkContext) -> Arc<dyn DeadLetterStore> {
    match &settings.place {
        DeadLetterPlace::Files(files) => {
            Arc::new(FileDeadLetters::new(files.clone(), &context.connection_id))
        }
        DeadLetterPlace::Sink(sink) => {
            let place = sink.factory.destination().map_or_else(|| sink.name.clone(), |place| place.place);
            Arc::new(SinkDeadLetters::new(sink.factory.build(context), place))
        }
    }
}
