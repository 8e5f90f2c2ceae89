//! Tests certificates that are missing or not trusted.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{NatsServer, Scene, make_stream};
use kit::certificates::{Certificates, Kind, stranger};

/// Makes certificates of a server with a fault, and the directory that they are in.
fn certificates(kind: Kind) -> (TempDir, Certificates) {
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::with(directory.path(), kind);
    (directory, certificates)
}

fn trusting(scene: Scene, server: &NatsServer, ca: &Path) -> Scene {
    let url = server.url().replace("nats://", "tls://");
    scene.set("SINKS__NATS__URL", url).set("SINKS__NATS__TLS__CA_FILE", ca.display().to_string())
}

fn with_certificate(scene: Scene, certificate: &Path, key: &Path) -> Scene {
    scene
        .set("SINKS__NATS__TLS__CERTIFICATE_FILE", certificate.display().to_string())
        .set("SINKS__NATS__TLS__KEY_FILE", key.display().to_string())
}

async fn with(id: &str, kind: Kind) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (_directory, certificates) = certificates(kind);
    let server = NatsServer::with_tls(&certificates, "");
    trusting(scene, &server, &certificates.authority).shows(id).await;
}

/// The authority is neither configured nor one of the system's.
pub async fn issuer_unknown(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (_directory, certificates) = certificates(Kind::Good);
    let server = NatsServer::with_tls(&certificates, "");
    scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
}

pub async fn authority_wrong(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (directory, certificates) = certificates(Kind::Good);
    let server = NatsServer::with_tls(&certificates, "");
    let wrong = stranger(directory.path());
    let repaired = trusting(scene, &server, &wrong).shows(id).await;

    let options = async_nats::ConnectOptions::new().add_root_certificates(certificates.authority.clone());
    let jetstream = server.jetstream_as(options).await;
    make_stream(&jetstream, "EVENTS", &["events.>"]).await;
    fs::copy(&certificates.authority, &wrong).expect("replace the authority");
    repaired.delivers(&jetstream).await;
}

pub async fn certificate_expired(id: &str) {
    with(id, Kind::Expired).await;
}

pub async fn certificate_of_tomorrow(id: &str) {
    with(id, Kind::NotYetValid).await;
}

pub async fn host_name_wrong(id: &str) {
    with(id, Kind::OtherHost).await;
}

/// The certificate that `openssl req -x509` makes by default.
pub async fn authority_as_server(id: &str) {
    with(id, Kind::Authority).await;
}

pub async fn chain_incomplete(id: &str) {
    with(id, Kind::WithoutIntermediate).await;
}

pub async fn client_certificate_wanted(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (_directory, certificates) = certificates(Kind::Good);
    let server = NatsServer::with_tls(&certificates, "verify: true");
    trusting(scene, &server, &certificates.authority).shows(id).await;
}

pub async fn client_certificate_foreign(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (_directory, known) = certificates(Kind::Good);
    let (_other_directory, others) = certificates(Kind::Good);
    let server = NatsServer::with_tls(&known, "verify: true");
    let scene = trusting(scene, &server, &known.authority);
    with_certificate(scene, &others.client, &others.client_key).shows(id).await;
}

pub async fn authority_file_empty(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (directory, certificates) = certificates(Kind::Good);
    let server = NatsServer::with_tls(&certificates, "");
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "# no certificate\n").expect("write a file");
    trusting(scene, &server, &empty).shows(id).await;
}

pub async fn client_key_wrong(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (_directory, certificates) = certificates(Kind::Good);
    let server = NatsServer::with_tls(&certificates, "verify: true");
    let scene = trusting(scene, &server, &certificates.authority);
    with_certificate(scene, &certificates.client, &certificates.key).shows(id).await;
}
