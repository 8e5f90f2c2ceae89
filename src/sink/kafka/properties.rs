//! Defines `[sinks.kafka.properties]`: librdkafka's own properties, except those that would break a promise
//! of the sink (D9).

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sink::factory::Diagnostics;

/// Refused properties, each group with its reason. A name may begin or end with `*`.
const REFUSED: [(&str, &[&str]); 12] = [
    (
        "an event counts as delivered only when all in-sync replicas have it",
        &["acks", "request.required.acks"],
    ),
    (
        "without it retries would double and reorder events",
        &["enable.idempotence", "enable.gapless.guarantee", "queuing.strategy"],
    ),
    (
        "an event is tried until it is delivered: nothing is dropped by a timeout or a count of retries",
        &[
            "message.timeout.ms",
            "delivery.timeout.ms",
            "request.timeout.ms",
            "message.send.max.retries",
            "retries",
        ],
    ),
    ("more in flight would reorder events", &["max.in.flight", "max.in.flight.requests.per.connection"]),
    (
        "partitions are counted as Java's client does, the same in every sink",
        &["partitioner", "partitioner_cb", "msg_order_cmp"],
    ),
    (
        "with exactly_once the sink sets it, and otherwise a transaction of one process would fence off the others",
        &["transactional.id", "transaction.timeout.ms"],
    ),
    (
        "the bridge needs every delivery report, and reads the events of the client itself",
        &["delivery.report.only.error", "dr_cb", "dr_msg_cb", "enabled_events", "log.queue", "*_cb"],
    ),
    (
        "the sink's own bound on events and bytes in flight holds below it",
        &["queue.buffering.max.messages", "queue.buffering.max.kbytes"],
    ),
    (
        "a topic that is missing is never made by accident, and what waits for it comes back at once",
        &["allow.auto.create.topics", "topic.metadata.propagation.max.ms"],
    ),
    (
        "the broker's certificate and host name are always verified; name its CA by tls.ca_file",
        &[
            "enable.ssl.certificate.verification",
            "ssl.endpoint.identification.algorithm",
            "ssl.certificate.verify_cb",
        ],
    ),
    ("the [log] table decides what is logged", &["log_level", "log.thread.name", "statistics.interval.ms"]),
    ("it has no use in a producer that others configure", &["opaque", "default_topic_conf", "interceptors"]),
];

/// Properties that have an option of their own, and that option.
const TYPED: [(&str, &[&str]); 12] = [
    // librdkafka uses the one of two names that is set last. So the second name is refused.
    ("properties.linger.ms", &["queue.buffering.max.ms"]),
    ("brokers", &["bootstrap.servers", "metadata.broker.list"]),
    ("compression", &["compression.codec", "compression.type"]),
    ("tls.enabled and sasl.mechanism", &["security.protocol"]),
    ("tls.ca_file", &["ssl.ca.location", "ssl.ca.pem", "ssl_ca"]),
    ("tls.certificate_file", &["ssl.certificate.location", "ssl.certificate.pem", "ssl_certificate"]),
    ("tls.key_file", &["ssl.key.location", "ssl.key.pem", "ssl_key"]),
    ("tls.key_password or tls.key_password_file", &["ssl.key.password"]),
    ("sasl.mechanism", &["sasl.mechanism", "sasl.mechanisms", "sasl.oauthbearer.method"]),
    ("sasl.username", &["sasl.username"]),
    ("sasl.password or sasl.password_file", &["sasl.password"]),
    (
        "the keys token_url, client_id, client_secret and scope of `sasl`",
        &["sasl.oauthbearer.client.*", "sasl.oauthbearer.token.endpoint.url", "sasl.oauthbearer.scope"],
    ),
];

/// A name that contains one of these would put a secret where it is shown.
const SECRETS: [&str; 5] = ["password", "secret", "passphrase", "key.pem", "oauthbearer.config"];

/// The table as the user wrote it: each name, with its value as text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaProperties(BTreeMap<String, String>);

impl KafkaProperties {
    /// Makes a table of these names and values, for tests and examples.
    pub fn new<const N: usize>(properties: [(&str, &str); N]) -> Self {
        Self(properties.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Adds a mistake for each property that is refused, unknown or out of range. Returns the others under
    /// librdkafka's own names.
    pub(super) fn check(&self, diagnostics: &mut Diagnostics) -> BTreeMap<String, String> {
        let mut good = BTreeMap::new();
        for (given, value) in &self.0 {
            let name = own_name(given);
            match refusal(&name).or_else(|| invalid(&name, value)) {
                Some(message) => diagnostics.refuse(format!("properties.{given}"), message),
                // The form with underscores sorts last and replaces the other one: only the environment needs
                // it.
                None => drop(good.insert(name, value.clone())),
            }
        }
        good
    }
}

/// Returns librdkafka's name: `LINGER_MS` in the environment is `linger.ms`. `log_level` and the like have no
/// form with dots.
fn own_name(given: &str) -> String {
    let known = REFUSED.iter().chain(&TYPED).flat_map(|(_, names)| *names);
    match known.filter(|name| name.contains('_')).any(|name| matches(name, given)) {
        true => given.to_owned(),
        false => given.replace('_', "."),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => pattern == name,
    }
}

fn refusal(name: &str) -> Option<String> {
    let find = |table: &[(&'static str, &[&str])]| {
        let found = table.iter().find(|(_, names)| names.iter().any(|pattern| matches(pattern, name)));
        found.map(|(why, _)| *why)
    };
    let typed = find(&TYPED).map(|option| format!("is set by {option}"));
    let refused = || find(&REFUSED).map(|why| format!("can't be changed: {why}"));
    let secret = || {
        let is_secret = SECRETS.iter().any(|part| name.contains(part));
        is_secret.then(|| "would put a secret where it can be seen: it can't be used here".to_owned())
    };
    typed.or_else(refused).or_else(secret)
}

/// Returns librdkafka's objection to a value. Touches no network.
fn invalid(name: &str, value: &str) -> Option<String> {
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, message, _, _)) => Some(message),
        Err(error) => Some(error.to_string()),
    }
}

impl fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl KafkaProperties {
    /// Names and values, with possible secrets masked: they are refused, but may be shown before that.
    fn shown(&self) -> impl Iterator<Item = (&String, &str)> {
        self.0.iter().map(|(name, value)| {
            let is_secret = SECRETS.iter().any(|part| name.replace('_', ".").contains(part));
            (name, if is_secret { "***" } else { value.as_str() })
        })
    }
}

impl Serialize for KafkaProperties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

impl JsonSchema for KafkaProperties {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Properties".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // TOML parses an unquoted `linger.ms` as a table in a table.
        json_schema!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "object"]}})
    }
}

impl<'de> Deserialize<'de> for KafkaProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PropertiesVisitor)
    }
}

struct PropertiesVisitor;

impl<'de> Visitor<'de> for PropertiesVisitor {
    type Value = KafkaProperties;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of librdkafka's properties")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KafkaProperties, A::Error> {
        let mut properties = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            match map.next_value::<PropertyNode>()? {
                PropertyNode::Text(text) => drop(properties.insert(name, text)),
                // TOML parses an unquoted `linger.ms` as a table in a table.
                PropertyNode::Table(inner) => {
                    properties
                        .extend(inner.0.into_iter().map(|(rest, text)| (format!("{name}.{rest}"), text)));
                }
            }
        }
        Ok(KafkaProperties(properties))
    }
}

/// A value, or a table with the rest of a dotted name.
enum PropertyNode {
    Text(String),
    Table(KafkaProperties),
}

impl<'de> Deserialize<'de> for PropertyNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = PropertyNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, or true or false")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PropertyNode, E> {
        Ok(PropertyNode::Text(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<PropertyNode, E> {
        Ok(PropertyNode::Text(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<PropertyNode, E> {
        Ok(PropertyNode::Text(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<PropertyNode, E> {
        Ok(PropertyNode::Text(number.to_string()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<PropertyNode, E> {
        Ok(PropertyNode::Text(value.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PropertyNode, A::Error> {
        PropertiesVisitor.visit_map(map).map(PropertyNode::Table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(name: &str, value: &str) -> Option<String> {
        let mut diagnostics = Diagnostics::default();
        let good = KafkaProperties::new([(name, value)]).check(&mut diagnostics);
        let problem = diagnostics.problems().first().map(|found| format!("{} {}", found.key, found.message));
        assert_eq!(problem.is_none(), !good.is_empty());
        problem
    }

    #[test]
    fn what_would_void_a_promise_is_refused_under_all_its_names() {
        let promises = "acks request.required.acks enable.idempotence enable.gapless.guarantee queuing.strategy \
            message.timeout.ms delivery.timeout.ms request.timeout.ms message.send.max.retries retries \
            max.in.flight max.in.flight.requests.per.connection partitioner partitioner_cb transactional.id \
            delivery.report.only.error dr_cb dr_msg_cb error_cb enabled_events allow.auto.create.topics \
            queue.buffering.max.messages log_level enable.ssl.certificate.verification";
        for name in promises.split_whitespace() {
            for form in [name.to_owned(), name.replace('.', "_")] {
                let problem = problem(&form, "1").unwrap_or_else(|| panic!("{form} is accepted"));
                assert!(problem.starts_with(&format!("properties.{form} can't be changed: ")), "{problem}");
            }
        }
    }

    #[test]
    fn what_has_an_option_of_its_own_names_it_and_no_secret_is_taken() {
        let problem = |name| problem(name, "hush").unwrap();
        assert!(problem("bootstrap.servers").ends_with("is set by brokers"));
        assert!(problem("queue.buffering.max.ms").ends_with("is set by properties.linger.ms"));
        assert!(problem("sasl_password").contains("sasl.password_file"));
        assert!(problem("sasl.oauthbearer.client.credentials.client.secret").contains("client_secret"));
        for name in
            ["ssl.keystore.password", "sasl.oauthbearer.assertion.private.key.pem", "sasl.oauthbearer.config"]
        {
            let problem = problem(name);
            assert!(problem.contains("secret") && !problem.contains("hush"), "{problem}");
        }
        let properties = KafkaProperties::new([("sasl_password", "hush"), ("linger.ms", "7")]);
        let shown = format!("{properties:?} {}", serde_json::to_string(&properties).unwrap());
        assert!(shown.contains('7') && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn the_rest_is_for_librdkafka_to_judge() {
        assert_eq!(problem("linger.ms", "7"), None);
        assert_eq!(problem("linger_ms", "0.5"), None);
        assert_eq!(problem("https.ca.location", "/ca"), None);
        assert!(problem("linger.ms", "soon").unwrap().starts_with("properties.linger.ms Invalid value"));
        assert!(problem("linger.mss", "1").unwrap().contains("No such configuration property"));
    }

    #[test]
    fn names_may_be_quoted_bare_or_with_underscores_and_the_environment_wins() {
        let json = r#"{"linger.ms": 7, "batch": {"size": 1000, "num": {"messages": "3"}},
            "socket.keepalive.enable": false, "linger_ms": "9"}"#;
        let properties: KafkaProperties = serde_json::from_str(json).unwrap();
        let mut diagnostics = Diagnostics::default();
        let good = properties.check(&mut diagnostics);
        assert_eq!(diagnostics.problems(), []);
        let expected = [
            ("batch.num.messages", "3"),
            ("batch.size", "1000"),
            ("linger.ms", "9"),
            ("socket.keepalive.enable", "false"),
        ];
        assert_eq!(good, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
