//! Reads the files back ([`Sink::read_back`](crate::sink::Sink::read_back)).

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::journal::{self, JournalSettings, ReadBackError};
use crate::sink::{Position, RecordSender, SinkError, StoredRecord};

/// Sends each line of the journals in a directory, on a thread for blocking work.
pub(crate) async fn read_lines(
    settings: JournalSettings,
    from: Option<Position>,
    records: RecordSender,
) -> Result<(), SinkError> {
    let from = match from {
        None => None,
        Some(Position::Line { file, line }) => Some((file, line)),
        Some(other) => return Err(other.wrong_form("file:line")),
    };
    let read = move || {
        let from = from.as_ref().map(|(file, line)| (&**file, *line));
        journal::read_lines(&settings, from, |file, line, content| {
            let position = Position::Line { file: Arc::clone(file), line };
            match records.blocking_send(StoredRecord { position, content: content.into() }) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_nobody_waits) => ControlFlow::Break(()),
            }
        })
    };
    let ended = |_| SinkError::unavailable("the thread that reads the files has ended");
    spawn_blocking(read).await.map_err(ended)?.map_err(|error| match error {
        ReadBackError::Name(_) | ReadBackError::NoDirectory { .. } => {
            SinkError::misconfigured(error.to_string())
        }
        ReadBackError::Directory { .. } | ReadBackError::File { .. } | ReadBackError::Files { .. } => {
            SinkError::unavailable(error.to_string())
        }
    })
}
