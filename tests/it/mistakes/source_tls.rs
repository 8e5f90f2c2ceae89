//! Tests mistakes with the broker's port, protocol and certificates: every combination of a `source.url` and
//! a server, and every certificate error.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::{Scenario, scenarios};
use kit::bridge::Setup;
use kit::broker::{Broker, Options, Protocol, Version, shared_if_available};
use kit::certificates::{Certificates, Kind, namesake, stranger};
use kit::events::Events;
use kit::kafka;
use kit::listener::{Listener, Manner};
use kit::nats::{self, NatsServer};
use kit::output::Tally;
use kit::ports::loopback;
use kit::scenario::{drain, emptied, place, publish, subscribed};

scenarios!(
    "tls":
    stomp_at_stomp_tls,
    stomp_at_openwire,
    stomp_at_openwire_tls,
    stomp_at_kafka,
    stomp_at_kafka_tls,
    stomp_at_kafka_sasl,
    stomp_at_nats,
    stomp_at_nats_tls,
    stomp_at_http,
    stomp_at_silence,
    stomp_at_drops,
    stomp_tls_at_stomp,
    stomp_tls_at_openwire,
    stomp_tls_at_openwire_tls,
    stomp_tls_at_kafka,
    stomp_tls_at_kafka_tls,
    stomp_tls_at_kafka_sasl,
    stomp_tls_at_nats,
    stomp_tls_at_nats_tls,
    stomp_tls_at_http,
    stomp_tls_at_silence,
    stomp_tls_at_drops,
    stomp_tls_at_nothing,
    openwire_at_stomp,
    openwire_at_stomp_tls,
    openwire_at_openwire_tls,
    openwire_at_kafka,
    openwire_at_kafka_tls,
    openwire_at_kafka_sasl,
    openwire_at_nats,
    openwire_at_nats_tls,
    openwire_at_http,
    openwire_at_silence,
    openwire_at_drops,
    openwire_at_nothing,
    openwire_tls_at_stomp,
    openwire_tls_at_stomp_tls,
    openwire_tls_at_openwire,
    openwire_tls_at_kafka,
    openwire_tls_at_kafka_tls,
    openwire_tls_at_kafka_sasl,
    openwire_tls_at_nats,
    openwire_tls_at_nats_tls,
    openwire_tls_at_http,
    openwire_tls_at_silence,
    openwire_tls_at_drops,
    openwire_tls_at_nothing,
    unknown_issuer,
    namesake_of_the_issuer,
    intermediate_not_sent,
    root_not_trusted,
    self_signed,
    own_certificate_trusted,
    expired,
    not_yet_valid,
    other_host,
    no_host,
    authority_as_server,
    for_clients_only,
    client_certificate_wanted,
    client_certificate_refused,
    key_of_another_certificate,
    key_encrypted,
    certificate_and_key_swapped,
    certificate_without_key,
    key_without_certificate,
    ca_file_not_there,
    ca_file_empty,
    ca_file_in_der,
    ca_file_damaged,
    files_without_tls,
    handshake_reset,
    old_version,
    no_common_cipher,
);

/// The scheme of `source.url`.
#[derive(Clone, Copy)]
enum Url {
    Stomp,
    StompTls,
    OpenWire,
    OpenWireTls,
}

impl Url {
    fn scheme(self) -> &'static str {
        match self {
            Self::Stomp => "stomp",
            Self::StompTls => "stomp+tls",
            Self::OpenWire => "tcp",
            Self::OpenWireTls => "ssl",
        }
    }
}

/// The server that is really at the port.
#[derive(Clone, Copy)]
enum ServerKind {
    Stomp,
    StompTls,
    OpenWire,
    OpenWireTls,
    Kafka,
    KafkaTls,
    KafkaSasl,
    Nats,
    NatsTls,
    Http,
    Silence,
    Drops,
    Nothing,
}

const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";

/// Tests `url` with the port of another server. The bridge trusts the server's certificates, so that only the
/// port is wrong.
async fn wrong_port(id: &str, url: Url, server_kind: ServerKind) {
    let home = tempfile::tempdir().expect("a directory");
    match server_kind {
        ServerKind::Stomp | ServerKind::StompTls | ServerKind::OpenWire | ServerKind::OpenWireTls => {
            let Some(broker) = shared_if_available(Version::V6, id) else { return };
            let addr = match server_kind {
                ServerKind::Stomp => broker.addr_of(Protocol::Stomp),
                ServerKind::StompTls => broker.tls_addr_of(Protocol::Stomp),
                ServerKind::OpenWire => broker.addr_of(Protocol::OpenWire),
                _ => broker.tls_addr_of(Protocol::OpenWire),
            };
            at_the_broker(id, broker, set_at(id, url, addr.port(), broker.ca_file())).await;
        }
        ServerKind::Kafka | ServerKind::KafkaTls | ServerKind::KafkaSasl => {
            if !kafka::available(id) {
                return;
            }
            let listener = match server_kind {
                ServerKind::Kafka => kafka::Listener::Plain,
                ServerKind::KafkaTls => kafka::Listener::Tls,
                _ => kafka::Listener::Sasl,
            };
            let server = kafka::shared();
            let ca_file = server.certificates().authority.clone();
            test_at(id, url, server.addr(listener).port(), ca_file).await;
        }
        ServerKind::Nats | ServerKind::NatsTls => {
            if !nats::available(id) {
                return;
            }
            let certificates = Certificates::with(home.path(), Kind::Good);
            let server = match server_kind {
                ServerKind::Nats => NatsServer::start(""),
                _ => NatsServer::with_tls(&certificates, ""),
            };
            test_at(id, url, server.addr().port(), certificates.authority).await;
        }
        ServerKind::Nothing => test_at(id, url, 1, stranger(home.path())).await,
        ServerKind::Http | ServerKind::Silence | ServerKind::Drops => {
            let manner = match server_kind {
                ServerKind::Http => Manner::Answers(HTTP),
                ServerKind::Silence => Manner::Silent,
                _ => Manner::Drops,
            };
            let listener = Listener::start(manner).await;
            test_at(id, url, listener.addr().port(), stranger(home.path())).await;
        }
    }
}

async fn test_at(id: &str, url: Url, port: u16, ca_file: PathBuf) {
    Scenario::new(set_at(id, url, port, &ca_file)).shows(id).await;
}

fn set_at(id: &str, url: Url, port: u16, ca_file: &Path) -> Setup {
    let address = format!("{}://{}", url.scheme(), loopback(port));
    // A busy server may take more than a second for a TLS handshake. The page shows this time for a silent one.
    let allowed = if id.ends_with("-at-silence") { "1s" } else { "4s" };
    let setup = Setup::at(&address, id, "main", id).set("SOURCE__CONNECT_TIMEOUT", allowed);
    match url {
        Url::StompTls | Url::OpenWireTls => trusting(setup, ca_file),
        Url::Stomp | Url::OpenWire => setup,
    }
}

/// Checks that the events stay in the queue while the mistake lasts, and are delivered after the repair.
async fn at_the_broker(id: &str, broker: &'static Broker, setup: Setup) {
    let (queue, events) = (&format!("main.RTO.{id}"), Events::good(5));
    let first = Setup::new(broker, Protocol::Stomp, id, "main", id).start();
    subscribed(broker, queue, 1).await;
    drain(first).await;
    publish(broker, id, events).await;
    let setup = Scenario::new(setup).keeps(broker, queue, events.count).shows(id).await;

    let repaired = setup.set("SOURCE__URL", broker.url_of(Protocol::Stomp));
    let bridge = repaired.start();
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events, repaired.files()).assert_complete(0);
}

/// Makes the test of a combination for each name.
macro_rules! ports {
    ($($name:ident: $url:ident, $server_kind:ident;)*) => {$(
        async fn $name(id: &str) {
            wrong_port(id, Url::$url, ServerKind::$server_kind).await;
        }
    )*};
}

ports! {
    stomp_at_stomp_tls: Stomp, StompTls;
    stomp_at_openwire: Stomp, OpenWire;
    stomp_at_openwire_tls: Stomp, OpenWireTls;
    stomp_at_kafka: Stomp, Kafka;
    stomp_at_kafka_tls: Stomp, KafkaTls;
    stomp_at_kafka_sasl: Stomp, KafkaSasl;
    stomp_at_nats: Stomp, Nats;
    stomp_at_nats_tls: Stomp, NatsTls;
    stomp_at_http: Stomp, Http;
    stomp_at_silence: Stomp, Silence;
    stomp_at_drops: Stomp, Drops;
    stomp_tls_at_stomp: StompTls, Stomp;
    stomp_tls_at_openwire: StompTls, OpenWire;
    stomp_tls_at_openwire_tls: StompTls, OpenWireTls;
    stomp_tls_at_kafka: StompTls, Kafka;
    stomp_tls_at_kafka_tls: StompTls, KafkaTls;
    stomp_tls_at_kafka_sasl: StompTls, KafkaSasl;
    stomp_tls_at_nats: StompTls, Nats;
    stomp_tls_at_nats_tls: StompTls, NatsTls;
    stomp_tls_at_http: StompTls, Http;
    stomp_tls_at_silence: StompTls, Silence;
    stomp_tls_at_drops: StompTls, Drops;
    stomp_tls_at_nothing: StompTls, Nothing;
    openwire_at_stomp: OpenWire, Stomp;
    openwire_at_stomp_tls: OpenWire, StompTls;
    openwire_at_openwire_tls: OpenWire, OpenWireTls;
    openwire_at_kafka: OpenWire, Kafka;
    openwire_at_kafka_tls: OpenWire, KafkaTls;
    openwire_at_kafka_sasl: OpenWire, KafkaSasl;
    openwire_at_nats: OpenWire, Nats;
    openwire_at_nats_tls: OpenWire, NatsTls;
    openwire_at_http: OpenWire, Http;
    openwire_at_silence: OpenWire, Silence;
    openwire_at_drops: OpenWire, Drops;
    openwire_at_nothing: OpenWire, Nothing;
    openwire_tls_at_stomp: OpenWireTls, Stomp;
    openwire_tls_at_stomp_tls: OpenWireTls, StompTls;
    openwire_tls_at_openwire: OpenWireTls, OpenWire;
    openwire_tls_at_kafka: OpenWireTls, Kafka;
    openwire_tls_at_kafka_tls: OpenWireTls, KafkaTls;
    openwire_tls_at_kafka_sasl: OpenWireTls, KafkaSasl;
    openwire_tls_at_nats: OpenWireTls, Nats;
    openwire_tls_at_nats_tls: OpenWireTls, NatsTls;
    openwire_tls_at_http: OpenWireTls, Http;
    openwire_tls_at_silence: OpenWireTls, Silence;
    openwire_tls_at_drops: OpenWireTls, Drops;
    openwire_tls_at_nothing: OpenWireTls, Nothing;
}

/// A TLS server of the test with these certificates, and a bridge that trusts their authority.
struct Faulty {
    home: TempDir,
    certificates: Certificates,
    listener: Listener,
}

impl Faulty {
    async fn start(kind: Kind) -> Self {
        Self::wanting(kind, false).await
    }

    async fn wanting(kind: Kind, certificates_of_clients: bool) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let certificates = Certificates::with(home.path(), kind);
        let config = certificates.server_config(certificates_of_clients);
        let listener = Listener::start(Manner::Tls(Arc::new(config))).await;
        Self { home, certificates, listener }
    }

    fn setup(&self, id: &str) -> Setup {
        let url = format!("stomp+tls://{}", self.listener.addr());
        trusting(Setup::at(&url, id, "main", id), &self.certificates.authority)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, content).expect("write a file");
        path
    }
}

fn trusting(setup: Setup, ca_file: &Path) -> Setup {
    setup.set("SOURCE__TLS__CA_FILE", ca_file.display().to_string())
}

fn with_certificate(setup: Setup, certificate: &Path, key: &Path) -> Setup {
    setup
        .set("SOURCE__TLS__CERTIFICATE_FILE", certificate.display().to_string())
        .set("SOURCE__TLS__KEY_FILE", key.display().to_string())
}

async fn faulty(id: &str, kind: Kind) {
    Scenario::new(Faulty::start(kind).await.setup(id)).shows(id).await;
}

async fn unknown_issuer(id: &str) {
    let Some(broker) = shared_if_available(Version::V6, id) else { return };
    let home = tempfile::tempdir().expect("a directory");
    let port = broker.tls_addr_of(Protocol::Stomp).port();
    at_the_broker(id, broker, set_at(id, Url::StompTls, port, &stranger(home.path()))).await;
}

async fn namesake_of_the_issuer(id: &str) {
    let faulty = Faulty::start(Kind::Good).await;
    Scenario::new(trusting(faulty.setup(id), &namesake(faulty.home.path()))).shows(id).await;
}

async fn intermediate_not_sent(id: &str) {
    faulty(id, Kind::WithoutIntermediate).await;
}

async fn root_not_trusted(id: &str) {
    let faulty = Faulty::start(Kind::WithIntermediate).await;
    Scenario::new(trusting(faulty.setup(id), &stranger(faulty.home.path()))).shows(id).await;
}

async fn self_signed(id: &str) {
    faulty(id, Kind::SelfSigned).await;
}

async fn own_certificate_trusted(id: &str) {
    let faulty = Faulty::start(Kind::Good).await;
    Scenario::new(trusting(faulty.setup(id), &faulty.certificates.server)).shows(id).await;
}

async fn expired(id: &str) {
    faulty(id, Kind::Expired).await;
}

async fn not_yet_valid(id: &str) {
    faulty(id, Kind::NotYetValid).await;
}

async fn other_host(id: &str) {
    faulty(id, Kind::OtherHost).await;
}

async fn no_host(id: &str) {
    faulty(id, Kind::NoHost).await;
}

async fn authority_as_server(id: &str) {
    faulty(id, Kind::Authority).await;
}

async fn for_clients_only(id: &str) {
    faulty(id, Kind::ForClients).await;
}

/// With the real broker, over each protocol: Java's TLS refuses in its own way.
async fn client_certificate_wanted(id: &str) {
    if shared_if_available(Version::V6, id).is_none() {
        return;
    }
    let broker = Broker::start(Version::V6, Options { wants_certificates: true, ..Options::default() });
    for protocol in Protocol::ALL {
        let setup = Setup::at(&broker.tls_url_of(protocol), id, "main", id);
        Scenario::new(trusting(setup, broker.ca_file())).shows(id).await;
    }
}

async fn client_certificate_refused(id: &str) {
    let faulty = Faulty::wanting(Kind::Good, true).await;
    let other = tempfile::tempdir().expect("a directory");
    let other = Certificates::with(other.path(), Kind::Good);
    Scenario::new(with_certificate(faulty.setup(id), &other.client, &other.client_key)).shows(id).await;
}

async fn key_of_another_certificate(id: &str) {
    let faulty = Faulty::start(Kind::Good).await;
    let own = &faulty.certificates;
    Scenario::new(with_certificate(faulty.setup(id), &own.client, &own.key)).shows(id).await;
}

async fn key_encrypted(id: &str) {
    let faulty = Faulty::start(Kind::Good).await;
    let pem = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let key = faulty.file("encrypted.key", pem);
    Scenario::new(with_certificate(faulty.setup(id), &faulty.certificates.client, &key)).shows(id).await;
}

async fn certificate_and_key_swapped(id: &str) {
    let faulty = Faulty::start(Kind::Good).await;
    let own = &faulty.certificates;
    Scenario::new(with_certificate(faulty.setup(id), &own.client_key, &own.client)).shows(id).await;
}

async fn certificate_without_key(id: &str) {
    let faulty = Faulty::start(Kind::Good).await;
    let own = &faulty.certificates;
    let setup =
        with_certificate(faulty.setup(id), &own.client, &own.client_key).unset("SOURCE__TLS__KEY_FILE");
    Scenario::new(setup).shows(id).await;
}

async fn key_without_certificate(id: &str) {
    let faulty = Faulty::start(Kind::Good).await;
    let own = &faulty.certificates;
    let setup = with_certificate(faulty.setup(id), &own.client, &own.client_key)
        .unset("SOURCE__TLS__CERTIFICATE_FILE");
    Scenario::new(setup).shows(id).await;
}

async fn ca_file_not_there(id: &str) {
    let setup = Setup::at("stomp+tls://127.0.0.1:1", id, "main", id);
    Scenario::new(setup.set("SOURCE__TLS__CA_FILE", "/does/not/exist")).shows(id).await;
}

async fn ca_file_empty(id: &str) {
    ca_file_of(id, b"").await;
}

async fn ca_file_in_der(id: &str) {
    ca_file_of(id, &[0x30, 0x82, 1, 2, 3]).await;
}

async fn ca_file_damaged(id: &str) {
    ca_file_of(id, b"-----BEGIN CERTIFICATE-----\nMIIB\n").await;
}

async fn ca_file_of(id: &str, content: &[u8]) {
    let faulty = Faulty::start(Kind::Good).await;
    Scenario::new(trusting(faulty.setup(id), &faulty.file("ca.pem", content))).shows(id).await;
}

async fn files_without_tls(id: &str) {
    let Some(broker) = shared_if_available(Version::V6, id) else { return };
    let (namespace, _) = &place(Protocol::Stomp, id);
    let setup = Setup::new(broker, Protocol::Stomp, namespace, "main", namespace);
    Scenario::new(trusting(setup, broker.ca_file())).shows(id).await;
}

async fn handshake_reset(id: &str) {
    behaving(id, Manner::Resets).await;
}

/// The server sends the alert `protocol_version`.
async fn old_version(id: &str) {
    behaving(id, Manner::Answers(b"\x15\x03\x01\x00\x02\x02\x46")).await;
}

/// The server sends the alert `handshake_failure`.
async fn no_common_cipher(id: &str) {
    behaving(id, Manner::Answers(b"\x15\x03\x03\x00\x02\x02\x28")).await;
}

async fn behaving(id: &str, manner: Manner) {
    let home = tempfile::tempdir().expect("a directory");
    let listener = Listener::start(manner).await;
    let url = format!("stomp+tls://{}", listener.addr());
    Scenario::new(trusting(Setup::at(&url, id, "main", id), &stranger(home.path()))).shows(id).await;
}
