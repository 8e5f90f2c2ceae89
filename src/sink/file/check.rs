//! Checks for the verb `check` whether the directory can be written to.

use crate::journal::{self, JournalSettings};
use crate::sink::SinkError;

/// What is worth knowing of the directory. Leaves nothing behind.
///
/// # Errors
/// What would keep the sink from opening.
pub(super) async fn check(journal: &JournalSettings) -> Result<Vec<String>, SinkError> {
    journal::probe(journal.clone()).await.map_err(|error| SinkError::from(&error))
}
