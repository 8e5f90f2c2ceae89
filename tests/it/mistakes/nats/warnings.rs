//! Tests streams that lose events by their settings, limits that cause dead letters, and settings that are
//! refused.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use super::{NatsServer, Scene};

fn events() -> Config {
    Config { name: "EVENTS".to_owned(), subjects: vec!["events.>".to_owned()], ..Config::default() }
}

async fn with(id: &str, config: Config) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = NatsServer::start("");
    server.jetstream().await.create_stream(config).await.expect("make a stream");
    scene.set("SINKS__NATS__URL", server.url()).warns(id).await;
}

pub async fn stream_in_memory(id: &str) {
    with(id, Config { storage: StorageType::Memory, ..events() }).await;
}

pub async fn one_replica(id: &str) {
    with(id, events()).await;
}

pub async fn max_age_short(id: &str) {
    with(id, Config { max_age: Duration::from_secs(3600), ..events() }).await;
}

pub async fn discards_old(id: &str) {
    with(id, Config { max_messages: 1000, discard: DiscardPolicy::Old, ..events() }).await;
}

pub async fn one_per_subject(id: &str) {
    with(id, Config { max_messages_per_subject: 1, ..events() }).await;
}

pub async fn interest_without_consumer(id: &str) {
    with(id, Config { retention: RetentionPolicy::Interest, ..events() }).await;
}

pub async fn workqueue(id: &str) {
    with(id, Config { retention: RetentionPolicy::WorkQueue, ..events() }).await;
}

pub async fn duplicate_window_short(id: &str) {
    with(id, Config { duplicate_window: Duration::from_secs(5), ..events() }).await;
}

pub async fn max_msg_size_small(id: &str) {
    with(id, Config { max_message_size: 1000, ..events() }).await;
}

/// The server's default of 1 MiB is below the bridge's limit of 4 MiB.
pub async fn max_payload_small(id: &str) {
    with(id, events()).await;
}

pub async fn core_delivery(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = NatsServer::start("");
    let scene = scene.set("SINKS__NATS__URL", server.url()).unset("SINKS__NATS__STREAM");
    scene.set("SINKS__NATS__DELIVERY", "core").warns(id).await;
}

async fn refused(id: &str, name: &str, value: &str) {
    let Some(scene) = Scene::new(id, "nats://127.0.0.1:4222").await else { return };
    scene.set(name, value).refuses_to_begin(id).await;
}

pub async fn url_without_scheme(id: &str) {
    refused(id, "SINKS__NATS__URL", "nats.example.com:4222").await;
}

pub async fn url_with_password(id: &str) {
    refused(id, "SINKS__NATS__URL", "nats://bridge:s3cret@nats.example.com:4222").await;
}

pub async fn url_of_websockets(id: &str) {
    refused(id, "SINKS__NATS__URL", "wss://nats.example.com:443").await;
}

pub async fn stream_not_named(id: &str) {
    let Some(scene) = Scene::new(id, "nats://127.0.0.1:4222").await else { return };
    scene.unset("SINKS__NATS__STREAM").refuses_to_begin(id).await;
}

pub async fn stream_name_with_dot(id: &str) {
    refused(id, "SINKS__NATS__STREAM", "EVENTS.acme").await;
}

pub async fn subject_with_wildcard(id: &str) {
    refused(id, "SINKS__NATS__SUBJECT", "events.>").await;
}

pub async fn subject_of_the_server(id: &str) {
    refused(id, "SINKS__NATS__SUBJECT", "$JS.events").await;
}

pub async fn message_id_fixed(id: &str) {
    refused(id, "SINKS__NATS__MESSAGE_ID", "{namespace}").await;
}

pub async fn message_id_shared(id: &str) {
    let url = "nats://127.0.0.1:4222";
    let Some(scene) = Scene::new(id, url).await else { return };
    let scene = scene.set("SINKS__OTHER__KIND", "nats").set("SINKS__OTHER__URL", url);
    let scene = scene.set("SINKS__OTHER__STREAM", "EVENTS").set("SINKS__OTHER__SUBJECT", "other.{key}");
    scene.refuses_to_begin(id).await;
}

pub async fn window_too_large(id: &str) {
    refused(id, "SINKS__NATS__WINDOW", "5000").await;
}

pub async fn two_logins(id: &str) {
    let Some(scene) = Scene::new(id, "nats://127.0.0.1:4222").await else { return };
    scene.set("SINKS__NATS__TOKEN", "a").set("SINKS__NATS__NKEY", "SUb").refuses_to_begin(id).await;
}

pub async fn username_alone(id: &str) {
    refused(id, "SINKS__NATS__USERNAME", "bridge").await;
}

pub async fn certificate_without_key(id: &str) {
    refused(id, "SINKS__NATS__TLS__CERTIFICATE_FILE", "/dev/null").await;
}

pub async fn core_with_stream(id: &str) {
    refused(id, "SINKS__NATS__DELIVERY", "core").await;
}

pub async fn password_file_missing(id: &str) {
    let Some(scene) = Scene::new(id, "nats://127.0.0.1:4222").await else { return };
    let scene = scene.set("SINKS__NATS__USERNAME", "bridge");
    scene.set("SINKS__NATS__PASSWORD_FILE", "/no/such/file").refuses_to_begin(id).await;
}
