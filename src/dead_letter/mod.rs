//! Keeps dead letters: the events that can never be delivered, with the reason (I6, D14).

pub mod config;
mod contract;
pub mod file_store;
mod held_letters;
mod limits;
mod record;
mod replay_mark;
pub mod sink_store;
mod stored_letter;

use std::sync::Arc;

use self::config::{DeadLetterPlace, DeadLetterSettings};
pub use self::contract::{DeadLetterStore, ReplayMarks};
use self::file_store::FileDeadLetters;
pub use self::limits::{DeadLetterLimits, LimitExceededError};
pub use self::record::DeadLetter;
pub use self::replay_mark::ReplayMark;
use self::sink_store::SinkDeadLetters;
pub use self::stored_letter::{StoredLetter, StoredLetterError, StoredLine};
use crate::sink::SinkContext;

/// Builds the store that the settings describe, without opening it. `context` is the context of a
/// subscription: a store in a sink serves only this one, and looks in its place for the letters of its queue.
/// `capacity` is how many letters at most can come again.
pub fn build(
    settings: &DeadLetterSettings,
    context: SinkContext,
    capacity: usize,
) -> Arc<dyn DeadLetterStore> {
    match &settings.place {
        DeadLetterPlace::Files(files) => {
            Arc::new(FileDeadLetters::new(files.clone(), &context.connection_id, capacity))
        }
        DeadLetterPlace::Sink(sink) => {
            let place = sink.factory.destination().map_or_else(|| sink.name.clone(), |place| place.place);
            // The place is named before the queue is known.
            let place = place
                .replace("{namespace}", &context.namespace)
                .replace("{destination_id}", &context.destination_id);
            Arc::new(SinkDeadLetters::new(sink.factory.build(context), place, capacity))
        }
    }
}

/// Builds the writer of replay marks for the place that the settings describe, without opening it. No other
/// process that runs at the same time may have the connection id in `context`.
pub fn build_replay_marks(settings: &DeadLetterSettings, context: SinkContext) -> Arc<dyn ReplayMarks> {
    match &settings.place {
        DeadLetterPlace::Files(files) => {
            Arc::new(FileDeadLetters::of_marks(files.clone(), &context.connection_id))
        }
        DeadLetterPlace::Sink(sink) => {
            Arc::new(SinkDeadLetters::new(sink.factory.build(context), sink.name.clone(), 0))
        }
    }
}
