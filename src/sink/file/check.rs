//! Checks, for the verb `check`, whether the directory can be written to.

use crate::finding::Finding;
use crate::journal::{self, JournalSettings};
use crate::sink::SinkError;

/// Returns what is known about the directory, for the operator, and leaves nothing behind. An error says why the sink
/// could not be opened.
pub(super) async fn check(journal: &JournalSettings) -> Result<Vec<Finding>, SinkError> {
    journal::probe(journal.clone()).await.map_err(|error| SinkError::from(&error))
}
