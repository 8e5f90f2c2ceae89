//! Certificates that can't be trusted, or are not there.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use super::{NatsServer, Scene, make_stream};
use crate::support::certificates::Certificates;

/// Where the server listens.
const HOST: &str = "127.0.0.1";

/// An authority of the tests' own and a directory for what it signs.
struct Desk {
    directory: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    /// Made by the same hand: the files of a client, and those that are not replaced.
    files: Certificates,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn server_params(host: &str) -> CertificateParams {
    let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, "nats.example.com");
    params
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Certificates::make(directory.path(), &[HOST.to_owned()]);
        Self { directory, authority: authority("test authority"), files }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("write a file");
        path
    }

    /// A server whose certificate this authority signs, and the authority's file.
    fn serving(&self, params: CertificateParams) -> (NatsServer, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.authority).expect("sign");
        (self.serving_pem(&signed.pem(), &key), self.write("trusted.pem", &self.authority.pem()))
    }

    fn serving_pem(&self, chain: &str, key: &KeyPair) -> NatsServer {
        let certificates = Certificates {
            authority: self.files.authority.clone(),
            server: self.write("chain.pem", chain),
            key: self.write("chain.key", &key.serialize_pem()),
            client: self.files.client.clone(),
            client_key: self.files.client_key.clone(),
        };
        NatsServer::with_tls(&certificates, "")
    }
}

fn trusting(scene: Scene, server: &NatsServer, ca: &Path) -> Scene {
    scene.set("SINKS__NATS__URL", tls_url(server)).set("SINKS__NATS__TLS__CA_FILE", ca.display().to_string())
}

fn tls_url(server: &NatsServer) -> String {
    server.url().replace("nats://", "tls://")
}

/// Nobody named the authority, which is none of the system's.
pub async fn issuer_unknown(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let (server, _) = desk.serving(server_params(HOST));
    scene.set("SINKS__NATS__URL", server.url()).shows(id).await;
}

pub async fn authority_wrong(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let (server, ca) = desk.serving(server_params(HOST));
    let wrong = desk.write("wrong.pem", &authority("another authority").pem());
    let mended = trusting(scene, &server, &wrong).shows(id).await;
    let pem = fs::read(&ca).expect("read the authority");
    let options = async_nats::ConnectOptions::new().add_root_certificates(ca.clone());
    let jetstream = server.jetstream_as(options).await;
    make_stream(&jetstream, "EVENTS", &["events.>"]).await;
    fs::write(&wrong, pem).expect("replace the authority");
    mended.delivers(&jetstream).await;
}

pub async fn certificate_expired(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let mut params = server_params(HOST);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 3, 4));
    let (server, ca) = desk.serving(params);
    trusting(scene, &server, &ca).shows(id).await;
}

pub async fn certificate_of_tomorrow(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let mut params = server_params(HOST);
    (params.not_before, params.not_after) = (date_time_ymd(2090, 5, 6), date_time_ymd(2095, 1, 1));
    let (server, ca) = desk.serving(params);
    trusting(scene, &server, &ca).shows(id).await;
}

pub async fn host_name_wrong(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let (server, ca) = desk.serving(server_params("other.example.com"));
    trusting(scene, &server, &ca).shows(id).await;
}

/// What `openssl req -x509` makes if nothing else is said.
pub async fn authority_as_server(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let mut params = server_params(HOST);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (server, ca) = desk.serving(params);
    trusting(scene, &server, &ca).shows(id).await;
}

pub async fn chain_incomplete(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let mut between = CertificateParams::default();
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    between.distinguished_name.push(DnType::CommonName, "issuing authority");
    let key = KeyPair::generate().expect("a key");
    let between = CertifiedIssuer::signed_by(between, key, &desk.authority).expect("sign");
    let key = KeyPair::generate().expect("a key");
    let server = server_params(HOST).signed_by(&key, &between).expect("sign");
    // Without that of the one between.
    let server = desk.serving_pem(&server.pem(), &key);
    let ca = desk.write("trusted.pem", &desk.authority.pem());
    trusting(scene, &server, &ca).shows(id).await;
}

/// The server of the tests' certificates, with `verify`.
fn verifying(desk: &Desk) -> NatsServer {
    NatsServer::with_tls(&desk.files, "verify: true")
}

pub async fn client_certificate_wanted(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let server = verifying(&desk);
    trusting(scene, &server, &desk.files.authority).shows(id).await;
}

pub async fn client_certificate_foreign(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let (desk, strangers) = (Desk::new(), Desk::new());
    let server = verifying(&desk);
    trusting(scene, &server, &desk.files.authority)
        .set("SINKS__NATS__TLS__CERTIFICATE_FILE", strangers.files.client.display().to_string())
        .set("SINKS__NATS__TLS__KEY_FILE", strangers.files.client_key.display().to_string())
        .shows(id)
        .await;
}

pub async fn authority_file_empty(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let (server, _) = desk.serving(server_params(HOST));
    let empty = desk.write("empty.pem", "# no certificate\n");
    trusting(scene, &server, &empty).shows(id).await;
}

pub async fn client_key_wrong(id: &str) {
    let Some(scene) = Scene::new(id, "").await else { return };
    let desk = Desk::new();
    let server = verifying(&desk);
    trusting(scene, &server, &desk.files.authority)
        .set("SINKS__NATS__TLS__CERTIFICATE_FILE", desk.files.client.display().to_string())
        .set("SINKS__NATS__TLS__KEY_FILE", desk.files.key.display().to_string())
        .shows(id)
        .await;
}
