//! Makes certificates, files and a server in this process, for the tests of failed handshakes.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

use super::*;

pub(super) const SOON: Duration = Duration::from_secs(10);

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

fn with_name(mut params: CertificateParams, name: &str) -> CertificateParams {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(super) fn named(name: &str) -> CertificateParams {
    with_name(CertificateParams::new(["broker.example.com".to_owned()]).unwrap(), name)
}

pub(super) fn authority_params(name: &str) -> CertificateParams {
    let mut params = with_name(CertificateParams::default(), name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub(super) fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

pub(super) fn authority(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority_params(name), key()).unwrap()
}

pub(super) fn intermediate(name: &str, of: &Authority) -> Authority {
    CertifiedIssuer::signed_by(authority_params(name), key(), of).unwrap()
}

pub(super) struct ShownChain {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: KeyPair,
}

impl ShownChain {
    pub(super) fn signed(params: &CertificateParams, by: &Issuer<'_, KeyPair>) -> Self {
        let key = key();
        let certificate = params.signed_by(&key, by).unwrap();
        Self { chain: vec![certificate.der().clone()], key }
    }

    pub(super) fn itself(params: &CertificateParams) -> Self {
        let key = key();
        let certificate = params.self_signed(&key).unwrap();
        Self { chain: vec![certificate.der().clone()], key }
    }

    pub(super) fn and(mut self, authority: &Authority) -> Self {
        self.chain.push(authority.der().clone());
        self
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    pub(super) fn config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        builder.with_single_cert(self.chain.clone(), self.key()).unwrap()
    }
}

pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Options that trust these authorities.
    pub(super) fn trusting(&self, authorities: &[&Authority]) -> TlsOptions {
        let pem: String = authorities.iter().map(|authority| authority.pem()).collect();
        options(self.write("ca.pem", pem))
    }
}

pub(super) fn options(ca_file: PathBuf) -> TlsOptions {
    TlsOptions {
        table: "source.tls".to_owned(),
        address: "source.url".to_owned(),
        ca_file: Some(ca_file),
        certificate_file: None,
        key_file: None,
    }
}

/// Connects to a server with this configuration. The server sends `hello` after a good handshake.
pub(super) async fn outcome(config: ServerConfig, options: &TlsOptions) -> Result<(), TlsError> {
    let (ours, theirs) = duplex(1 << 16);
    let serving = async {
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(theirs).await {
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            drop(stream.read(&mut [0; 1]).await);
        }
    };
    let asking = async {
        let mut stream = connect(ours, "broker.example.com", options, SOON).await?;
        let mut hello = [0; 5];
        let read = stream.read_exact(&mut hello).await;
        read.map(drop).map_err(|error| {
            error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()).expect("explained").clone()
        })
    };
    let serving = tokio::spawn(serving);
    let outcome = asking.await;
    serving.await.unwrap();
    outcome
}

pub(super) async fn error(shown: &ShownChain, options: &TlsOptions) -> TlsError {
    let error = outcome(shown.config(rustls::ALL_VERSIONS, None), options).await.unwrap_err();
    assert_eq!((error.cause(), error.needs_operator()), (Cause::Certificate, true), "{error}");
    error
}

pub(super) fn assert_says(error: &TlsError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    let raw = ["Other(", "UnixTime", "{", "Context", "InvalidCertificate", "\n"];
    assert!(!raw.iter().any(|raw| text.contains(raw)), "the library's own words: {text}");
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}
