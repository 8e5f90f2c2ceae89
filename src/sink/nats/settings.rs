//! Defines the checked settings of a NATS sink.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::StreamConfig;
use super::template::{IdTemplate, SubjectTemplate};
use crate::secret::Secret;

/// How the sink logs in to the server.
#[derive(Clone, Debug)]
pub(super) enum Auth {
    None,
    Password { username: String, password: Secret },
    Token(Secret),
    Nkey(Secret),
    Credentials(PathBuf),
}

/// The checked settings of the table `tls`.
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
    /// The most deliveries without an answer; at least 1.
    pub(super) window: usize,
    pub(super) timeout: Duration,
    pub(super) inbox_prefix: String,
    pub(super) domain: Option<String>,
    pub(super) auth: Auth,
    pub(super) tls: TlsSettings,
    /// How to create a missing stream; `None` if the bridge must not create it.
    pub(super) create: Option<StreamConfig>,
}
