//! What librdkafka is told: the properties that keep the promises of the sink, and those of the user.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

use super::config::{KafkaCompression, Mechanism};
use super::latency::SHORTEST;
use crate::secret::Secret;

/// What the sink relies on; none of it can be changed.
const PROMISES: [(&str, &str); 11] = [
    // D1: the brokers' own word, once and in order.
    ("acks", "all"),
    ("enable.idempotence", "true"),
    // A record that fails for good stops all behind it, instead of being overtaken (I3).
    ("enable.gapless.guarantee", "true"),
    // No record is given up: an outage is ridden out inside the client.
    ("message.timeout.ms", "0"),
    ("retries", "2147483647"),
    // A topic that is missing is an operator's business.
    ("allow.auto.create.topics", "false"),
    // One that goes missing takes what waits for it back at once: it may come back with other partitions.
    ("topic.metadata.propagation.max.ms", "0"),
    // The sink's own bound holds below these (I4).
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", "2147483647"),
    // The partition is always given; this would speak for records without one.
    ("partitioner", "murmur2_random"),
    ("delivery.report.only.error", "false"),
];

/// What may be changed, and is good for many small events.
const DEFAULTS: [(&str, &str); 3] = [
    ("batch.size", "1000000"),
    // Only they tell that the brokers throttle (`throttle.rs`).
    ("statistics.interval.ms", "5000"),
    // A connection that died in silence is noticed while nothing is sent, too.
    ("socket.keepalive.enable", "true"),
];

/// How long records are gathered. librdkafka's older name for it is refused (`properties.rs`).
const LINGER: &str = "linger.ms";

/// The properties of one client; secrets apart, so that nothing shows them.
#[derive(Clone, Debug)]
pub(super) struct ClientSettings {
    properties: BTreeMap<String, String>,
    secrets: BTreeMap<&'static str, Secret>,
}

impl ClientSettings {
    pub(super) fn new(brokers: String, compression: KafkaCompression) -> Self {
        let mut settings = Self { properties: BTreeMap::new(), secrets: BTreeMap::new() };
        for (name, value) in DEFAULTS.iter().chain(&PROMISES) {
            settings.set(name, *value);
        }
        settings.set("bootstrap.servers", brokers);
        settings.set("compression.codec", compression.name());
        settings
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.properties.insert(name.to_owned(), value.into());
    }

    pub(super) fn set_secret(&mut self, name: &'static str, value: Secret) {
        self.secrets.insert(name, value);
    }

    /// How the connection is protected, and how it logs in.
    pub(super) fn secure(&mut self, encrypted: bool, mechanism: Mechanism) {
        let protocol = match (encrypted, mechanism) {
            (false, Mechanism::None) => "plaintext",
            (true, Mechanism::None) => "ssl",
            (false, _) => "sasl_plaintext",
            (true, _) => "sasl_ssl",
        };
        self.set("security.protocol", protocol);
        if mechanism != Mechanism::None {
            self.set("sasl.mechanism", mechanism.name());
        }
    }

    pub(super) fn login(&mut self, username: String, password: Secret) {
        self.set("sasl.username", username);
        self.set_secret("sasl.password", password);
    }

    pub(super) fn oidc(&mut self, url: String, client_id: String, secret: Secret, scope: Option<&str>) {
        self.set("sasl.oauthbearer.method", "oidc");
        self.set("sasl.oauthbearer.token.endpoint.url", url);
        self.set("sasl.oauthbearer.client.id", client_id);
        self.set_secret("sasl.oauthbearer.client.secret", secret);
        if let Some(scope) = scope {
            self.set("sasl.oauthbearer.scope", scope);
        }
    }

    /// As configured, separated by commas.
    pub(super) fn brokers(&self) -> &str {
        self.properties.get("bootstrap.servers").map_or("", String::as_str)
    }

    /// The largest batch in bytes, as far as it is known to be allowed.
    pub(super) fn batch_bytes(&self) -> usize {
        self.number("batch.size").unwrap_or(1_000_000)
    }

    /// The largest record in bytes; librdkafka's default where the user set none.
    pub(super) fn record_bytes(&self) -> usize {
        self.number("message.max.bytes").unwrap_or(1_000_000)
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.properties.get(name)?.parse().ok()
    }

    /// How long records are gathered, where the user says so.
    pub(super) fn linger(&self) -> Option<Duration> {
        let linger = self.properties.get(LINGER)?;
        // librdkafka reads more than Rust does; what only it can read counts as short.
        let millis: f64 = linger.trim().parse().unwrap_or_default();
        Some(Duration::try_from_secs_f64(millis / 1000.0).unwrap_or_default())
    }

    /// For librdkafka, with batches of `batch_bytes` at most, gathered for `linger` if that is left to the sink.
    pub(super) fn config(&self, client_id: &str, batch_bytes: usize, linger: Duration) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", client_id);
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        for (name, value) in &self.secrets {
            config.set(*name, value.current().reveal());
        }
        config.set("batch.size", batch_bytes.max(1).to_string());
        if self.linger().is_none() {
            config.set(LINGER, linger.as_millis().to_string());
        }
        config.set_log_level(match self.properties.contains_key("debug") {
            true => RDKafkaLogLevel::Debug,
            false => RDKafkaLogLevel::Info,
        });
        config
    }
}

/// Whether librdkafka takes the properties all together, files of keys and certificates included. Knows no
/// broker and logs in nowhere, so it touches no network.
pub(super) fn try_out(settings: &ClientSettings) -> Result<(), String> {
    let mut config = settings.config("check", settings.batch_bytes(), SHORTEST);
    config.remove("bootstrap.servers");
    let protocol = config.get("security.protocol").unwrap_or_default().replace("sasl_", "");
    config.set("security.protocol", protocol);
    for name in settings.properties.keys().filter(|name| name.starts_with("sasl.")) {
        config.remove(name);
    }
    for name in settings.secrets.keys().filter(|name| name.starts_with("sasl.")) {
        config.remove(name);
    }
    match config.create::<BaseProducer>() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientCreation(message)) => Err(message),
        Err(KafkaError::ClientConfig(_, message, name, _)) => Err(format!("{name}: {message}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The longest that one question to the brokers may take.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
