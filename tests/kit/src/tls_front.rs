//! Terminates TLS with a certificate chosen by the test, in front of a server without TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::certificates::{new_key, write};

/// The defect of the TLS port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The certificate expired in 2020.
    Expired,
    /// The certificate is valid for ten more days.
    ExpiresSoon,
    /// The certificate is valid from 2090 on.
    NotYetValid,
    /// The certificate is for `elsewhere.example.com`.
    OtherName,
    /// The authority's own certificate is presented as the server's.
    Authority,
    /// The intermediate certificate is not sent.
    NoIntermediate,
    /// No defect, but clients must present a certificate of the authority.
    WantsClient,
}

/// The TLS port; ends when dropped.
pub struct TlsFront {
    addr: SocketAddr,
    ca_file: PathBuf,
    client: (PathBuf, PathBuf),
    _directory: TempDir,
    accepting: JoinHandle<()>,
}

impl TlsFront {
    /// Listens on a free loopback port and forwards to `target`.
    pub async fn start(flaw: Flaw, target: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("make a directory");
        let made = Made::new(flaw);
        let ca_file = write(directory.path(), "authority.pem", &made.authority_pem);
        let client = (
            write(directory.path(), "client.pem", &made.client.0),
            write(directory.path(), "client.key", &made.client.1),
        );
        let acceptor = TlsAcceptor::from(Arc::new(made.config(flaw)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a free port");
        let addr = listener.local_addr().expect("an address");
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(stream).await?;
                    let mut server = TcpStream::connect(target).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { addr, ca_file, client, _directory: directory, accepting }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The file of the authority's certificate.
    pub fn ca_file(&self) -> String {
        self.ca_file.display().to_string()
    }

    /// The files of a client certificate that the port accepts, and of its key.
    pub fn client(&self) -> (String, String) {
        (self.client.0.display().to_string(), self.client.1.display().to_string())
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Made {
    authority: CertificateDer<'static>,
    authority_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client: (String, String),
}

impl Made {
    fn new(flaw: Flaw) -> Self {
        let authority = issuer("front authority");
        let between = new_key();
        let mut params = authority_params("front intermediate");
        params.distinguished_name.push(DnType::OrganizationName, "tests");
        let intermediate = params.signed_by(&between, &authority).expect("sign an intermediate");
        let between = Issuer::new(params, between);

        let key = new_key();
        let name = if flaw == Flaw::OtherName { "elsewhere.example.com" } else { "localhost" };
        let mut names = vec![name.to_owned()];
        if flaw != Flaw::OtherName {
            names.push("127.0.0.1".to_owned());
        }
        let mut server = CertificateParams::new(names).expect("names");
        server.distinguished_name.push(DnType::CommonName, "front server");
        match flaw {
            Flaw::Expired => {
                server.not_before = date_time_ymd(2019, 1, 1);
                server.not_after = date_time_ymd(2020, 1, 1);
            }
            Flaw::ExpiresSoon => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
                server.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(10 * 24 * 60 * 60);
            }
            Flaw::NotYetValid => {
                server.not_before = date_time_ymd(2090, 1, 1);
                server.not_after = date_time_ymd(2091, 1, 1);
            }
            _ => {}
        }
        let (chain, key) = match flaw {
            Flaw::Authority => (vec![authority.der().clone()], authority.key().serialize_der()),
            Flaw::NoIntermediate => {
                let server = server.signed_by(&key, &between).expect("sign");
                (vec![server.der().clone()], key.serialize_der())
            }
            _ => {
                let server = server.signed_by(&key, &authority).expect("sign");
                (vec![server.der().clone(), intermediate.der().clone()], key.serialize_der())
            }
        };
        let client_key = new_key();
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, "front client");
        let client = client.signed_by(&client_key, &authority).expect("sign the client's certificate");
        Self {
            authority: authority.der().clone(),
            authority_pem: authority.pem(),
            chain,
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
            client: (client.pem(), client_key.serialize_pem()),
        }
    }

    fn config(self, flaw: Flaw) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("TLS versions");
        let builder = if flaw == Flaw::WantsClient {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        builder.with_single_cert(self.chain, self.key).expect("a certificate and its key")
    }
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(authority_params(name), new_key()).expect("sign the authority")
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
