//! Checks `[sinks.kafka]`, and finds all mistakes, not only the first one.

use super::client::{self, ClientSettings};
use super::config::{KafkaConfig, KafkaTlsConfig, Mechanism, SaslConfig};
use super::settings::KafkaSettings;
use crate::secret::Secret;
use crate::sink::factory::{BuildContext, Diagnostics};

/// Checks a Kafka sink's table. Mistakes go into `diagnostics`. Touches no network.
pub fn check(
    config: &KafkaConfig,
    context: &BuildContext,
    diagnostics: &mut Diagnostics,
) -> Option<KafkaSettings> {
    let brokers = brokers(config.brokers.as_deref().unwrap_or_default(), diagnostics);
    let topic = topic(config.topic.as_deref(), diagnostics);
    let mut client = ClientSettings::new(brokers, config.compression);
    sasl(&config.sasl, config.tls.enabled, &mut client, diagnostics);
    tls(&config.tls, &mut client, diagnostics);
    roots(config, &mut client, diagnostics);
    for (name, value) in config.properties.check(diagnostics) {
        client.set(&name, value);
    }
    // The dead letters' table has the option of the sink whose settings it shares. A store is opened for each write,
    // in no session, so it would take the queue over from the active replica.
    let exactly_once = config.exactly_once && !context.is_for_dead_letters;
    if exactly_once {
        check_exactly_once(context, &client, diagnostics);
    }
    if diagnostics.is_good()
        && let Err(message) = client::try_out(&client, exactly_once)
    {
        diagnostics.refuse(if message.contains("ssl.") { "tls" } else { "properties" }, message);
    }
    let topic = topic.filter(|_| diagnostics.is_good())?;
    let user = config.sasl.username.clone().or_else(|| config.sasl.client_id.clone()).unwrap_or_default();
    Some(KafkaSettings {
        topic,
        partitions: context.partitions,
        exactly_once,
        client,
        mechanism: config.sasl.mechanism,
        user,
        tls: config.tls.clone(),
        optional_answer_within: KafkaSettings::OPTIONAL_ANSWER_WITHIN,
    })
}

/// Checks what transactions need from the rest of the configuration.
fn check_exactly_once(context: &BuildContext, client: &ClientSettings, diagnostics: &mut Diagnostics) {
    if !context.is_strict {
        let needs = "needs source.ordering = \"strict\", because only one replica at a time may write in \
                     transactions: set that, or unset this";
        diagnostics.refuse("exactly_once", needs);
    }
    if client.linger().is_some() {
        let why = "can't be set together with exactly_once: the sink sets it itself";
        diagnostics.refuse("properties.linger.ms", why);
    }
}

fn brokers(brokers: &[String], diagnostics: &mut Diagnostics) -> String {
    if brokers.is_empty() {
        diagnostics.missing("brokers", "say where the cluster is, such as `kafka-1.example.com:9092`");
    }
    for broker in brokers {
        let strange = |letter: char| letter.is_whitespace() || "/@,".contains(letter);
        if broker.is_empty() || broker.contains(strange) {
            diagnostics.refuse("brokers", format!("`{broker}` is no broker: write host:port"));
        }
    }
    brokers.join(",")
}

/// Checks the name by Kafka's rules (`org.apache.kafka.common.internals.Topic`).
fn topic(topic: Option<&str>, diagnostics: &mut Diagnostics) -> Option<String> {
    let topic = diagnostics.required("topic", topic, "say where the events go")?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if topic.len() > 249 || topic == "." || topic == ".." || !topic.bytes().all(legal) {
        let allowed = "1 to 249 of a-z, A-Z, 0-9, dot, underscore and hyphen";
        diagnostics.refuse("topic", format!("`{topic}` is no name of a topic: {allowed}"));
        return None;
    }
    Some(topic)
}

fn sasl(config: &SaslConfig, encrypted: bool, client: &mut ClientSettings, diagnostics: &mut Diagnostics) {
    let password =
        diagnostics.secret("sasl.password", config.password.as_ref(), config.password_file.as_deref());
    let client_secret = diagnostics.secret(
        "sasl.client_secret",
        config.client_secret.as_ref(),
        config.client_secret_file.as_deref(),
    );
    client.secure(encrypted, config.mechanism);
    if config.mechanism == Mechanism::None {
        return unused(
            config,
            &["username", "password", "token_url", "client_id", "client_secret"],
            diagnostics,
        );
    }
    if !encrypted && matches!(config.mechanism, Mechanism::Plain | Mechanism::OauthBearer) {
        diagnostics.warn(
            "sasl.mechanism",
            "without TLS the password or token can be read on the way: set tls.enabled",
        );
    }
    if config.mechanism == Mechanism::OauthBearer {
        unused(config, &["username", "password"], diagnostics);
        client.oidc(
            text("sasl.token_url", config.token_url.as_deref(), diagnostics),
            text("sasl.client_id", config.client_id.as_deref(), diagnostics),
            secret("sasl.client_secret", client_secret, diagnostics),
            config.scope.as_deref(),
        );
        token_url(config.token_url.as_deref(), diagnostics);
    } else {
        unused(config, &["token_url", "client_id", "client_secret"], diagnostics);
        client.login(
            text("sasl.username", config.username.as_deref(), diagnostics),
            secret("sasl.password", password, diagnostics),
        );
    }
}

fn text(key: &str, value: Option<&str>, diagnostics: &mut Diagnostics) -> String {
    diagnostics.required(key, value, "the mechanism needs it").unwrap_or_default()
}

fn secret(key: &str, secret: Option<Secret>, diagnostics: &mut Diagnostics) -> Secret {
    if secret.is_none() && diagnostics.keys().iter().all(|known| !known.starts_with(key)) {
        diagnostics.missing(key, "the mechanism needs it, or a file that holds it");
    }
    secret.unwrap_or_else(|| Secret::new(""))
}

fn token_url(url: Option<&str>, diagnostics: &mut Diagnostics) {
    let Some(url) = url.filter(|url| !url.is_empty()) else { return };
    if url.contains('@') {
        diagnostics.refuse("sasl.token_url", "must not hold a password: use client_id and client_secret");
    } else if url.starts_with("http://") {
        diagnostics.warn("sasl.token_url", "the client secret can be read on the way: use https");
    } else if !url.starts_with("https://") {
        diagnostics.refuse("sasl.token_url", "must begin with https:// (or http://)");
    }
}

/// Adds a mistake for each option that is set and has no effect with this mechanism.
fn unused(config: &SaslConfig, names: &[&str], diagnostics: &mut Diagnostics) {
    for name in names {
        let is_set = match *name {
            "username" => config.username.is_some(),
            "password" => config.password.is_some() || config.password_file.is_some(),
            "token_url" => config.token_url.is_some(),
            "client_id" => config.client_id.is_some(),
            _ => config.client_secret.is_some() || config.client_secret_file.is_some(),
        };
        if is_set {
            diagnostics.refuse(
                format!("sasl.{name}"),
                "has no effect with this sasl.mechanism: set that, or unset this",
            );
        }
    }
}

fn tls(config: &KafkaTlsConfig, client: &mut ClientSettings, diagnostics: &mut Diagnostics) {
    let files = [
        ("tls.ca_file", &config.ca_file, "ssl.ca.location"),
        ("tls.certificate_file", &config.certificate_file, "ssl.certificate.location"),
        ("tls.key_file", &config.key_file, "ssl.key.location"),
    ];
    for (key, file, property) in files {
        diagnostics.readable(key, file.as_deref());
        if let Some(file) = file {
            if !config.enabled {
                diagnostics.refuse(key, "has no effect while tls.enabled is false");
            }
            client.set(property, file.display().to_string());
        }
    }
    let given = (config.key_password.as_ref(), config.key_password_file.as_deref());
    if let Some(password) = diagnostics.secret("tls.key_password", given.0, given.1) {
        client.set_secret("ssl.key.password", password);
    }
    match (&config.certificate_file, &config.key_file) {
        (Some(_), None) => diagnostics.missing("tls.key_file", "the certificate needs its key"),
        (None, Some(_)) => diagnostics.missing("tls.certificate_file", "the key needs its certificate"),
        _ => (),
    }
}

/// The message for a system that trusts no certificates.
const NO_ROOTS: &str =
    "this system has no trusted root certificates: install ca-certificates or name a file with tls.ca_file";

/// Uses the system's certificates if no file is named, because the OpenSSL inside librdkafka does not know
/// where this system keeps them: in the file or directory that `SSL_CERT_FILE` or `SSL_CERT_DIR` names, or where
/// distributions keep them.
fn roots(config: &KafkaConfig, client: &mut ClientSettings, diagnostics: &mut Diagnostics) {
    let asks_for_tokens = config.sasl.token_url.as_deref().is_some_and(|url| url.starts_with("https://"));
    let brokers_need_them = config.tls.enabled && config.tls.ca_file.is_none();
    if !asks_for_tokens && !brokers_need_them {
        return;
    }
    let found = openssl_probe::probe();
    let system = found.cert_file.or_else(|| found.cert_dir.into_iter().next());
    if brokers_need_them {
        match &system {
            Some(roots) => client.set("ssl.ca.location", roots.display().to_string()),
            None => diagnostics.missing("tls.ca_file", NO_ROOTS),
        }
    }
    if asks_for_tokens {
        match system.as_deref().or(config.tls.ca_file.as_deref()) {
            Some(roots) => client.set("https.ca.location", roots.display().to_string()),
            None => diagnostics.refuse("sasl.token_url", NO_ROOTS),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::config::KafkaProperties;
    use super::*;

    pub(in crate::sink::kafka) fn good() -> KafkaConfig {
        KafkaConfig {
            brokers: Some(vec!["127.0.0.1:9092".to_owned()]),
            topic: Some("events".to_owned()),
            ..KafkaConfig::default()
        }
    }

    pub(in crate::sink::kafka) fn checked(config: &KafkaConfig) -> Result<KafkaSettings, Vec<String>> {
        let mut diagnostics = Diagnostics::default();
        let context =
            BuildContext { partitions: None, prefetch: 1024, is_strict: true, is_for_dead_letters: false };
        let settings = check(config, &context, &mut diagnostics);
        settings.ok_or_else(|| diagnostics.keys().into_iter().map(str::to_owned).collect())
    }

    fn problems(config: &KafkaConfig) -> Vec<String> {
        checked(config).err().unwrap_or_default()
    }

    #[test]
    fn brokers_and_a_topic_are_enough() {
        assert_eq!(problems(&KafkaConfig::default()), ["brokers", "topic"]);
        let settings = checked(&good()).unwrap();
        assert_eq!(settings.place(), "the Kafka topic events of 127.0.0.1:9092");
    }

    #[test]
    fn a_place_is_the_same_in_whichever_order_its_brokers_are_named() {
        let place = |brokers: &[&str]| {
            let brokers = Some(brokers.iter().map(|&broker| broker.to_owned()).collect());
            checked(&KafkaConfig { brokers, ..good() }).unwrap().place()
        };
        assert_eq!(place(&["b:9092", "a:9092", "b:9092"]), place(&["a:9092", "b:9092"]));
        assert_ne!(place(&["a:9092", "b:9092"]), place(&["a:9092", "b:9093"]));
    }

    #[test]
    fn brokers_and_topics_that_are_none_are_refused() {
        for broker in ["", "kafka://a:9092", "user@a:9092", "a:9092,b:9092", "a b"] {
            assert_eq!(
                problems(&KafkaConfig { brokers: Some(vec![broker.to_owned()]), ..good() }),
                ["brokers"],
                "{broker}"
            );
        }
        for topic in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(250)] {
            assert_eq!(
                problems(&KafkaConfig { topic: Some(topic.to_owned()), ..good() }),
                ["topic"],
                "{topic}"
            );
        }
    }

    #[test]
    fn a_mechanism_needs_what_belongs_to_it_and_nothing_else() {
        let with = |sasl: SaslConfig| problems(&KafkaConfig { sasl, ..good() });
        let name = Some("bridge".to_owned());
        let hush = Some(Secret::new("hush"));
        for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
            let bare = SaslConfig { mechanism, ..SaslConfig::default() };
            assert_eq!(with(bare.clone()), ["sasl.username", "sasl.password"]);
            let full = SaslConfig { username: name.clone(), password: hush.clone(), ..bare };
            assert_eq!(with(full.clone()), [""; 0]);
            assert_eq!(with(SaslConfig { client_id: name.clone(), ..full.clone() }), ["sasl.client_id"]);
            assert_eq!(
                with(SaslConfig { mechanism: Mechanism::None, ..full }),
                ["sasl.username", "sasl.password"]
            );
        }
        let bare = SaslConfig { mechanism: Mechanism::OauthBearer, ..SaslConfig::default() };
        assert_eq!(with(bare.clone()), ["sasl.token_url", "sasl.client_id", "sasl.client_secret"]);
        let url = |url: &str| Some(url.to_owned());
        let full =
            SaslConfig { token_url: url("http://a/token"), client_id: name, client_secret: hush, ..bare };
        assert_eq!(with(full.clone()), [""; 0]);
        assert_eq!(with(SaslConfig { token_url: url("a/token"), ..full.clone() }), ["sasl.token_url"]);
        assert_eq!(with(SaslConfig { token_url: url("https://me:x@a/token"), ..full }), ["sasl.token_url"]);
    }

    #[test]
    fn tls_files_are_read_at_the_check() {
        let directory = tempfile::tempdir().unwrap();
        let garbage = directory.path().join("garbage.pem");
        std::fs::write(&garbage, "no certificate").unwrap();
        let with = |tls: KafkaTlsConfig| problems(&KafkaConfig { tls, ..good() });
        let on = KafkaTlsConfig { enabled: true, ..KafkaTlsConfig::default() };
        let missing = Some(directory.path().join("missing.pem"));
        assert_eq!(with(KafkaTlsConfig { ca_file: missing, ..on.clone() }), ["tls.ca_file"]);
        assert_eq!(with(KafkaTlsConfig { ca_file: Some(garbage.clone()), ..on.clone() }), ["tls"]);
        let certificate = Some(garbage.clone());
        assert_eq!(with(KafkaTlsConfig { certificate_file: certificate, ..on }), ["tls.key_file"]);
        let off = KafkaTlsConfig { ca_file: Some(garbage), ..KafkaTlsConfig::default() };
        assert_eq!(with(off), ["tls.ca_file"]);
    }

    #[test]
    fn properties_that_contradict_each_other_are_found_without_a_network() {
        let with = |name, value| {
            problems(&KafkaConfig { properties: KafkaProperties::new([(name, value)]), ..good() })
        };
        assert_eq!(with("linger.ms", "20"), [""; 0]);
        assert_eq!(with("acks", "1"), ["properties.acks"]);
        // This is more than reconnect.backoff.max.ms.
        assert_eq!(with("reconnect.backoff.ms", "20000"), ["properties"]);
    }

    #[test]
    fn transactions_need_one_replica_at_a_time_and_collect_by_themselves() {
        let with = |is_strict, properties: KafkaProperties| {
            let mut diagnostics = Diagnostics::default();
            let context =
                BuildContext { partitions: None, prefetch: 1024, is_strict, is_for_dead_letters: false };
            check(&KafkaConfig { exactly_once: true, properties, ..good() }, &context, &mut diagnostics);
            diagnostics.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(with(true, KafkaProperties::default()), "");
        let shared = with(false, KafkaProperties::default());
        assert!(shared.contains("exactly_once") && shared.contains("source.ordering"), "{shared}");
        let linger = with(true, KafkaProperties::new([("linger.ms", "20")]));
        assert!(linger.contains("properties.linger.ms"), "{linger}");
        // librdkafka wants a request to end before the transaction does.
        let socket = with(true, KafkaProperties::new([("socket.timeout.ms", "60000")]));
        assert!(socket.contains("transaction.timeout.ms"), "{socket}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let sasl = SaslConfig {
            mechanism: Mechanism::Plain,
            username: Some("bridge".to_owned()),
            password: Some(Secret::new("hush-hush")),
            ..SaslConfig::default()
        };
        let config = KafkaConfig { sasl, ..good() };
        let shown =
            format!("{config:?} {:?} {}", checked(&config).unwrap(), serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("hush-hush"), "{shown}");
    }
}
