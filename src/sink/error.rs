//! Tells what is wrong with a sink, for the worker that retries and for people.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::journal::JournalError;

/// What kind of trouble a sink is in: decides how the lane waits and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkErrorKind {
    /// Expected to pass by itself: an outage, a timeout.
    Unavailable,
    /// An operator must act: a missing topic, no permission, a full disk, a wrong setting.
    Misconfigured,
}

/// A sink's trouble. The message says what failed, and what to do where that is known.
#[derive(Clone, Debug)]
pub struct SinkError {
    /// Outage or operator's business.
    pub kind: SinkErrorKind,
    message: String,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
    reader_gone: bool,
}

impl SinkError {
    /// Trouble that is expected to pass by itself.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: SinkErrorKind::Unavailable, message: message.into(), cause: None, reader_gone: false }
    }

    /// Trouble that stays until an operator acts.
    pub fn misconfigured(message: impl Into<String>) -> Self {
        Self { kind: SinkErrorKind::Misconfigured, message: message.into(), cause: None, reader_gone: false }
    }

    /// Whoever read what the sink writes has left and can't come back, as the reader of a pipe: the process has
    /// nothing more to do, and ends. What is not settled is not acknowledged (I1).
    pub fn reader_gone(message: impl Into<String>) -> Self {
        Self { reader_gone: true, ..Self::unavailable(message) }
    }

    /// Whether it is [`reader_gone`](Self::reader_gone).
    pub fn is_reader_gone(&self) -> bool {
        self.reader_gone
    }

    /// The same kind of trouble in other words.
    #[must_use]
    pub fn with_message(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// Attaches the underlying error for people; it is shown behind the message.
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
    fn from(trouble: &JournalError) -> Self {
        let kind = match trouble.needs_operator() {
            true => SinkErrorKind::Misconfigured,
            false => SinkErrorKind::Unavailable,
        };
        Self { kind, message: trouble.to_string(), cause: None, reader_gone: false }
    }
}
