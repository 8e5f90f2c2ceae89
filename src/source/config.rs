//! Defines the `[source]` table, as written ([`SourceConfig`]) and as validated ([`SourceSettings`]).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backoff::BackoffConfig;
use crate::secret::Secret;
use crate::tls::TlsOptions;
use crate::units::{Period, Size};

/// A URL with a port, for schemas. A schema lets a URL with a secret pass, so that the check refuses it instead: that
/// one does not show the secret.
const URL_PATTERN: &str = r"@|^\s*[A-Za-z+]+://[^/?#,\s]+:[0-9]+/?\s*$";
/// An id without characters that have a meaning at the broker.
const ID_PATTERN: &str = r"^[^.*>,/\s]+$";

/// The AtData queue to consume.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Where the broker listens. STOMP: `stomp://host:port` or `stomp+tls://host:port`; OpenWire:
    /// `tcp://host:port` or `ssl://host:port`. AtData tells host and port. Required, or `urls`.
    #[schemars(example = &"stomp+tls://broker.example.com:61614", regex(pattern = URL_PATTERN))]
    pub url: Option<String>,
    /// Several addresses of the broker instead of `url`, tried in turn, each by the protocol of its own.
    #[schemars(inner(regex(pattern = URL_PATTERN)))]
    pub urls: Vec<String>,
    /// Given by AtData: 4 or 5 digits. Required.
    #[schemars(example = &"12345")]
    pub username: Option<String>,
    /// Given by AtData: 32 hex digits. Required, but better kept in a file:
    /// `password_file`.
    #[schemars(example = &"0123456789abcdef0123456789abcdef")]
    pub password: Option<Secret>,
    /// A file that holds the password, read again for each login; one line feed at its end is ignored.
    #[schemars(example = &"/etc/atdata-bridge/password")]
    pub password_file: Option<PathBuf>,
    /// The namespace that AtData has given to you. Required.
    #[schemars(example = &"acme", regex(pattern = ID_PATTERN))]
    pub namespace: Option<String>,
    /// Chosen by you and never changed: each destination id gets all events; its queue is
    /// `<destination id>.RTO.<namespace>`. Changing it loses what waits in the old queue. Required.
    #[schemars(example = &"main", regex(pattern = ID_PATTERN))]
    pub destination_id: Option<String>,
    /// Chosen by you, unique for each process, constant across restarts. Default:
    /// `<namespace>-<destination id>-<host name>`.
    #[schemars(example = &"acme-main-1", regex(pattern = ID_PATTERN))]
    pub connection_id: Option<String>,
    /// How many events the broker may have on the way, un-acked. 1 to 20000, and not exactly 1000, which
    /// ActiveMQ takes for "the broker's default".
    #[schemars(range(min = 1, max = 20_000), extend("not" = {"const": 1000}))]
    pub prefetch: u32,
    /// How often each side must hear from the other; `0s` switches heart-beats off.
    pub heart_beat: Period,
    /// `shared`: replicas with one destination id share its events. `strict`: one replica is active and
    /// keeps the order of the queue, the others stand by.
    pub ordering: Ordering,
    /// `shared`: one subscription, acknowledged when all sinks hold the event. `mirror`: one subscription
    /// per sink, with the destination id `<destination id>-<sink>`, so that a sink that is down delays
    /// no other.
    pub isolation: Isolation,
    /// STOMP only: the virtual host that is named at the login. ActiveMQ has none and ignores it; others, such as
    /// RabbitMQ and Artemis, may want a certain one. Unset: the host in the first URL.
    #[schemars(example = &"/atdata")]
    pub virtual_host: Option<String>,
    /// The largest body accepted. A larger one stops the source, visibly, until this is raised.
    pub max_body: Size,
    /// STOMP only: the most headers that one message may have, which are its properties and a few more. A message
    /// that has more stops the source, visibly, until this is raised. 100 to 100000.
    #[schemars(range(min = 100, max = 100_000))]
    pub max_headers: u32,
    /// The largest header of a message over STOMP, and all that a message has besides its body over OpenWire. A
    /// larger one stops the source, visibly, until this is raised. From 1 KiB to 64 MiB.
    pub max_header_size: Size,
    /// The most memory that events on the way may take, all sessions together; above it the socket is not
    /// read. At least `max_body`.
    pub max_in_flight: Size,
    /// How long connecting, logging in and subscribing may each take.
    pub connect_timeout: Period,
    /// Connect anew when nothing has come for so long and nothing is on the way, in case the broker has
    /// silently dropped the subscription; `0s` switches this off.
    pub idle_reconnect: Period,
    /// How long the bridge waits between reconnects.
    pub backoff: BackoffConfig,
    /// TLS, for `stomp+tls://` and `ssl://`.
    pub tls: SourceTlsConfig,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            url: None,
            urls: Vec::new(),
            username: None,
            password: None,
            password_file: None,
            namespace: None,
            destination_id: None,
            connection_id: None,
            prefetch: 1024,
            heart_beat: Period::secs(10),
            ordering: Ordering::default(),
            isolation: Isolation::default(),
            virtual_host: None,
            max_body: Size::mib(4),
            max_headers: 1000,
            max_header_size: Size(64 << 10),
            max_in_flight: Size::mib(64),
            connect_timeout: Period::secs(10),
            idle_reconnect: Period::secs(15 * 60),
            backoff: BackoffConfig::default(),
            tls: SourceTlsConfig::default(),
        }
    }
}

/// How replicas that share a destination id share its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ordering {
    /// All replicas take events, each its share.
    #[default]
    Shared,
    /// One replica is active (`activemq.exclusive:true`), the others stand by.
    Strict,
}

/// Whether sinks share one subscription (D8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// One subscription for all sinks.
    #[default]
    Shared,
    /// One subscription, and so one queue, for each sink.
    Mirror,
}

/// TLS to the broker. Certificate and host name are always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceTlsConfig {
    /// A PEM file with the certificates to trust, instead of the system's.
    #[schemars(example = &"/etc/atdata-bridge/ca.pem")]
    pub ca_file: Option<PathBuf>,
    /// The bridge's own certificate (PEM), where the broker asks for one.
    #[schemars(example = &"/etc/atdata-bridge/client.pem")]
    pub certificate_file: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[schemars(example = &"/etc/atdata-bridge/client.key")]
    pub key_file: Option<PathBuf>,
}

/// What is spoken with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// STOMP 1.2, a text protocol that many brokers speak.
    Stomp,
    /// OpenWire, the binary protocol of ActiveMQ and its Java clients.
    #[value(name = "openwire")]
    OpenWire,
}

/// One address at which the broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port of the broker, 1 to 65535.
    pub port: u16,
    pub protocol: Protocol,
    pub tls: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.protocol, self.tls) {
            (Protocol::Stomp, false) => "stomp",
            (Protocol::Stomp, true) => "stomp+tls",
            (Protocol::OpenWire, false) => "tcp",
            (Protocol::OpenWire, true) => "ssl",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// The validated settings of one subscription to one queue.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Addresses of the broker, at least one, tried in turn.
    pub endpoints: Vec<Endpoint>,
    pub username: String,
    /// The password, read again for each login if it is in a file.
    pub password: Secret,
    pub namespace: String,
    /// The destination id, with the sink's suffix if isolation is `mirror`.
    pub destination_id: String,
    /// The client id, the same for STOMP and OpenWire.
    pub connection_id: String,
    /// The most events that may be unacknowledged, 1 to 20000.
    pub prefetch: u32,
    /// The interval announced for both directions; `None` switches heart-beats off.
    pub heart_beat: Option<Duration>,
    /// Whether replicas share the events or stand by.
    pub ordering: Ordering,
    /// STOMP's `host` header; `None` for the host in the first URL.
    pub virtual_host: Option<String>,
    /// The largest body accepted, in bytes.
    pub max_body: usize,
    /// The most headers that one STOMP frame may have.
    pub max_headers: usize,
    /// The most bytes in one STOMP header, or in all of an OpenWire message except its body.
    pub max_header_size: usize,
    /// The longest time for each of connecting, logging in and subscribing.
    pub connect_timeout: Duration,
    /// Reconnects after this long without a message; `None` never does.
    pub idle_reconnect: Option<Duration>,
    /// How the waits between connection attempts grow.
    pub backoff: BackoffConfig,
    /// Which certificates TLS trusts and presents.
    pub tls: SourceTlsConfig,
}

impl SourceSettings {
    /// Returns the name of the option that holds the address: `source.url` or `source.urls`.
    pub fn address_option(&self) -> &'static str {
        if self.endpoints.len() > 1 { "source.urls" } else { "source.url" }
    }

    /// Returns the TLS options, with the option names for error messages.
    pub fn tls_options(&self) -> TlsOptions {
        TlsOptions {
            table: "source.tls".to_owned(),
            address: self.address_option().to_owned(),
            ca_file: self.tls.ca_file.clone(),
            certificate_file: self.tls.certificate_file.clone(),
            key_file: self.tls.key_file.clone(),
        }
    }

    /// Returns the name of the queue: `<destination id>.RTO.<namespace>`.
    pub fn queue(&self) -> String {
        format!("{}.RTO.{}", self.destination_id, self.namespace)
    }
}
