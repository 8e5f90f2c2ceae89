//! Makes a certificate authority, and certificates of a server and a client signed by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// PEM files in a directory.
pub struct Certificates {
    /// The authority's certificate, which a client must trust.
    pub authority: PathBuf,
    /// The server's certificate, and the intermediate that the server sends with it, if any.
    pub server: PathBuf,
    /// The server's key, PKCS #8, P-256.
    pub key: PathBuf,
    /// The certificate of a client with the subject `CN=customer`.
    pub client: PathBuf,
    /// The client's key, PKCS #8, P-256.
    pub client_key: PathBuf,
}

/// A valid certificate of a server, or the defect that it has. The subject is `CN=server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A valid certificate.
    Good,
    /// A valid certificate, signed by an intermediate that the server sends.
    WithIntermediate,
    /// The server does not send the intermediate that signed it, `CN=test intermediate`.
    WithoutIntermediate,
    /// Expired on 2026-01-03.
    Expired,
    /// Valid for ten more days.
    ExpiresSoon,
    /// Valid from 2090-05-04 on.
    NotYetValid,
    /// For the host `broker.example.com` only.
    OtherHost,
    /// Without host names: it has only a subject.
    NoHost,
    /// Signed by itself.
    SelfSigned,
    /// A self-signed certificate of an authority (`CA:TRUE`), which [`Certificates::authority`] also
    /// contains.
    Authority,
    /// Valid for clients only.
    ForClients,
}

impl Certificates {
    /// Makes an authority and a certificate for `names` (host names or addresses) in `directory`.
    pub fn make(directory: &Path, names: &[String]) -> Self {
        let params = CertificateParams::new(names).expect("names for a certificate");
        Self::of(directory, params, Kind::Good)
    }

    /// Like [`make`](Self::make) for `localhost` and 127.0.0.1, with a server certificate of this kind.
    pub fn with(directory: &Path, kind: Kind) -> Self {
        let names = match kind {
            Kind::OtherHost => vec!["broker.example.com".to_owned()],
            Kind::NoHost => Vec::new(),
            _ => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        let mut params = CertificateParams::new(names).expect("names for a certificate");
        params.distinguished_name = named("server");
        match kind {
            Kind::Expired => params.not_after = date_time_ymd(2026, 1, 3),
            Kind::ExpiresSoon => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
                params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(10 * 24 * 60 * 60);
            }
            Kind::NotYetValid => {
                params.not_before = date_time_ymd(2090, 5, 4);
                params.not_after = date_time_ymd(2091, 5, 4);
            }
            Kind::Authority => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            Kind::ForClients => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => {}
        }
        Self::of(directory, params, kind)
    }

    fn of(directory: &Path, params: CertificateParams, kind: Kind) -> Self {
        let authority = CertifiedIssuer::self_signed(authority_named("test authority"), new_key());
        let authority = authority.expect("sign the authority");
        let key = new_key();
        let (server, trusted) = match kind {
            Kind::SelfSigned => (pem_of(&params.self_signed(&key)), authority.pem()),
            Kind::Authority => {
                let own = pem_of(&params.self_signed(&key));
                (own.clone(), own)
            }
            Kind::WithIntermediate | Kind::WithoutIntermediate => {
                let middle = authority_named("test intermediate");
                let middle = CertifiedIssuer::signed_by(middle, new_key(), &authority);
                let middle = middle.expect("sign the intermediate");
                let sent = if kind == Kind::WithIntermediate { middle.pem() } else { String::new() };
                (pem_of(&params.signed_by(&key, &middle)) + &sent, authority.pem())
            }
            _ => (pem_of(&params.signed_by(&key, &authority)), authority.pem()),
        };

        let client_key = new_key();
        let mut client = CertificateParams::default();
        client.distinguished_name = named("customer");
        let client = client.signed_by(&client_key, &authority);

        Self {
            authority: write(directory, "authority.pem", &trusted),
            server: write(directory, "server.pem", &server),
            key: write(directory, "server.key", &key.serialize_pem()),
            client: write(directory, "client.pem", &pem_of(&client)),
            client_key: write(directory, "client.key", &client_key.serialize_pem()),
        }
    }

    /// The TLS configuration of a server in this process. With `wants_clients`, clients must present a
    /// certificate that this authority has signed.
    pub fn server_config(&self, wants_clients: bool) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("TLS versions");
        let builder = if wants_clients {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(&self.authority));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a client verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("the server's key");
        builder.with_single_cert(certificates(&self.server), key).expect("the server's certificate")
    }
}

/// Writes the certificate of another authority with the same name as [`Certificates::authority`] and another
/// key.
pub fn namesake(directory: &Path) -> PathBuf {
    write(directory, "namesake.pem", &authority_pem("test authority"))
}

/// Writes the certificate of an authority that has signed nothing, `CN=another authority`.
pub fn stranger(directory: &Path) -> PathBuf {
    write(directory, "stranger.pem", &authority_pem("another authority"))
}

fn authority_pem(name: &str) -> String {
    pem_of(&authority_named(name).self_signed(&new_key()))
}

fn authority_named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = named(name);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn pem_of(certificate: &Result<rcgen::Certificate, rcgen::Error>) -> String {
    certificate.as_ref().expect("sign a certificate").pem()
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_file_iter(path).expect("a PEM file");
    certificates.collect::<Result<_, _>>().expect("certificates")
}

/// Generates a private key, P-256.
pub(super) fn new_key() -> KeyPair {
    KeyPair::generate().expect("generate a key")
}

/// Writes a PEM file into `directory`.
pub(super) fn write(directory: &Path, name: &str, pem: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, pem).expect("write a PEM file");
    path
}
