//! Defines the Java exceptions with which ActiveMQ refuses requests. Both protocols send the same text.

use super::protocol::Flow;

/// The class of every refusal because of login or permissions.
pub(crate) const SECURITY: &str = "java.lang.SecurityException";

/// A Java exception as it is sent to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JavaException {
    /// The name of its class with the package.
    pub(crate) class: &'static str,
    pub(crate) message: String,
}

impl JavaException {
    pub(crate) fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    pub(crate) fn security(message: impl Into<String>) -> Self {
        Self::new(SECURITY, message)
    }
}

/// A command that is refused with an exception, and what becomes of the connection.
pub(crate) struct CommandError {
    pub(crate) exception: JavaException,
    pub(crate) flow: Flow,
}

impl CommandError {
    /// Makes the error end the connection.
    pub(crate) fn fatal(self) -> Self {
        Self { flow: Flow::Close, ..self }
    }
}

impl From<JavaException> for CommandError {
    fn from(exception: JavaException) -> Self {
        Self { exception, flow: Flow::Continue }
    }
}
