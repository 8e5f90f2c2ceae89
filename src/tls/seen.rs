//! Records what a server has presented and asked for, so that a failed handshake can be explained. rustls's
//! own verifier decides what is trusted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::certificate::{self, Certificate};
use super::expiry;

/// What the last handshake has shown; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Server>>);

/// What one server has presented and asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    /// The certificates that the server presented, its own first.
    pub(super) chain: Vec<Certificate>,
    /// Whether the server asked for a certificate of the client.
    pub(super) has_asked: bool,
    /// The DER names of the authorities whose certificates the server accepts, if it named any.
    pub(super) takes: Vec<Vec<u8>>,
}

impl Seen {
    pub(super) fn server(&self) -> Server {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Verifies as `inner` does, and records the presented certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) inner: Arc<WebPkiServerVerifier>,
    pub(super) seen: Seen,
    /// The table of the TLS options.
    pub(super) table: String,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = [end_entity].into_iter().chain(intermediates);
        let chain = certificate::chain(presented);
        expiry::remember(&self.table, &server_name.to_str(), &chain);
        self.seen.lock().chain = chain;
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}

/// Shows the client's own certificate, if there is one, and records that the server asked for it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) own: Option<Arc<CertifiedKey>>,
    pub(super) seen: Seen,
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, takes: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let mut server = self.seen.lock();
        server.has_asked = true;
        server.takes = takes.iter().map(|name| name.to_vec()).collect();
        self.own.clone()
    }

    fn has_certs(&self) -> bool {
        self.own.is_some()
    }
}
