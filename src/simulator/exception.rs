//! What ActiveMQ refuses something with: a Java exception, the same text in either protocol.

/// The class of every refusal for who somebody is.
pub(crate) const SECURITY: &str = "java.lang.SecurityException";

/// A Java exception as clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JavaException {
    /// Its class with the package.
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
