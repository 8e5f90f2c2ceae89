//! Defines the checked settings of a NATS sink.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{NatsTlsConfig, StreamConfig};
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

#[derive(Clone, Debug)]
pub struct NatsSettings {
    pub(super) servers: Vec<String>,
    /// `None` means core NATS, which has no streams.
    pub(super) stream: Option<String>,
    pub(super) subject: SubjectTemplate,
    pub(super) message_id: IdTemplate,
    /// The most deliveries without an answer; at least 1.
    pub(super) window: usize,
    pub(super) timeout: Duration,
    pub(super) inbox_prefix: String,
    pub(super) domain: Option<String>,
    /// The address of a monitoring port, which `check` reads.
    pub(super) monitor: Option<String>,
    pub(super) auth: Auth,
    pub(super) tls: NatsTlsConfig,
    /// Whether a connection without TLS is refused.
    pub(super) tls_required: bool,
    /// How to create a missing stream; `None` if the bridge must not create it.
    pub(super) create: Option<StreamConfig>,
}

impl NatsSettings {
    /// Returns the servers, for comparison and for messages.
    pub(super) fn places(&self) -> String {
        let mut servers = self.servers.clone();
        servers.sort_unstable();
        servers.dedup();
        servers.join(", ")
    }

    /// How many messages the client keeps for each subscription. There must be room for the answers to all
    /// events in flight: the client drops what it has no room for.
    pub(super) fn subscription_capacity(&self) -> usize {
        2 * self.window + 64
    }
}
