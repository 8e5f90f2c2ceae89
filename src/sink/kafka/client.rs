//! Builds the configuration of librdkafka: the properties that keep the promises of the sink, and those of
//! the user.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

use super::config::{KafkaCompression, Mechanism};
use crate::secret::Secret;

/// The properties that the sink relies on. The user can't change them.
const PROMISES: [(&str, &str); 11] = [
    // D1: only the brokers' own confirmation counts. Each record is written once and in order.
    ("acks", "all"),
    ("enable.idempotence", "true"),
    // A record that fails for good stops all records behind it, so that none overtakes it (I3).
    ("enable.gapless.guarantee", "true"),
    // No record is given up: the client survives an outage by itself.
    ("message.timeout.ms", "0"),
    ("retries", "2147483647"),
    // If the topic is missing, an operator must create it.
    ("allow.auto.create.topics", "false"),
    // If the topic disappears, its waiting records come back at once, because the topic may come back with
    // another number of partitions.
    ("topic.metadata.propagation.max.ms", "0"),
    // The sink's own bound (I4) is below these limits.
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", "2147483647"),
    // The partition is always given. This property would apply to records without one.
    ("partitioner", "murmur2_random"),
    ("delivery.report.only.error", "false"),
];

/// Defaults that suit many small events. The user may change them.
const DEFAULTS: [(&str, &str); 3] = [
    ("batch.size", "1000000"),
    // Only the statistics tell that the brokers throttle (`throttle.rs`).
    ("statistics.interval.ms", "5000"),
    // A connection that has died silently is noticed even while nothing is sent.
    ("socket.keepalive.enable", "true"),
];

/// How long a client collects records for one request. librdkafka's older name for it is refused
/// (`properties.rs`).
const LINGER: &str = "linger.ms";

/// The properties of one client. Secrets are separate, so that nothing shows them.
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

    /// Sets how the connection is encrypted, and how it logs in.
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

    /// The brokers as configured, separated by commas.
    pub(super) fn brokers(&self) -> &str {
        self.properties.get("bootstrap.servers").map_or("", String::as_str)
    }

    /// The compression of the batches that the client sends.
    pub(super) fn compression(&self) -> &str {
        self.properties.get("compression.codec").map_or("none", String::as_str)
    }

    /// The largest batch in bytes that is known to be allowed.
    pub(super) fn batch_bytes(&self) -> usize {
        self.number("batch.size").unwrap_or(1_000_000)
    }

    /// The largest record in bytes; librdkafka's default if the user set none.
    pub(super) fn record_bytes(&self) -> usize {
        self.number("message.max.bytes").unwrap_or(1_000_000)
    }

    /// Returns the secrets, which the next client uses as they were read last.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.values()
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.properties.get(name)?.parse().ok()
    }

    /// How long a client collects records, if the user has set it.
    pub(super) fn linger(&self) -> Option<Duration> {
        let linger = self.properties.get(LINGER)?;
        // librdkafka parses more forms than Rust does. A form that only librdkafka parses counts as short.
        let millis: f64 = linger.trim().parse().unwrap_or_default();
        Some(Duration::try_from_secs_f64(millis / 1000.0).unwrap_or_default())
    }

    /// Makes librdkafka's configuration with batches of at most `batch_bytes`. `linger` counts only if the
    /// user has set none.
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

/// Checks whether librdkafka accepts all properties together, with the files of keys and certificates. It
/// removes the brokers and the login, so it opens no connection.
pub(super) fn try_out(settings: &ClientSettings, exactly_once: bool) -> Result<(), String> {
    let mut config = settings.config("check", settings.batch_bytes(), Duration::ZERO);
    if exactly_once {
        make_transactional(&mut config, "check");
    }
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

/// Makes a client write in transactions with this id. Its records have no timeout of their own either: the
/// connection ends when a transaction lasts too long ([`COMMIT_WITHIN`]).
pub(super) fn make_transactional(config: &mut ClientConfig, id: &str) {
    config.set("transactional.id", id);
    config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
}

/// After this time the brokers abort a transaction by themselves. Readers see nothing behind an open transaction,
/// so this is how long a bridge that is gone for good can hold them up. A frozen bridge may rest so long.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(20);

/// After this time a transaction is given up. It is shorter than [`TRANSACTION_TIMEOUT`], or an outage would look
/// as if another bridge had taken over.
pub(super) const COMMIT_WITHIN: Duration = Duration::from_secs(15);

/// How long after the begin of its commit readers may not see a transaction. Then the connection ends. It is longer
/// than brokers need to replace one that is dead (`broker.session.timeout.ms`, 9 s): before that they can't mark a
/// commit there.
pub(super) const READABLE_WITHIN: Duration = Duration::from_secs(12);

/// The longest time that one request to the brokers may take.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The longest that one call of librdkafka may last in a thread that must soon notice its end.
pub(super) const CALL: Duration = Duration::from_millis(250);
