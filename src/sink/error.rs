//! Describes the errors of a sink, for the worker that retries and for the operator.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::finding::{Code, codes};
use crate::journal::JournalError;

/// The kind of a sink's error. It decides whether the worker reports the status retrying or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkErrorKind {
    /// An error that is expected to pass without any action: an outage, a timeout.
    Unavailable,
    /// An operator must act: a missing topic, no permission, a full disk, a wrong setting.
    Misconfigured,
}

/// An error of a sink. The message says what failed and, if this is known, what to do.
#[derive(Clone, Debug)]
pub struct SinkError {
    /// Whether the error passes by itself or needs an operator.
    pub kind: SinkErrorKind,
    message: String,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
    reader_gone: bool,
    fenced: bool,
    code: Option<Code>,
}

impl SinkError {
    /// Creates an error that is expected to pass by itself.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            kind: SinkErrorKind::Unavailable,
            message: message.into(),
            cause: None,
            reader_gone: false,
            fenced: false,
            code: None,
        }
    }

    /// Creates an error that stays until an operator acts.
    pub fn misconfigured(message: impl Into<String>) -> Self {
        Self { kind: SinkErrorKind::Misconfigured, ..Self::unavailable(message) }
    }

    /// Creates the error for a reader of the sink's output that has left and can't return, such as the reader
    /// of a pipe. The process then ends, because it has nothing more to do. Events that are not settled are
    /// not acknowledged (I1).
    pub fn reader_gone(message: impl Into<String>) -> Self {
        Self { reader_gone: true, ..Self::unavailable(message) }
    }

    /// Creates the error of a sink whose destination now takes events only from another bridge that has taken
    /// over the queue. The worker gives up the session: that bridge has its events.
    pub fn fenced(message: impl Into<String>) -> Self {
        Self { fenced: true, ..Self::unavailable(message) }
    }

    /// Returns whether the error was created by [`fenced`](Self::fenced).
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Returns whether the error was created by [`reader_gone`](Self::reader_gone).
    pub fn is_reader_gone(&self) -> bool {
        self.reader_gone
    }

    /// Names the cause for programs that read the results of `check`.
    #[must_use]
    pub fn coded(self, code: Code) -> Self {
        Self { code: Some(code), ..self }
    }

    /// Returns the code of the cause, if it has one.
    pub fn code(&self) -> Option<&Code> {
        self.code.as_ref()
    }

    /// Replaces the message, and keeps the kind and the code of the error.
    #[must_use]
    pub fn with_message(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// Attaches the underlying error; it is shown after the message.
    #[must_use]
    pub fn caused_by(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl StdError for SinkError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_ref().map(|cause| cause.as_ref() as &(dyn StdError + 'static))
    }
}

impl From<&JournalError> for SinkError {
    fn from(error: &JournalError) -> Self {
        let kind = match error.needs_operator() {
            true => SinkErrorKind::Misconfigured,
            false => SinkErrorKind::Unavailable,
        };
        Self { kind, code: code_of(error), ..Self::unavailable(error.to_string()) }
    }
}

/// Returns the code of the errors that have a cause of their own.
fn code_of(error: &JournalError) -> Option<Code> {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error {
        JournalError::Io { cause, .. } => Some(match cause.kind() {
            PermissionDenied => codes::FILES_PERMISSION,
            ReadOnlyFilesystem => codes::FILES_READ_ONLY,
            StorageFull | QuotaExceeded => codes::FILES_NO_ROOM,
            _ => codes::FILES_FAILED,
        }),
        JournalError::Reserve { .. } => Some(codes::FILES_NO_ROOM),
        JournalError::Exists { .. } => Some(codes::FILES_NAME_TAKEN),
        JournalError::Full { .. } => Some(codes::FILES_MAX_TOTAL),
        JournalError::Stale { .. } => Some(codes::FILES_MAX_AGE),
        JournalError::Locked { .. }
        | JournalError::LockedByReplay { .. }
        | JournalError::Moved { .. }
        | JournalError::Interrupted(_) => None,
    }
}
