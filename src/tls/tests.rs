//! Tests every way in which a handshake fails, against a server in this process.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::testing::*;
use super::*;

#[tokio::test]
async fn a_good_chain_is_trusted_with_and_without_an_intermediate() {
    let (files, root) = (Files::new(), authority("Root"));
    let middle = intermediate("Middle", &root);
    let options = files.trusting(&[&root]);
    for shown in [
        ShownChain::signed(&named("broker"), &root),
        ShownChain::signed(&named("broker"), &middle).and(&middle),
    ] {
        outcome(shown.config(rustls::ALL_VERSIONS, None), &options).await.unwrap();
    }
}

#[tokio::test]
async fn the_expiry_of_what_both_sides_show_is_remembered_until_they_show_another() {
    let (files, root) = (Files::new(), authority("Root"));
    let own = ShownChain::signed(&named("bridge"), &root);
    let options = TlsOptions {
        table: "sinks.expiry.tls".to_owned(),
        certificate_file: Some(files.write("own.pem", pem("CERTIFICATE", &own.chain[0]))),
        key_file: Some(files.write("own.key", pem("PRIVATE KEY", own.key().secret_der()))),
        ..files.trusting(&[&root])
    };
    let shown = || -> Vec<_> {
        let mine = shown_certificates().into_iter().filter(|(table, ..)| *table == options.table);
        mine.map(|(_, host, Expiry { subject, not_after })| (host, subject, not_after)).collect()
    };
    for (year, not_after) in [(2090, 3_786_912_000), (2091, 3_818_448_000)] {
        let mut params = named("broker");
        params.not_after = date_time_ymd(year, 1, 1);
        let server = ShownChain::signed(&params, &root).config(rustls::ALL_VERSIONS, Some(&root));
        outcome(server, &options).await.unwrap();
        let (host, subject) = ("broker.example.com".to_owned(), "CN=broker".to_owned());
        assert_eq!(shown().get(1..), Some(&[(host, subject, not_after)][..]));
        assert_eq!((shown()[0].0.as_str(), shown()[0].1.as_str()), ("", "CN=bridge"));
    }
}

#[tokio::test]
async fn an_issuer_that_is_not_trusted_is_named() {
    let (files, root, other) = (Files::new(), authority("Root"), authority("Other"));
    let middle = intermediate("Middle", &root);
    let options = files.trusting(&[&other]);
    let trusted = format!("source.tls.ca_file = {}", options.ca_file.as_ref().unwrap().display());
    let trusted = trusted.as_str();

    let direct = error(&ShownChain::signed(&named("broker"), &root), &options).await;
    assert_says(&direct, &["certificate of CN=broker was issued by CN=Root", trusted, "which has CN=Other"]);
    let with_root = error(&ShownChain::signed(&named("broker"), &root).and(&root), &options).await;
    assert_says(&with_root, &["CN=broker comes from the authority CN=Root", trusted, "put that authority's"]);
    let with_middle = error(&ShownChain::signed(&named("broker"), &middle).and(&middle), &options).await;
    assert_says(
        &with_middle,
        &["CN=broker was issued by CN=Middle, and that of CN=Middle by CN=Root", trusted],
    );
    let alone = error(&ShownChain::itself(&named("broker")), &options).await;
    assert_says(&alone, &["self-signed certificate of CN=broker", trusted]);
}

#[tokio::test]
async fn an_intermediate_that_the_server_does_not_send_is_named() {
    let (files, root) = (Files::new(), authority("Root"));
    let middle = intermediate("Middle", &root);
    let missing = error(&ShownChain::signed(&named("broker"), &middle), &files.trusting(&[&root])).await;
    assert_says(
        &missing,
        &[
            "issued by CN=Middle",
            "nor sent by the server",
            "if CN=Middle is an intermediate, the server must send it",
        ],
    );
}

#[tokio::test]
async fn a_file_with_a_wrong_certificate_is_told_as_such() {
    let (files, root) = (Files::new(), authority("Root"));
    let shown = ShownChain::signed(&named("broker"), &root);
    let renewed = error(&shown, &files.trusting(&[&authority("Root")])).await;
    assert_says(&renewed, &["signed by another CN=Root than that in source.tls.ca_file = "]);

    let own = pem("CERTIFICATE", &shown.chain[0]);
    let own = error(&shown, &options(files.write("own.pem", own))).await;
    assert_says(&own, &["holds the server's own certificate", "put that of its issuer, CN=Root, there"]);
}

#[tokio::test]
async fn the_times_of_a_certificate_are_told_in_words() {
    let (files, root) = (Files::new(), authority("Root"));
    let options = files.trusting(&[&root]);
    let mut params = named("broker");
    params.not_after = date_time_ymd(2026, 1, 3);
    let old = error(&ShownChain::signed(&params, &root), &options).await;
    assert_says(&old, &["certificate of CN=broker expired on 2026-01-03, ", " days ago: renew it"]);

    params.not_before = date_time_ymd(2090, 5, 4);
    params.not_after = date_time_ymd(2091, 1, 1);
    let young = error(&ShownChain::signed(&params, &root), &options).await;
    assert_says(
        &young,
        &["is not valid before 2090-05-04 00:00 UTC, and here it is 20", "look at the clocks"],
    );
}

#[tokio::test]
async fn an_intermediate_that_has_expired_is_the_one_that_is_named() {
    let (files, root) = (Files::new(), authority("Root"));
    let mut params = authority_params("Middle");
    params.not_after = date_time_ymd(2020, 2, 29);
    let middle = CertifiedIssuer::signed_by(params, key(), &root).unwrap();
    let shown = ShownChain::signed(&named("broker"), &middle).and(&middle);
    let old = error(&shown, &files.trusting(&[&root])).await;
    assert_says(&old, &["certificate of CN=Middle expired on 2020-02-29"]);
}

#[tokio::test]
async fn the_names_that_a_certificate_has_are_told() {
    let (files, root) = (Files::new(), authority("Root"));
    let options = files.trusting(&[&root]);
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let other = error(&ShownChain::signed(&CertificateParams::new(names).unwrap(), &root), &options).await;
    assert_says(&other, &["is for localhost, 127.0.0.1, ::1, not for broker.example.com", "in source.url"]);

    let many: Vec<_> = (0..7).map(|number| format!("h{number}.example.com")).collect();
    let many = error(&ShownChain::signed(&CertificateParams::new(many).unwrap(), &root), &options).await;
    assert_says(&many, &["h4.example.com and 2 more, not for"]);

    let mut none = named("broker");
    none.subject_alt_names.clear();
    let none = error(&ShownChain::signed(&none, &root), &options).await;
    assert_says(&none, &["is for no host at all (it has no subjectAltName)"]);
}

#[tokio::test]
async fn an_authority_s_certificate_is_not_a_server_s() {
    let files = Files::new();
    let mut params = named("broker");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let shown = ShownChain::itself(&params);
    let options = options(files.write("ca.pem", pem("CERTIFICATE", &shown.chain[0])));
    let authority = error(&shown, &options).await;
    assert_says(&authority, &["certificate of an authority (CN=broker) as its own", "CA:FALSE"]);
}

#[tokio::test]
async fn a_certificate_for_clients_is_not_for_a_server() {
    let (files, root) = (Files::new(), authority("Root"));
    let mut params = named("broker");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let client = error(&ShownChain::signed(&params, &root), &files.trusting(&[&root])).await;
    assert_says(&client, &["CN=broker is not for a server", "serverAuth"]);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_the_client_says_so() {
    let (files, root, clients) = (Files::new(), authority("Root"), authority("Clients"));
    let options = files.trusting(&[&root]);
    let shown = ShownChain::signed(&named("broker"), &root);
    let own = |signed_by: &Authority| {
        let own = ShownChain::signed(&named("bridge"), signed_by);
        TlsOptions {
            certificate_file: Some(files.write("own.pem", pem("CERTIFICATE", &own.chain[0]))),
            key_file: Some(files.write("own.key", own.key.serialize_pem())),
            ..options.clone()
        }
    };
    for version in rustls::ALL_VERSIONS {
        let config = || shown.config(&[version], Some(&clients));
        let wanted = outcome(config(), &options).await.unwrap_err();
        assert_eq!((wanted.cause(), wanted.needs_operator()), (Cause::ClientCertificate, true), "{wanted}");
        let set = "set source.tls.certificate_file and source.tls.key_file";
        assert_says(&wanted, &["wants a client certificate (it takes certificates from CN=Clients)", set]);

        let refused = outcome(config(), &own(&root)).await.unwrap_err();
        assert_eq!(refused.cause(), Cause::ClientCertificate, "{refused}");
        assert_says(
            &refused,
            &["refuses the client certificate source.tls.certificate_file = ", "CN=Clients"],
        );

        outcome(config(), &own(&clients)).await.unwrap();
    }
}

/// Connects to a server that does not do a handshake but runs `serve`.
async fn after(serve: impl AsyncFnOnce(DuplexStream), allowed: Duration) -> TlsError {
    let (files, root) = (Files::new(), authority("Root"));
    let options = files.trusting(&[&root]);
    let (ours, theirs) = duplex(1 << 16);
    let (outcome, ()) = tokio::join!(connect(ours, "broker.example.com", &options, allowed), serve(theirs));
    outcome.map(drop).unwrap_err()
}

async fn answering(answer: &[u8]) -> TlsError {
    let serve = async |mut stream: DuplexStream| {
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        drop(stream.read_to_end(&mut Vec::new()).await);
    };
    after(serve, SOON).await
}

#[tokio::test]
async fn plain_text_is_known_for_what_it_is() {
    for (answer, wire) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Some(WireProtocol::Http)),
        (b"INFO {\"server_id\":\"N\"}\r\n", Some(WireProtocol::Nats)),
        (b"\x00\x00\x01\x3c\x01ActiveMQ\x00\x00\x00\x0c", Some(WireProtocol::OpenWire)),
        (b"ERROR\nmessage:no\n\n\0", Some(WireProtocol::Stomp)),
        (b"what do you want?", None),
    ] {
        let error = answering(answer).await;
        assert_eq!((error.cause(), error.needs_operator()), (Cause::Plaintext(wire), true), "{error}");
        assert_says(&error, &["this port does not speak TLS", "look at source.url"]);
        if let Some(wire) = wire {
            assert_says(&error, &[&wire.to_string()]);
        }
    }
}

/// Paused time does not pass while the certificates are read.
#[tokio::test(start_paused = true)]
async fn what_passes_by_itself_needs_nobody() {
    let closed = answering(b"").await;
    assert_says(&closed, &["closed the connection as soon as the TLS handshake began"]);
    let halfway = answering(b"\x16\x03\x03\x00\x7a\x02").await;
    assert_says(&halfway, &["closed the connection in the middle of the TLS handshake"]);
    let busy = answering(b"\x15\x03\x03\x00\x02\x02\x50").await;
    assert_says(&busy, &["ended the handshake: internal error"]);
    for error in [closed, halfway, busy] {
        assert_eq!((error.cause(), error.needs_operator()), (Cause::Cut, false), "{error}");
    }

    let silence = async |mut stream: DuplexStream| drop(stream.read_to_end(&mut Vec::new()).await);
    let late = after(silence, Duration::from_millis(50)).await;
    assert_eq!((late.cause(), late.needs_operator()), (Cause::Late, false), "{late}");
    assert_says(&late, &["does not answer the TLS handshake within 0.05 s"]);
}

#[tokio::test]
async fn what_the_server_refuses_is_told_in_words() {
    for (alert, part) in [
        (0x46, "only older versions"),
        (0x28, "no cipher of TLS 1.2 or 1.3 in common"),
        (0x70, "knows no host broker.example.com"),
        (0x0A, "refused the handshake: unexpected message"),
        (0x2A, "wants a client certificate"),
    ] {
        let error = answering(&[0x15, 3, 3, 0, 2, 2, alert]).await;
        assert!(error.needs_operator(), "{error}");
        assert_says(&error, &[part]);
    }
}

fn refused(options: &TlsOptions) -> String {
    let error = TlsClient::new(options).unwrap_err();
    assert_eq!((error.cause(), error.needs_operator()), (Cause::File, true));
    error.to_string()
}

#[test]
fn a_file_that_can_t_be_used_is_named_with_its_option() {
    let (files, root) = (Files::new(), authority("Root"));
    let own = ShownChain::signed(&named("bridge"), &root);
    for (content, part) in [
        (&b""[..], "it is empty"),
        (b"hello", "it is no PEM file"),
        (own.key.serialize_pem().as_bytes(), "it holds private key, where a certificate in PEM"),
        (&own.chain[0], "it is in DER or PKCS #12, not in PEM"),
        (b"\xFE\xED\xFE\xED\0\0", "it is a Java key store"),
        (pem("CERTIFICATE", b"no certificate").as_bytes(), "its certificate number 1 is damaged"),
        (
            b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
            "the PEM of its certificate is damaged",
        ),
        (b"-----BEGIN CERTIFICATE-----\nMII\n", "the PEM of its certificate is damaged"),
    ] {
        let path = files.write("ca.pem", content);
        let said = refused(&options(path.clone()));
        let begins = format!("can't use source.tls.ca_file = {}: ", path.display());
        assert!(said.starts_with(&begins) && said.contains(part), "{said}");
    }
    let said = refused(&options("/does/not/exist".into()));
    assert!(said.starts_with("can't read source.tls.ca_file = /does/not/exist: "), "{said}");
}

#[test]
fn a_key_that_can_t_be_used_is_named_with_its_option() {
    let (files, root) = (Files::new(), authority("Root"));
    let own = ShownChain::signed(&named("bridge"), &root);
    let certificate = files.write("own.pem", pem("CERTIFICATE", &own.chain[0]));
    let with = |certificate: &Path, key: &Path| TlsOptions {
        certificate_file: Some(certificate.to_owned()),
        key_file: Some(key.to_owned()),
        ..files.trusting(&[&root])
    };
    for (content, part) in [
        (key().serialize_pem(), "it is not the key of the certificate in source.tls.certificate_file = "),
        (pem("CERTIFICATE", &own.chain[0]), "it holds certificate, where a private key in PEM"),
        (pem("ENCRYPTED PRIVATE KEY", b"?"), "the private key is encrypted: write it without a password"),
        (pem("PRIVATE KEY", b"?"), "it holds no key that TLS can sign with"),
        (String::new(), "it is empty"),
    ] {
        let key = files.write("own.key", content);
        let said = refused(&with(&certificate, &key));
        let begins = format!("can't use source.tls.key_file = {}: ", key.display());
        assert!(said.starts_with(&begins) && said.contains(part), "{said}");
    }
    let key = files.write("own.key", own.key.serialize_pem());
    let said = refused(&with(&key, &key));
    assert!(said.contains("source.tls.certificate_file") && said.contains("it holds private key"), "{said}");
    TlsClient::new(&with(&certificate, &key)).unwrap();
}

/// Client libraries return an error in an error in an error.
#[test]
fn an_error_is_found_however_deep_it_is_wrapped() {
    #[derive(Debug, thiserror::Error)]
    #[error("can't connect")]
    struct Wrapped(#[source] std::io::Error);

    let (files, root) = (Files::new(), authority("Root"));
    let client = TlsClient::new(&files.trusting(&[&root])).unwrap();
    let inner = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let inner = std::io::Error::new(std::io::ErrorKind::InvalidData, inner);
    let error = client.explain("nats.example.com", &Wrapped(std::io::Error::other(inner)));
    assert_eq!(error.cause(), Cause::Certificate);
    let reset = Wrapped(std::io::ErrorKind::ConnectionReset.into());
    assert_eq!(client.explain("nats.example.com", &reset).cause(), Cause::Cut);
}
