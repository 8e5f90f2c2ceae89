//! Tests each way to log in: mechanisms, certificates, tokens; and the errors of a refused login.

use std::time::{SystemTime, UNIX_EPOCH};

use atdata_bridge::secret::Secret;
use atdata_bridge::sink::kafka::config::{KafkaConfig, KafkaTlsConfig, Mechanism, SaslConfig};
use atdata_bridge::sink::{Sink, SinkErrorKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{config, numbers, sink};
use crate::sinks::contract::Rig;
use kit::certificates::Certificates;
use kit::kafka::{CUSTOMER, Kafka, Listener, on_kafka, shared};
use kit::{SOON, wait_until};

on_kafka!(
    every_mechanism_logs_in,
    a_client_sends_its_certificate,
    a_refused_login_is_reported,
    an_untrusted_certificate_is_reported,
    a_password_file_that_changes_is_used_without_a_restart,
);

const CLIENT: (&str, &str) = ("bridge", "client-secret");

fn tls(kafka: &Kafka, enabled: bool) -> KafkaTlsConfig {
    let ca_file = enabled.then(|| kafka.certificates().authority.clone());
    KafkaTlsConfig { enabled, ca_file, ..KafkaTlsConfig::default() }
}

fn with_password(mechanism: Mechanism, (username, password): (&str, &str)) -> SaslConfig {
    SaslConfig {
        mechanism,
        username: Some(username.to_owned()),
        password: Some(Secret::new(password)),
        ..SaslConfig::default()
    }
}

fn with_token(url: String, secret: &str) -> SaslConfig {
    SaslConfig {
        mechanism: Mechanism::OauthBearer,
        token_url: Some(url),
        client_id: Some(CLIENT.0.to_owned()),
        client_secret: Some(Secret::new(secret)),
        scope: Some("kafka".to_owned()),
        ..SaslConfig::default()
    }
}

/// Sends `count` events and waits until they are acknowledged.
async fn deliver(sink: Box<dyn Sink>, base: u64, count: u64) {
    let mut rig = Rig::start(sink, base).await;
    rig.send_to(base + count).await;
    rig.wait_for_ack(base + count).await;
    rig.drain().await;
}

async fn every_mechanism_logs_in() {
    let kafka = shared();
    kafka.create_topic("mechanisms", 3, &[]);
    kafka.add_user("scram", "SCRAM-SHA-256", "scram-secret");
    kafka.add_user("scram", "SCRAM-SHA-512", "scram-secret");
    let scram = ("scram", "scram-secret");
    let url = token_endpoint().await;
    let mut base = 0;
    for (listener, encrypted) in [(Listener::Sasl, false), (Listener::SaslTls, true)] {
        for sasl in [
            with_password(Mechanism::Plain, CUSTOMER),
            with_password(Mechanism::ScramSha256, scram),
            with_password(Mechanism::ScramSha512, scram),
            with_token(url.clone(), CLIENT.1),
        ] {
            let config =
                KafkaConfig { sasl, tls: tls(kafka, encrypted), ..config(kafka, listener, "mechanisms") };
            sink(config.clone(), None)
                .probe()
                .await
                .unwrap_or_else(|error| panic!("{:?}: {error}", config.sasl));
            deliver(sink(config, None), base, 10).await;
            base += 10;
        }
    }
    assert_eq!(numbers(kafka, "mechanisms"), (1..=base).collect::<Vec<_>>());
}

async fn a_client_sends_its_certificate() {
    let kafka = shared();
    kafka.create_topic("certificates", 1, &[]);
    kafka.make_read_only("certificates");
    kafka.allow("User:CN=customer", "WRITE", "certificates");
    let certificates = kafka.certificates();
    let tls = KafkaTlsConfig {
        certificate_file: Some(certificates.client.clone()),
        key_file: Some(certificates.client_key.clone()),
        ..tls(kafka, true)
    };
    let config = KafkaConfig { tls, ..config(kafka, Listener::Tls, "certificates") };
    deliver(sink(config, None), 0, 10).await;
    assert_eq!(numbers(kafka, "certificates"), (1..=10).collect::<Vec<_>>());
}

async fn a_refused_login_is_reported() {
    let kafka = shared();
    kafka.create_topic("logins", 1, &[]);
    let url = token_endpoint().await;
    for sasl in [
        with_password(Mechanism::Plain, (CUSTOMER.0, "wrong-secret")),
        with_password(Mechanism::ScramSha512, ("nobody", "wrong-secret")),
        with_token(url, "wrong-secret"),
    ] {
        let config = KafkaConfig { sasl, ..config(kafka, Listener::Sasl, "logins") };
        let mechanism = config.sasl.mechanism;
        let mut sink = sink(config, None);
        for attempt in [sink.probe().await.err(), sink.open().await.err()] {
            let error = attempt.unwrap_or_else(|| panic!("{mechanism:?} was accepted"));
            let text = error.to_string();
            assert_eq!(error.kind, SinkErrorKind::Misconfigured, "{mechanism:?}: {text}");
            assert!(text.contains("sinks.subject.sasl.") && !text.contains("wrong-secret"), "{text}");
        }
    }
}

async fn an_untrusted_certificate_is_reported() {
    let kafka = shared();
    kafka.create_topic("untrusted", 1, &[]);
    let directory = tempfile::tempdir().unwrap();
    let other = Certificates::make(directory.path(), &["localhost".to_owned()]);
    let tls = KafkaTlsConfig { enabled: true, ca_file: Some(other.authority), ..KafkaTlsConfig::default() };
    let config = KafkaConfig { tls, ..config(kafka, Listener::Tls, "untrusted") };
    let error = sink(config, None).probe().await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("sinks.subject.tls.ca_file"), "{error}");
}

/// Starts an OpenID Connect token endpoint that knows one client. Its tokens are not signed: Kafka's
/// validator for development accepts any token.
pub async fn token_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    url
}

async fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_complete(&request) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the request ends early");
        request.extend_from_slice(&buffer[..count]);
    }
    let request = String::from_utf8(request).unwrap();
    let login = STANDARD.encode(format!("{}:{}", CLIENT.0, CLIENT.1));
    let is_known = request.contains(&format!("Authorization: Basic {login}"));
    let is_asked = request.contains("grant_type=client_credentials") && request.contains("scope=kafka");
    let (status, body) = match is_known && is_asked {
        true => {
            ("200 OK", format!(r#"{{"access_token":"{}","token_type":"Bearer","expires_in":3600}}"#, token()))
        }
        false => ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
    let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"bridge","iat":{now},"exp":{}}}"#, now + 3600);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

/// A client keeps the password that it was made with, so the sink makes a new one.
async fn a_password_file_that_changes_is_used_without_a_restart() {
    let kafka = shared();
    kafka.create_topic("rotated", 3, &[]);
    kafka.add_user("rotated", "SCRAM-SHA-512", "old-secret");
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("password");
    std::fs::write(&file, "old-secret\n").expect("write the password");
    let sasl = SaslConfig {
        mechanism: Mechanism::ScramSha512,
        username: Some("rotated".to_owned()),
        password_file: Some(file.clone()),
        ..SaslConfig::default()
    };
    let config = KafkaConfig { sasl, ..config(kafka, Listener::Sasl, "rotated") };
    let mut rig = Rig::start(sink(config, None), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;

    kafka.add_user("rotated", "SCRAM-SHA-512", "new-secret");
    std::fs::write(&file, "new-secret\n").expect("write the password");
    let reason = |rig: &Rig| {
        let states = rig.states.all();
        states.into_iter().any(|(_, state, _)| state.reason().contains("password has changed"))
    };
    wait_until("the sink connects again", SOON, || reason(&rig)).await;
    rig.send_to(200).await;
    rig.wait_for_ack(200).await;
    rig.drain().await;
    assert_eq!(numbers(kafka, "rotated"), (1..=200).collect::<Vec<_>>());
}
