//! Tests logins that the server does not know, and users without the necessary permissions.

use std::fs;
use std::path::PathBuf;

use async_nats::ConnectOptions;
use nkeys::KeyPair;

use super::{NatsServer, Scene, make_stream, read_stream};
use crate::sinks::nats::logins::{credentials, operator_mode};

const ADMIN: &str = "{ user: admin, password: admin }";

fn password(password: &str) -> String {
    format!("authorization {{ users: [ {ADMIN}, {{ user: bridge, password: {password:?} }} ] }}\n")
}

fn may(permissions: &str) -> String {
    format!(
        "authorization {{ users: [ {ADMIN}, {{ user: bridge, password: s3cret, permissions: {permissions} }} ] }}\n"
    )
}

async fn admin(server: &NatsServer) -> async_nats::jetstream::Context {
    let options = ConnectOptions::new().user_and_password("admin".to_owned(), "admin".to_owned());
    server.jetstream_as(options).await
}

async fn with_stream(config: &str) -> NatsServer {
    let server = NatsServer::start(config);
    make_stream(&admin(&server).await, "EVENTS", &["events.>"]).await;
    server
}

fn as_bridge(scene: Scene, server: &NatsServer) -> Scene {
    scene
        .set("SINKS__NATS__URL", server.url())
        .set("SINKS__NATS__USERNAME", "bridge")
        .set("SINKS__NATS__PASSWORD", "s3cret")
}

pub async fn login_missing(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = with_stream(&password("s3cret")).await;
    let repaired = scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
    let repaired = repaired.set("SINKS__NATS__USERNAME", "bridge").set("SINKS__NATS__PASSWORD", "s3cret");
    repaired.delivers(&admin(&server).await).await;
}

pub async fn password_wrong(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = with_stream(&password("another")).await;
    as_bridge(scene, &server).shows(id).await;
}

pub async fn user_unknown(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = with_stream(&password("s3cret")).await;
    as_bridge(scene, &server).set("SINKS__NATS__USERNAME", "brigde").shows(id).await;
}

pub async fn token_wrong(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = NatsServer::start("authorization { token: \"t0ken\" }\n");
    scene.set("SINKS__NATS__URL", server.url()).set("SINKS__NATS__TOKEN", "wrong").shows(id).await;
}

async fn with_seed(id: &str, seed: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let public = KeyPair::new_user().public_key();
    let server = NatsServer::start(&format!("authorization {{ users: [ {{ nkey: {public} }} ] }}\n"));
    scene.set("SINKS__NATS__URL", server.url()).set("SINKS__NATS__NKEY", seed).shows(id).await;
}

pub async fn nkey_unknown(id: &str) {
    with_seed(id, &KeyPair::new_user().seed().expect("a seed")).await;
}

pub async fn nkey_no_seed(id: &str) {
    with_seed(id, "SUnonsense").await;
}

async fn with_credentials(id: &str, text: impl FnOnce(&KeyPair, &KeyPair) -> String) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let server = NatsServer::start(&operator_mode(&operator, &account, &KeyPair::new_account()));
    let directory = tempfile::tempdir().expect("a directory");
    let file: PathBuf = directory.path().join("bridge.creds");
    fs::write(&file, text(&account, &user)).expect("write credentials");
    let scene = scene.set("SINKS__NATS__URL", server.url());
    scene.set("SINKS__NATS__CREDENTIALS_FILE", file.display().to_string()).shows(id).await;
}

pub async fn credentials_foreign(id: &str) {
    with_credentials(id, |_, user| credentials(&KeyPair::new_account(), user, -1)).await;
}

pub async fn credentials_empty(id: &str) {
    with_credentials(id, |_, _| String::new()).await;
}

/// The server closes the connection of a client that publishes more than its login allows, and names no
/// event.
pub async fn payload_limit_of_the_user(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let server = NatsServer::start(&operator_mode(&operator, &account, &KeyPair::new_account()));
    let directory = tempfile::tempdir().expect("a directory");
    let file: PathBuf = directory.path().join("bridge.creds");
    fs::write(&file, credentials(&account, &user, 300)).expect("write credentials");
    let unlimited = credentials(&account, &KeyPair::new_user(), -1);
    let options = ConnectOptions::with_credentials(&unlimited).expect("credentials");
    let jetstream = server.jetstream_as(options).await;
    make_stream(&jetstream, "EVENTS", &["events.>"]).await;
    let scene = scene.set("SINKS__NATS__URL", server.url());
    let scene = scene.set("SINKS__NATS__CREDENTIALS_FILE", file.display().to_string());
    scene.shows_in_the_run(id).await;
    assert_eq!(read_stream(&jetstream, "EVENTS").await.len(), 0);
}

pub async fn publish_denied(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server =
        with_stream(&may(r#"{ publish: ["$JS.API.>", "events.other.>"], subscribe: ["_INBOX.>"] }"#)).await;
    let repaired = as_bridge(scene, &server).shows_in_the_run(id).await;
    server.restart_with(&may(r#"{ publish: ["$JS.API.>", "events.>"], subscribe: ["_INBOX.>"] }"#));
    repaired.delivers(&admin(&server).await).await;
}

pub async fn inbox_denied(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = with_stream(&may(r#"{ publish: [">"], subscribe: ["_BRIDGE.>"] }"#)).await;
    let repaired = as_bridge(scene, &server).shows(id).await;
    repaired.set("SINKS__NATS__INBOX_PREFIX", "_BRIDGE").delivers(&admin(&server).await).await;
}

pub async fn api_denied(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = with_stream(&may(r#"{ publish: ["events.>"], subscribe: ["_INBOX.>"] }"#)).await;
    as_bridge(scene, &server).shows(id).await;
}

/// Before the first event the bridge wants to read what the stream holds.
pub async fn tail_denied(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let permissions = r#"{ publish: ["$JS.API.STREAM.INFO.EVENTS", "events.>"], subscribe: ["_INBOX.>"] }"#;
    let server = with_stream(&may(permissions)).await;
    as_bridge(scene, &server).warns_in_the_run(id).await;
    assert!(!read_stream(&admin(&server).await, "EVENTS").await.is_empty(), "events move");
}

/// The problem ends by itself when another client leaves.
pub async fn connections_exceeded(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = NatsServer::start("max_connections: 1\n");
    let jetstream = server.jetstream().await;
    make_stream(&jetstream, "EVENTS", &["events.>"]).await;
    scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
}
