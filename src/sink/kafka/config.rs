//! Defines the table `[sinks.<name>]` with `kind = "kafka"`, as the user writes it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::properties::KafkaProperties;
use crate::secret::Secret;

/// A topic of Apache Kafka.
///
/// The key of a record is the 32 lower-case hex digits, its value the body byte for byte, its partition that
/// of Java's client. Records carry headers: the message id, the queue, the time of publication and more.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Where the cluster is found: `host:port`, some of its brokers are enough. Required.
    #[schemars(example = &["kafka-1.example.com:9092", "kafka-2.example.com:9092"])]
    pub brokers: Option<Vec<String>>,
    /// The topic. It must exist; where `event.partitions` is set, with so many partitions. Required.
    #[schemars(example = &"atdata-events", regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))]
    pub topic: Option<String>,
    /// How the producer compresses each batch before it sends it.
    pub compression: KafkaCompression,
    /// Whether the events are written in transactions that a later bridge of the queue ends. Then no event is
    /// written twice after a crash, not even by a process that was frozen or whose bytes were held up. Needs
    /// `source.ordering = "strict"`, and readers with `isolation.level=read_committed`.
    pub exactly_once: bool,
    /// How the bridge logs in.
    pub sasl: SaslConfig,
    /// Encryption between the bridge and the brokers.
    pub tls: KafkaTlsConfig,
    /// Any other property of librdkafka, such as `"linger.ms" = 20` (in the environment
    /// `BRIDGE__SINKS__KAFKA__PROPERTIES__LINGER_MS`). Those that would void a promise are refused, with the
    /// reason: acks, idempotence, timeouts, retries, requests in flight, the partitioner.
    pub properties: KafkaProperties,
}

/// How the producer compresses each batch before it sends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KafkaCompression {
    /// No compression: least processor time, most traffic.
    None,
    /// Small, but takes the most processor time.
    Gzip,
    /// Fast, with larger batches than `gzip` and `zstd`.
    Snappy,
    /// Fast, and kind to the brokers.
    #[default]
    Lz4,
    /// The smallest, with less processor time than `gzip`.
    Zstd,
}

impl KafkaCompression {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// How the bridge logs in to the brokers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SaslConfig {
    /// `oauthbearer` asks a token endpoint with client credentials (OpenID Connect).
    pub mechanism: Mechanism,
    /// The user name for `plain` and `scram-…`.
    #[schemars(example = &"atdata-bridge")]
    pub username: Option<String>,
    /// The password for `plain` and `scram-…`.
    #[schemars(example = &"…")]
    pub password: Option<Secret>,
    /// A file with the password, instead of `password`.
    #[schemars(example = &"/run/secrets/kafka-password")]
    pub password_file: Option<PathBuf>,
    /// For `oauthbearer`: the token endpoint.
    #[schemars(example = &"https://id.example.com/oauth2/token")]
    pub token_url: Option<String>,
    /// For `oauthbearer`: the id with which the bridge asks for a token.
    #[schemars(example = &"atdata-bridge")]
    pub client_id: Option<String>,
    /// For `oauthbearer`: the secret of that client.
    #[schemars(example = &"…")]
    pub client_secret: Option<Secret>,
    /// A file with the client secret, instead of `client_secret`.
    #[schemars(example = &"/run/secrets/kafka-client-secret")]
    pub client_secret_file: Option<PathBuf>,
    /// For `oauthbearer`, where the token endpoint wants one.
    #[schemars(example = &"kafka")]
    pub scope: Option<String>,
}

/// The SASL mechanism with which the bridge logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// The bridge does not log in.
    #[default]
    None,
    /// Name and password, as they are.
    Plain,
    /// Name and password, neither of which travels.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// The same with a longer digest.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// A token, which an OpenID Connect endpoint issues.
    OauthBearer,
}

impl Mechanism {
    /// All mechanisms that log in: those but [`Mechanism::None`].
    pub(super) const LOGINS: [Self; 4] =
        [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer];

    /// The name of the mechanism in the protocol of Kafka.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// Encryption between the bridge and the brokers. Certificates and host names are always verified.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaTlsConfig {
    /// Whether the brokers speak TLS.
    pub enabled: bool,
    /// The CA of the brokers' certificates (PEM). Unset: those that the system trusts.
    #[schemars(example = &"/etc/kafka/ca.pem")]
    pub ca_file: Option<PathBuf>,
    /// The bridge's own certificate (PEM), where the brokers ask for one.
    #[schemars(example = &"/etc/kafka/bridge.pem")]
    pub certificate_file: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[schemars(example = &"/etc/kafka/bridge.key")]
    pub key_file: Option<PathBuf>,
    /// The password of the key, if it has one.
    #[schemars(example = &"…")]
    pub key_password: Option<Secret>,
    /// A file with the password of the key, instead of `key_password`.
    #[schemars(example = &"/run/secrets/kafka-key-password")]
    pub key_password_file: Option<PathBuf>,
}
