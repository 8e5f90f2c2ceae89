//! Tests missing JetStream, and streams that do not accept the events.

use async_nats::jetstream::stream::{Config, DiscardPolicy, Source};

use super::{NatsServer, Scene, make_stream, server_with_stream};
use kit::nats::read_stream;
use kit::ports::{free_port, loopback};

fn events() -> Config {
    Config { name: "EVENTS".to_owned(), subjects: vec!["events.>".to_owned()], ..Config::default() }
}

async fn server_with(config: Config) -> NatsServer {
    let server = NatsServer::start("");
    server.jetstream().await.create_stream(config).await.expect("make a stream");
    server
}

async fn with_config(id: &str, config: Config) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = server_with(config).await;
    scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
}

pub async fn jetstream_off(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = NatsServer::start("jetstream: disabled\n");
    scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
}

pub async fn account_without_jetstream(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = NatsServer::start("accounts { A { users: [ { user: bridge, password: s3cret } ] } }\n");
    let scene = scene.set("SINKS__NATS__URL", server.url());
    scene.set("SINKS__NATS__USERNAME", "bridge").set("SINKS__NATS__PASSWORD", "s3cret").shows(id).await;
}

/// A leaf node and its hub, which has the stream. They reconnect by themselves.
pub async fn hub_away(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let port = free_port();
    let hub = NatsServer::start(&format!(
        "server_name: hub\njetstream {{ store_dir: \"STORE\", domain: hub }}\nleafnodes {{ listen: \"{}\" }}\n",
        loopback(port)
    ));
    let jetstream = hub.jetstream().await;
    make_stream(&jetstream, "EVENTS", &["events.>"]).await;
    hub.kill();
    let leaf = NatsServer::start(&format!(
        "server_name: leaf\njetstream {{ store_dir: \"STORE\", domain: leaf }}\nleafnodes {{ reconnect: 1, remotes: [ {{ \
         url: \"nats-leaf://{}\" }} ] }}\n",
        loopback(port)
    ));
    let repaired =
        scene.set("SINKS__NATS__URL", leaf.url()).set("SINKS__NATS__DOMAIN", "hub").shows(id).await;
    hub.restart();
    repaired.delivers(&hub.jetstream().await).await;
}

pub async fn stream_missing(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = NatsServer::start("");
    let repaired = scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
    let repaired = repaired.set("SINKS__NATS__CREATE_STREAM__ENABLED", "true");
    repaired.delivers(&server.jetstream().await).await;
}

pub async fn stream_sealed(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = server_with(events()).await;
    let jetstream = server.jetstream().await;
    jetstream.update_stream(Config { sealed: true, ..events() }).await.expect("seal it");
    scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
}

pub async fn stream_mirror(id: &str) {
    let mirror = Some(Source { name: "ORIGIN".to_owned(), ..Source::default() });
    with_config(id, Config { mirror, subjects: Vec::new(), ..events() }).await;
}

pub async fn stream_no_ack(id: &str) {
    with_config(id, Config { no_ack: true, ..events() }).await;
}

pub async fn subjects_too_narrow(id: &str) {
    with_config(id, Config { subjects: vec!["events.other.*".to_owned()], ..events() }).await;
}

async fn with_full_stream(id: &str, config: Config) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = server_with(Config { discard: DiscardPolicy::New, ..config }).await;
    let jetstream = server.jetstream().await;
    let stored = jetstream.publish("events.x", "x".repeat(400).into()).await.expect("publish");
    stored.await.expect("one event is stored");
    let repaired = scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
    let stream = jetstream.get_stream("EVENTS").await.expect("find the stream");
    stream.purge().await.expect("make room");
    jetstream.update_stream(events()).await.expect("raise its limits");
    assert_eq!(read_stream(&jetstream, "EVENTS").await.len(), 0);
    repaired.delivers(&jetstream).await;
}

pub async fn stream_full(id: &str) {
    with_full_stream(id, Config { max_messages: 1, ..events() }).await;
}

pub async fn stream_full_of_bytes(id: &str) {
    with_full_stream(id, Config { max_bytes: 600, ..events() }).await;
}

async fn made_by_the_bridge(id: &str, name: &str, value: &str, server: &NatsServer) {
    let Some(scene) = Scene::new(id, server.url()).await else { return };
    let scene = scene.set("SINKS__NATS__CREATE_STREAM__ENABLED", "true").set(name, value);
    // The failure appears only when the bridge creates the stream.
    scene.shows_in_the_run(id).await;
}

pub async fn too_many_replicas(id: &str) {
    if super::available(id) {
        made_by_the_bridge(id, "SINKS__NATS__CREATE_STREAM__REPLICAS", "3", &NatsServer::start("")).await;
    }
}

pub async fn subjects_taken(id: &str) {
    if super::available(id) {
        let server = server_with_stream().await;
        made_by_the_bridge(id, "SINKS__NATS__STREAM", "OTHER", &server).await;
    }
}

/// The account has less space than the stream reserves.
pub async fn account_full(id: &str) {
    if super::available(id) {
        let server = NatsServer::start("jetstream { store_dir: \"STORE\", max_file_store: 1MB }\n");
        made_by_the_bridge(id, "SINKS__NATS__CREATE_STREAM__MAX_BYTES", "1GiB", &server).await;
    }
}

pub async fn server_frozen(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = server_with_stream().await;
    server.freeze();
    let repaired = scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
    server.thaw();
    repaired.delivers(&server.jetstream().await).await;
}
