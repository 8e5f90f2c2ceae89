//! Tests what a server shows and whom it trusts, with clients in this process.

use tokio::io::duplex;
use tokio_rustls::TlsConnector;

use super::testing::*;
use super::*;

/// A server with this certificate, which asks clients for one of `clients`.
fn server(files: &Files, shown: &ShownChain, clients: Option<&Authority>) -> TlsServerOptions {
    TlsServerOptions {
        table: "admin.tls".to_owned(),
        certificate_file: files.write("server.pem", pem("CERTIFICATE", &shown.chain[0])),
        key_file: files.write("server.key", pem("PRIVATE KEY", shown.key().secret_der())),
        client_ca_file: clients.map(|clients| files.write("clients.pem", clients.pem())),
    }
}

/// Returns whether the server knows the client, or `None` if there was no connection.
async fn accepted(server: &TlsServer, client: ClientConfig) -> Option<bool> {
    let (ours, theirs) = duplex(1 << 16);
    let name = ServerName::try_from("broker.example.com").unwrap();
    let connecting = TlsConnector::from(Arc::new(client)).connect(name, ours);
    let (connected, accepted) = tokio::join!(connecting, server.accept(theirs));
    connected.ok().and(accepted.ok()).map(|(_, is_known)| is_known)
}

#[tokio::test]
async fn a_client_is_known_by_its_authority_or_by_the_servers_own_certificate() {
    let (files, root, other) = (Files::new(), authority("Root"), authority("Other"));
    let shown = ShownChain::signed(&named("bridge"), &root);
    let with = |name: &str, by: &Authority| {
        let own = ShownChain::signed(&named(name), by);
        let options = TlsOptions {
            certificate_file: Some(files.write(&format!("{name}.pem"), pem("CERTIFICATE", &own.chain[0]))),
            key_file: Some(files.write(&format!("{name}.key"), pem("PRIVATE KEY", own.key().secret_der()))),
            ..files.trusting(&[&root])
        };
        TlsClient::new(&options).unwrap().config()
    };
    let nobody = || TlsClient::new(&files.trusting(&[&root])).unwrap().config();
    let options = server(&files, &shown, Some(&other));
    let asking = TlsServer::new(options.clone()).unwrap();
    assert!(asking.asks_clients());
    assert_eq!(accepted(&asking, with("customer", &other)).await, Some(true));
    assert_eq!(accepted(&asking, options.own_client().unwrap()).await, Some(true));
    assert_eq!(accepted(&asking, nobody()).await, Some(false));
    assert_eq!(accepted(&asking, with("stranger", &root)).await, None);

    let open = TlsServer::new(server(&files, &shown, None)).unwrap();
    assert!(!open.asks_clients());
    assert_eq!(accepted(&open, nobody()).await, Some(false));
    let impostor = ShownChain::signed(&named("bridge"), &root);
    let impostor = TlsServer::new(server(&Files::new(), &impostor, None)).unwrap();
    assert_eq!(accepted(&impostor, options.own_client().unwrap()).await, None);
}

#[test]
fn a_file_that_is_wrong_is_named_with_its_option() {
    let (files, root) = (Files::new(), authority("Root"));
    let good = server(&files, &ShownChain::signed(&named("bridge"), &root), Some(&root));
    let wrong = |change: fn(&mut TlsServerOptions, PathBuf)| {
        let mut options = good.clone();
        change(&mut options, files.write("wrong.pem", "wrong"));
        TlsServer::new(options).unwrap_err()
    };
    assert_says(
        &wrong(|options, path| options.certificate_file = path),
        &["can't use admin.tls.certificate_file = "],
    );
    assert_says(&wrong(|options, path| options.key_file = path), &["can't use admin.tls.key_file = "]);
    let error = wrong(|options, path| options.client_ca_file = Some(path));
    assert_says(&error, &["can't use admin.tls.client_ca_file = ", "a certificate in PEM"]);
    let garbage = files.write("garbage.pem", pem("CERTIFICATE", b"garbage"));
    let damaged = TlsServerOptions { certificate_file: garbage, ..good.clone() };
    assert_says(
        &TlsServer::new(damaged).unwrap_err(),
        &["can't use admin.tls.certificate_file = ", "its first certificate is damaged"],
    );
    let traditional = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                       -----END RSA PRIVATE KEY-----\n";
    let encrypted =
        TlsServerOptions { key_file: files.write("traditional.key", traditional), ..good.clone() };
    assert_says(
        &TlsServer::new(encrypted).unwrap_err(),
        &["admin.tls.key_file = ", "the private key is encrypted"],
    );
    let others = Files::new();
    let other = server(&others, &ShownChain::signed(&named("bridge"), &root), None);
    let swapped = TlsServerOptions { certificate_file: good.certificate_file, ..other };
    assert_says(&TlsServer::new(swapped).unwrap_err(), &["admin.tls.key_file = ", "it is not the key of"]);
}
