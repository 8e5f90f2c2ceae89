//! Tests each way to log in, and TLS: correct settings work, and wrong settings give a clear error.

use std::fs;
use std::path::{Path, PathBuf};

use atdata_bridge::key::Key;
use atdata_bridge::secret::Secret;
use atdata_bridge::sink::nats::config::{NatsConfig, NatsTlsConfig, StreamConfig};
use atdata_bridge::sink::{SinkErrorKind, Verdict};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::{context, deliver, event, sink};
use kit::certificates::Certificates;
use kit::nats::{NatsServer, on_nats};

on_nats!(
    a_user_and_password,
    a_token,
    a_rotated_token,
    an_nkey,
    a_credentials_file,
    tls_with_the_right_authority,
    tls_with_a_client_certificate,
    tls_before_the_server_info,
);

fn config() -> NatsConfig {
    let create_stream = StreamConfig { enabled: true, ..StreamConfig::default() };
    NatsConfig { stream: Some("EVENTS".to_owned()), create_stream, ..NatsConfig::default() }
}

/// Delivers one event and runs the probe. Returns the error of the delivery, if there is one.
async fn outcome(url: &str, config: NatsConfig) -> Result<(), (SinkErrorKind, String)> {
    let mut sink = sink(url, config, context(None));
    let body = format!(r#"{{"md5":"{}"}}"#, Key::digest(b"x"));
    let delivered = deliver(sink.as_mut(), vec![event("ID:1", body)]).await;
    let probed = sink.probe().await;
    assert_eq!(delivered.is_err(), probed.is_err(), "the probe must agree with the delivery: {probed:?}");
    match delivered {
        Ok(verdicts) => assert!(matches!(verdicts[..], [Verdict::Durable]), "{verdicts:?}"),
        Err(error) => return Err((error.kind, error.to_string())),
    }
    Ok(())
}

async fn assert_refused(url: &str, config: NatsConfig) {
    let (kind, message) = outcome(url, config).await.expect_err("a refusal");
    assert_eq!(kind, SinkErrorKind::Misconfigured, "{message}");
    assert!(message.contains("sinks.nats."), "{message}");
}

async fn a_user_and_password() {
    let server = NatsServer::start("authorization { user: bridge, password: \"s3cret\" }\n");
    let with = |password: &str| NatsConfig {
        username: Some("bridge".to_owned()),
        password: Some(Secret::new(password)),
        ..config()
    };
    outcome(&server.url(), with("s3cret")).await.unwrap();
    assert_refused(&server.url(), with("wrong")).await;
    assert_refused(&server.url(), config()).await;
}

async fn a_token() {
    let server = NatsServer::start("authorization { token: \"t0ken\" }\n");
    let with = |token: &str| NatsConfig { token: Some(Secret::new(token)), ..config() };
    outcome(&server.url(), with("t0ken")).await.unwrap();
    assert_refused(&server.url(), with("wrong")).await;
}

/// The sink reads the token file again for each login.
async fn a_rotated_token() {
    let demands = |token: &str| format!("authorization {{ token: \"{token}\" }}\n");
    let server = NatsServer::start(&demands("0ld"));
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "token", "0ld\n");
    let config = NatsConfig { token_file: Some(file.clone()), ..config() };
    let mut sink = sink(&server.url(), config, context(None));
    let body = format!(r#"{{"md5":"{}"}}"#, Key::digest(b"x"));
    let mut delivered = async |id: &str| deliver(sink.as_mut(), vec![event(id, body.clone())]).await;
    assert!(matches!(delivered("ID:1").await.unwrap()[..], [Verdict::Durable]));

    tokio::task::block_in_place(|| server.restart_with(&demands("n3w")));
    assert_eq!(delivered("ID:2").await.unwrap_err().kind, SinkErrorKind::Misconfigured);
    fs::write(&file, "n3w\n").unwrap();
    assert!(matches!(delivered("ID:2").await.unwrap()[..], [Verdict::Durable]));
}

async fn an_nkey() {
    let user = KeyPair::new_user();
    let server =
        NatsServer::start(&format!("authorization {{ users: [ {{ nkey: {} }} ] }}\n", user.public_key()));
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "seed", &format!("{}\n", user.seed().unwrap()));
    outcome(&server.url(), NatsConfig { nkey_file: Some(file), ..config() }).await.unwrap();
    let with = |seed: String| NatsConfig { nkey: Some(Secret::new(seed)), ..config() };
    outcome(&server.url(), with(user.seed().unwrap())).await.unwrap();
    assert_refused(&server.url(), with(KeyPair::new_user().seed().unwrap())).await;
    assert_refused(&server.url(), with("SUnonsense".to_owned())).await;
}

async fn a_credentials_file() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let system = KeyPair::new_account();
    let server = NatsServer::start(&operator_mode(&operator, &account, &system));
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "creds", &credentials(&account, &user, -1));
    let with = |file: &Path| NatsConfig { credentials_file: Some(file.to_owned()), ..config() };
    outcome(&server.url(), with(&file)).await.unwrap();

    let unknown_account = KeyPair::new_account();
    let unknown = write(directory.path(), "strange", &credentials(&unknown_account, &user, -1));
    assert_refused(&server.url(), with(&unknown)).await;
    let empty = write(directory.path(), "empty", "");
    assert_refused(&server.url(), with(&empty)).await;
}

async fn tls_with_the_right_authority() {
    let (_directory, certificates) = certificates();
    let server = NatsServer::with_tls(&certificates, "");
    let url = server.url();
    let with = |ca: &Path| {
        let tls = NatsTlsConfig { ca_file: Some(ca.to_owned()), ..NatsTlsConfig::default() };
        NatsConfig { tls, ..config() }
    };
    outcome(&url, with(&certificates.authority)).await.unwrap();
    outcome(&url.replace("nats://", "tls://"), with(&certificates.authority)).await.unwrap();

    let (_other_directory, others) = self::certificates();
    let (_, message) = outcome(&url, with(&others.authority)).await.expect_err("an unknown authority");
    assert!(message.contains("certificate"), "{message}");
    // The server wants TLS, and the system's certificates do not include the tests' authority.
    outcome(&url, config()).await.expect_err("an authority that is not configured");
    let wrong_name = url.replace("127.0.0.1", "127.0.0.2");
    outcome(&wrong_name, with(&certificates.authority)).await.expect_err("a certificate for another host");

    let plain = NatsServer::start("");
    let (_, message) =
        outcome(&plain.url(), with(&certificates.authority)).await.expect_err("a server without TLS");
    assert!(!message.is_empty(), "{message}");
}

async fn tls_with_a_client_certificate() {
    let (_directory, certificates) = certificates();
    let server = NatsServer::with_tls(&certificates, "verify: true");
    let tls = NatsTlsConfig { ca_file: Some(certificates.authority.clone()), ..NatsTlsConfig::default() };
    outcome(&server.url(), NatsConfig { tls: tls.clone(), ..config() }).await.expect_err("no certificate");
    let tls = NatsTlsConfig {
        certificate_file: Some(certificates.client.clone()),
        key_file: Some(certificates.client_key.clone()),
        ..tls
    };
    outcome(&server.url(), NatsConfig { tls, ..config() }).await.unwrap();
}

async fn tls_before_the_server_info() {
    let (_directory, certificates) = certificates();
    let server = NatsServer::with_tls(&certificates, "handshake_first: true");
    let tls = NatsTlsConfig {
        ca_file: Some(certificates.authority.clone()),
        first: true,
        ..NatsTlsConfig::default()
    };
    outcome(&server.url(), NatsConfig { tls, ..config() }).await.unwrap();
}

fn certificates() -> (tempfile::TempDir, Certificates) {
    let directory = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificates = Certificates::make(directory.path(), &names);
    (directory, certificates)
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Returns a server configuration for users who log in with a JWT. It has one account with JetStream and the
/// system account that the server needs.
pub fn operator_mode(operator: &KeyPair, account: &KeyPair, system: &KeyPair) -> String {
    let unlimited = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
        "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
    });
    let sign = |subject: &KeyPair, nats: Value| jwt(operator, subject, nats, None);
    let of_operator = sign(operator, json!({"type": "operator", "version": 2}));
    let of_account = sign(account, json!({"type": "account", "version": 2, "limits": unlimited}));
    let no_jetstream = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
    });
    let of_system = sign(system, json!({"type": "account", "version": 2, "limits": no_jetstream}));
    format!(
        "operator: \"{of_operator}\"\nsystem_account: {1}\nresolver: MEMORY\n\
         resolver_preload {{\n {0}: \"{of_account}\"\n {1}: \"{of_system}\"\n}}\n",
        account.public_key(),
        system.public_key()
    )
}

/// Returns the file that `nsc generate creds` writes. `payload` is the user's largest message in bytes; -1 is
/// no limit.
pub fn credentials(account: &KeyPair, user: &KeyPair, payload: i64) -> String {
    credentials_until(account, user, payload, None)
}

/// The same, valid until `end` in seconds since 1970.
pub fn credentials_until(account: &KeyPair, user: &KeyPair, payload: i64, end: Option<u64>) -> String {
    let jwt = jwt(
        account,
        user,
        json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": payload}),
        end,
    );
    let seed = user.seed().unwrap();
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: Value, end: Option<u64>) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let claims = part(json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": "test", "exp": end, "nats": nats
    }));
    let signed = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}
