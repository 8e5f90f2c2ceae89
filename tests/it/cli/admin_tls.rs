//! Tests the admin pages over TLS: who may see what, the verb `status`, and a certificate that is replaced.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator, SimulatorConfig};
use kit::SOON;
use kit::admin::Admin;
use kit::bridge::Setup;
use kit::certificates::{Certificates, Kind};
use kit::disk::HangingFile;
use kit::scenario::{drain, says};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).expect("a file").collect::<Result<_, _>>().expect("certificates")
}

/// A client that trusts the authority, and shows a certificate if it has one with its key.
fn client(authority: &Path, own: Option<(&Path, &Path)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(authority));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("TLS versions").with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).expect("a key");
            builder.with_client_auth_cert(chain(certificate), key).expect("a certificate and its key")
        }
    })
}

/// Returns the status and the body, or that the handshake or the connection failed.
async fn get(client: &Arc<ClientConfig>, address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let talk = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, stream).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer).await);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok())?;
        Some((status, body.to_owned()))
    };
    timeout(SOON, talk).await.expect("an answer, or the end of the connection, in time")
}

/// Asks until the answer is as wanted.
async fn until(
    client: &Arc<ClientConfig>,
    address: SocketAddr,
    path: &str,
    is_wanted: impl Fn(&Option<(u16, String)>) -> bool,
) {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = get(client, address, path).await;
        if is_wanted(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{path} still answers {answer:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn is_ok(answer: &Option<(u16, String)>) -> bool {
    answer.as_ref().is_some_and(|(status, _)| *status == 200)
}

async fn simulator() -> Simulator {
    Simulator::start(SimulatorConfig::default()).await.expect("a simulator")
}

fn setup(simulator: &Simulator, certificates: &Certificates) -> Setup {
    Setup::at(&format!("stomp://{}", simulator.address()), "acme", "main", "acme-main-1")
        .set("ADMIN__TLS__CERTIFICATE_FILE", certificates.server.display().to_string())
        .set("ADMIN__TLS__KEY_FILE", certificates.key.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_for_all_and_the_rest_for_those_with_a_certificate() {
    let (simulator, home) = (simulator().await, tempfile::tempdir().expect("a directory"));
    let certificates = Certificates::with(home.path(), Kind::WithIntermediate);
    let other = tempfile::tempdir().expect("a directory");
    let other = Certificates::with(other.path(), Kind::Good);
    let authority = certificates.authority.as_path();
    let setup =
        setup(&simulator, &certificates).set("ADMIN__TLS__CLIENT_CA_FILE", authority.display().to_string());
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    let nobody = client(authority, None);
    until(&nobody, admin.0, "/readyz", is_ok).await;
    assert!(is_ok(&get(&nobody, admin.0, "/livez").await));
    for path in ["/", "/metrics", "/status", "/config", "/events", "/page.js"] {
        let (status, body) = get(&nobody, admin.0, path).await.expect("an answer");
        assert!(status == 403 && body.contains("admin.tls.client_ca_file"), "{path}: {status} {body}");
    }
    let customer = client(authority, Some((&certificates.client, &certificates.client_key)));
    let (status, metrics) = get(&customer, admin.0, "/metrics").await.expect("an answer");
    let expiry = "atdata_bridge_certificate_expiry_timestamp_seconds{connection=\"admin\",host=\"\",subject=\"CN=server\"}";
    assert!(status == 200 && metrics.contains(expiry), "{status} {metrics}");
    let stranger = client(authority, Some((&other.client, &other.client_key)));
    assert_eq!(get(&stranger, admin.0, "/livez").await, None);
    let plain = admin.get("/metrics").await;
    assert_eq!((plain.status, plain.body.as_str()), (400, "this port speaks TLS: write https://\n"));

    let address = admin.0.to_string();
    let (code, out, err) = setup.run(&["status", "--address", &address, "--tls"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("ready: atdata-bridge "), "{out}");
    let (code, _, err) = setup.run(&["status", "--address", &address]);
    assert!(
        code == Some(1) && err.contains("the answer is 400 Bad Request") && err.contains("--tls"),
        "{err}"
    );
    let mut elsewhere = setup.command(&["status", "--address", &address, "--tls"]);
    elsewhere.env("BRIDGE__ADMIN__TLS__CERTIFICATE_FILE", &other.server);
    elsewhere.env("BRIDGE__ADMIN__TLS__KEY_FILE", &other.key);
    let output = elsewhere.output().expect("run the verb");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1), "{err}");
    assert!(
        err.contains("it shows another certificate; does it run, with this admin.listen and admin.tls."),
        "{err}"
    );
    drain(bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_certificate_is_shown_without_a_restart_and_a_damaged_one_is_not() {
    let (simulator, home) = (simulator().await, tempfile::tempdir().expect("a directory"));
    let (home, later) = (home.path(), tempfile::tempdir().expect("a directory"));
    let certificates = Certificates::with(home, Kind::Good);
    let later = Certificates::with(later.path(), Kind::Good);
    let before = client(&certificates.authority, None);
    let after = client(&later.authority, None);
    let setup = setup(&simulator, &certificates);
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    until(&before, admin.0, "/metrics", is_ok).await;
    assert_eq!(get(&after, admin.0, "/livez").await, None);

    fs::write(&certificates.key, "damaged").expect("write the key");
    let damaged = || bridge.log().contains("until this is mended the files are used as they were before");
    until(&before, admin.0, "/livez", |answer| is_ok(answer) && damaged()).await;
    let (code, out, err) = setup.run(&["check"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        out.lines().any(|line| line.starts_with("FAILED  admin: can't use admin.tls.key_file = ")),
        "{out}"
    );

    fs::copy(&later.key, &certificates.key).expect("replace the key");
    fs::copy(&later.server, &certificates.server).expect("replace the certificate");
    until(&after, admin.0, "/metrics", is_ok).await;
    assert_eq!(get(&before, admin.0, "/livez").await, None);
    drain(bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_can_not_be_read_to_its_end_stops_neither_events_nor_pages() {
    let (simulator, home) = (simulator().await, tempfile::tempdir().expect("a directory"));
    let certificates = Certificates::with(home.path(), Kind::Good);
    let setup = setup(&simulator, &certificates);
    let mut bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    let client = client(&certificates.authority, None);
    until(&client, admin.0, "/readyz", is_ok).await;
    let key = HangingFile::replace(&certificates.key);
    until(&client, admin.0, "/livez", |answer| is_ok(answer) && key.is_read()).await;
    let rate = Rate::FlatOut { ahead: 1000 };
    let generation = Generation { events: Some(100), rate, generator: GeneratorConfig::default() };
    simulator.generate("acme", generation);
    let all = simulator.wait_until(|stats| stats.total().acked >= 100);
    timeout(SOON, all).await.expect("all events are acknowledged");
    assert!(is_ok(&get(&client, admin.0, "/livez").await));
    bridge.terminate();
    assert_eq!(bridge.ended(SOON).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_move_without_the_pages_while_their_certificate_is_damaged() {
    let (simulator, home) = (simulator().await, tempfile::tempdir().expect("a directory"));
    let certificates = Certificates::with(home.path(), Kind::Good);
    let good = fs::read(&certificates.server).expect("the certificate");
    fs::write(&certificates.server, "damaged").expect("write the certificate");
    let setup = setup(&simulator, &certificates);
    let mut bridge = setup.start();
    says(&mut bridge, "held: can't use admin.tls.certificate_file = ").await;
    let rate = Rate::FlatOut { ahead: 1000 };
    let generation = Generation { events: Some(100), rate, generator: GeneratorConfig::default() };
    simulator.generate("acme", generation);
    let all = simulator.wait_until(|stats| stats.total().acked >= 100);
    timeout(SOON, all).await.expect("all events are acknowledged");
    fs::write(&certificates.server, good).expect("repair the certificate");
    let admin = Admin::of(&bridge).await;
    until(&client(&certificates.authority, None), admin.0, "/readyz", is_ok).await;
    drain(bridge).await;
}
