//! Defines the settings of a NATS sink, once they are checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::StreamConfig;
use super::template::{IdTemplate, SubjectTemplate};
use crate::secret::Secret;

/// How the user is known.
#[derive(Clone, Debug)]
pub(super) enum Auth {
    None,
    Password { username: String, password: Secret },
    Token(Secret),
    Nkey(Secret),
    Credentials(PathBuf),
}

/// Checked TLS.
#[derive(Clone, Debug)]
pub(super) struct TlsSettings {
    pub(super) required: bool,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) first: bool,
}

impl TlsSettings {
    /// The client's own certificate and its key.
    pub(super) fn identity(&self) -> Option<(&Path, &Path)> {
        self.certificate_file.as_deref().zip(self.key_file.as_deref())
    }
}

/// The checked settings of one NATS sink.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    pub(super) servers: Vec<String>,
    /// `None`: core NATS.
    pub(super) stream: Option<String>,
    pub(super) subject: SubjectTemplate,
    pub(super) message_id: IdTemplate,
    /// At least 1.
    pub(super) window: usize,
    pub(super) timeout: Duration,
    pub(super) inbox_prefix: String,
    pub(super) domain: Option<String>,
    pub(super) auth: Auth,
    pub(super) tls: TlsSettings,
    /// How the stream is made if it is missing, if it may be.
    pub(super) create: Option<StreamConfig>,
}
