//! Tests ports with a protocol other than the configured one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::{NatsServer, Scene, server_with_stream};
use kit::any_kafka;
use kit::broker::{Protocol, Version, shared};
use kit::certificates::Certificates;
use kit::ports::{free_port, loopback};

fn at(addr: SocketAddr) -> String {
    format!("nats://{addr}")
}

pub async fn nothing_listens(id: &str) {
    let Some(scene) = Scene::new(id, "nats://127.0.0.1:1").await else { return };
    let repaired = scene.shows(id).await;
    let server = server_with_stream().await;
    repaired.set("SINKS__NATS__URL", server.url()).delivers(&server.jetstream().await).await;
}

pub async fn host_unknown(id: &str) {
    let Some(scene) = Scene::new(id, "nats://no-such-host.invalid:4222").await else { return };
    scene.shows(id).await;
}

pub async fn stomp_port(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let url = at(shared(Version::V6).addr_of(Protocol::Stomp));
    scene.set("SINKS__NATS__URL", url).shows(id).await;
}

pub async fn stomp_tls_port(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let url = at(shared(Version::V6).tls_addr_of(Protocol::Stomp));
    scene.set("SINKS__NATS__URL", url).shows(id).await;
}

pub async fn openwire_port(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let url = at(shared(Version::V6).addr_of(Protocol::OpenWire));
    scene.set("SINKS__NATS__URL", url).shows(id).await;
}

pub async fn openwire_tls_port(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let broker = shared(Version::V6);
    let url = format!("tls://localhost:{}", broker.tls_addr_of(Protocol::OpenWire).port());
    let ca = broker.ca_file().display().to_string();
    scene.set("SINKS__NATS__URL", url).set("SINKS__NATS__TLS__CA_FILE", ca).shows(id).await;
}

/// The TLS handshake succeeds, but the server does not send the NATS INFO.
pub async fn tls_of_another(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let broker = shared(Version::V6);
    let url = format!("tls://localhost:{}", broker.tls_addr_of(Protocol::Stomp).port());
    let ca = broker.ca_file().display().to_string();
    let scene = scene.set("SINKS__NATS__URL", url).set("SINKS__NATS__TLS__CA_FILE", ca);
    scene.set("SINKS__NATS__TLS__FIRST", "true").shows(id).await;
}

pub async fn kafka_port(id: &str) {
    let bootstrap = any_kafka::shared().bootstrap();
    let first = bootstrap.split(',').next().unwrap_or_default();
    let Some(scene) = Scene::new(id, format!("nats://{first}")).await else { return };
    scene.shows(id).await;
}

/// The monitoring port, which is easily mistaken for the client port.
pub async fn http_port(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let port = free_port();
    let _server = NatsServer::start(&format!("http: \"{}\"\n", loopback(port)));
    scene.set("SINKS__NATS__URL", at(loopback(port))).shows(id).await;
}

/// Starts a listener that runs `with` on each connection until the tests end.
fn listening(with: fn(TcpStream, &mut Vec<TcpStream>)) -> SocketAddr {
    let listener = TcpListener::bind(loopback(free_port())).expect("listen");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            with(stream, &mut open);
        }
    });
    addr
}

pub async fn silent_port(id: &str) {
    let addr = listening(|stream, open| open.push(stream));
    let Some(scene) = Scene::new(id, at(addr)).await else { return };
    scene.shows(id).await;
}

pub async fn dropping_port(id: &str) {
    let addr = listening(|stream, _| drop(stream));
    let Some(scene) = Scene::new(id, at(addr)).await else { return };
    scene.shows(id).await;
}

pub async fn leaf_node_port(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let port = free_port();
    let _server = NatsServer::start(&format!("leafnodes {{ listen: \"{}\" }}\n", loopback(port)));
    scene.set("SINKS__NATS__URL", at(loopback(port))).shows(id).await;
}

pub async fn plain_server(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let server = server_with_stream().await;
    let url = server.url().replace("nats://", "tls://");
    let repaired = scene.set("SINKS__NATS__URL", url).shows(id).await;
    repaired.set("SINKS__NATS__URL", server.url()).delivers(&server.jetstream().await).await;
}

fn certificates() -> (tempfile::TempDir, Certificates) {
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::make(directory.path(), &["127.0.0.1".to_owned()]);
    (directory, certificates)
}

pub async fn tls_first(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (_directory, certificates) = certificates();
    let server = NatsServer::with_tls(&certificates, "handshake_first: true");
    let ca = certificates.authority.display().to_string();
    scene.set("SINKS__NATS__URL", server.url()).set("SINKS__NATS__TLS__CA_FILE", ca).shows(id).await;
}

pub async fn tls_not_first(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (_directory, certificates) = certificates();
    let server = NatsServer::with_tls(&certificates, "");
    let ca = certificates.authority.display().to_string();
    let scene = scene.set("SINKS__NATS__URL", server.url()).set("SINKS__NATS__TLS__CA_FILE", ca);
    scene.set("SINKS__NATS__TLS__FIRST", "true").shows(id).await;
}
