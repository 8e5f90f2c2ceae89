//! Defines the table `[sinks.<name>]` with `kind = "nats"`, as the user writes it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::stream_config::{Discard, Retention, Storage, StreamConfig};
use crate::secret::Secret;
use crate::units::Period;

/// URLs of servers, for schemas. The check refuses one with a secret, without showing it.
const URLS_PATTERN: &str = r"@|^\s*(nats|tls)://[^/?#,\s]+/?\s*(,\s*(nats|tls)://[^/?#,\s]+/?\s*)*$";

/// NATS: a JetStream stream, or core NATS.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// Where the servers listen: `nats://host:port` or `tls://host:port`; several, separated by commas, are
    /// tried in any order. Without a user name and password: see `username`. Required.
    #[schemars(example = &"tls://nats.example.com:4222", regex(pattern = URLS_PATTERN))]
    pub url: Option<String>,
    /// The stream that events must reach. Required, but for core NATS.
    #[schemars(example = &"EVENTS", regex(pattern = r"^[^.*>/\\\s]+$"))]
    pub stream: Option<String>,
    /// What events are published to. `{namespace}`, `{destination_id}`, `{key}` (the MD5) and `{partition}`
    /// (needs `event.partitions`) are filled in. A subject for each key costs the server memory for each.
    pub subject: String,
    /// The `Nats-Msg-Id` by which the stream drops an event that it has already, inside its duplicate
    /// window. `{message_id}` (required), `{namespace}` and `{destination_id}` are filled in. By default the
    /// same event from two destination ids appears once.
    pub message_id: String,
    /// `jetstream`: an event is settled when the stream has acknowledged it. `core`: core NATS, at most once:
    /// an event is settled when the server has taken it, whoever listens then.
    pub delivery: DeliveryMode,
    /// How many events may wait for their acknowledgement at once; no more than `source.prefetch`. Unset: as
    /// many as that, at most 4096.
    #[schemars(range(min = 1), example = &1000)]
    pub window: Option<u32>,
    /// How long connecting, looking up the stream, and an acknowledgement may take; then the sink connects
    /// anew and publishes again.
    pub publish_timeout: Period,
    /// What the subjects of answers begin with, where the user may not subscribe to `_INBOX.>`.
    pub inbox_prefix: String,
    /// The JetStream domain of the stream, if it is not that of the server.
    #[schemars(example = &"hub")]
    pub domain: Option<String>,
    /// The monitoring port of a server, for `check` only: it tells whether the server syncs each event to disk.
    #[schemars(example = &"http://nats.example.com:8222")]
    pub monitor_url: Option<String>,
    /// The user name, for a login with `password`.
    #[schemars(example = &"bridge")]
    pub username: Option<String>,
    /// Better kept in a file: `password_file`.
    #[schemars(example = &"secret")]
    pub password: Option<Secret>,
    /// A file that holds the password, read again for each connection; one line feed at its end is ignored.
    #[schemars(example = &"/etc/atdata-bridge/nats-password")]
    pub password_file: Option<PathBuf>,
    /// A token instead of a user. Better kept in a file: `token_file`.
    #[schemars(example = &"secret")]
    pub token: Option<Secret>,
    /// A file that holds the token, read again for each connection.
    #[schemars(example = &"/etc/atdata-bridge/nats-token")]
    pub token_file: Option<PathBuf>,
    /// The seed of an nkey (`SU…`) instead of a user. Better kept in a file: `nkey_file`.
    #[schemars(example = &"SU...")]
    pub nkey: Option<Secret>,
    /// A file that holds the seed, read again for each connection.
    #[schemars(example = &"/etc/atdata-bridge/nats.nk")]
    pub nkey_file: Option<PathBuf>,
    /// A credentials file (JWT and seed) instead of a user; read again for each connection.
    #[schemars(example = &"/etc/atdata-bridge/nats.creds")]
    pub credentials_file: Option<PathBuf>,
    /// TLS, which `tls://` or any of these options asks for; a server may ask for it too.
    pub tls: NatsTlsConfig,
    /// How the stream is made if it is missing; one that exists is never changed.
    pub create_stream: StreamConfig,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            url: None,
            stream: None,
            subject: "atdata.{namespace}.{destination_id}".to_owned(),
            message_id: "{message_id}".to_owned(),
            delivery: DeliveryMode::default(),
            window: None,
            publish_timeout: Period::secs(10),
            inbox_prefix: "_INBOX".to_owned(),
            domain: None,
            monitor_url: None,
            username: None,
            password: None,
            password_file: None,
            token: None,
            token_file: None,
            nkey: None,
            nkey_file: None,
            credentials_file: None,
            tls: NatsTlsConfig::default(),
            create_stream: StreamConfig::default(),
        }
    }
}

/// What an event's settlement rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryMode {
    /// On the acknowledgement of the stream, which has stored it.
    #[default]
    Jetstream,
    /// On the server having read it; no stream is needed.
    Core,
}

/// TLS to the servers. Certificate and host name are always verified.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NatsTlsConfig {
    /// Certificates to trust, in PEM, instead of the system's.
    #[schemars(example = &"/etc/atdata-bridge/nats-ca.pem")]
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate, in PEM, where servers ask for one.
    #[schemars(example = &"/etc/atdata-bridge/nats-client.pem")]
    pub certificate_file: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[schemars(example = &"/etc/atdata-bridge/nats-client.key")]
    pub key_file: Option<PathBuf>,
    /// Begin with TLS, for servers with `handshake_first`.
    pub first: bool,
}
