//! Accepts TLS connections, and trusts the certificates that clients show. The files are read again while it runs, so
//! a rotated certificate is used without a restart.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio_rustls::{TlsAcceptor, server};

use super::files::{Roots, identity};
use super::{Cause, TlsError, certificate, expiry};

/// The shortest time between two reads of the files.
const READ_EVERY: Duration = Duration::from_secs(10);

/// The files of a TLS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServerOptions {
    /// The beginning of the options' names: `admin.tls` for `admin.tls.key_file`.
    pub table: String,
    /// A PEM file with the server's certificate and those that lead from it to its authority.
    pub certificate_file: PathBuf,
    /// A PEM file with the key of that certificate.
    pub key_file: PathBuf,
    /// A PEM file with the authorities of the certificates that clients may show. Without it none is asked for.
    pub client_ca_file: Option<PathBuf>,
}

impl TlsServerOptions {
    fn key(&self, option: &str) -> String {
        format!("{}.{option}", self.table)
    }

    fn identity(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        identity(&self.table, &self.certificate_file, &self.key_file, provider)
    }

    /// Returns a client for the server with these files on this host. It trusts no other certificate than the server's,
    /// whatever names that has, and shows the same one.
    ///
    /// # Errors
    /// A file can't be used.
    pub fn own_client(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = self.identity(&provider)?;
        let verifier = OwnCertificate { own: own(&identity), provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            // The library calls this dangerous. Only one certificate is trusted, which is compared byte for byte.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))))
    }

    fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = self.identity(&provider)?;
        expiry::remember(&self.table, "", &certificate::chain(&identity.cert));
        let verifier = self.client_verifier(own(&identity), &provider)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        Ok(Arc::new(config))
    }

    fn client_verifier(
        &self,
        own: CertificateDer<'static>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let Some(path) = &self.client_ca_file else { return Ok(Arc::new(NoClientAuth)) };
        let key = self.key("client_ca_file");
        let roots = Roots::of_file(path, &key)?.store;
        let authorities = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
            .allow_unauthenticated()
            .build();
        let unusable = |_| TlsError::new(Cause::File, format!("can't use {key} = {}", path.display()));
        Ok(Arc::new(ClientVerifier { authorities: authorities.map_err(unusable)?, own }))
    }
}

fn own(identity: &CertifiedKey) -> CertificateDer<'static> {
    identity.cert.first().cloned().unwrap_or_else(|| CertificateDer::from(Vec::new()))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unusable(error: Error) -> TlsError {
    TlsError::new(Cause::Protocol, error.to_string())
}

/// A TLS server. Several tasks may accept at the same time.
#[derive(Debug)]
pub struct TlsServer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: TlsServerOptions,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    config: Arc<ServerConfig>,
    read: Instant,
    is_reading: bool,
    /// Why the files could not be used when they were read last.
    problem: Option<TlsError>,
}

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// A file can't be used.
    pub fn new(options: TlsServerOptions) -> Result<Self, TlsError> {
        let (config, read) = (options.read()?, Instant::now());
        let latest = Latest { config, read, is_reading: false, problem: None };
        Ok(Self(Arc::new(Shared { options, latest: Mutex::new(latest) })))
    }

    /// Whether clients are asked for a certificate.
    pub fn asks_clients(&self) -> bool {
        self.0.options.client_ca_file.is_some()
    }

    /// Does the handshake over `stream`. The caller limits its time. Also returns whether the client has shown a
    /// certificate that is trusted.
    ///
    /// # Errors
    /// The handshake failed. A client that shows a certificate which is not trusted is refused.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(server::TlsStream<S>, bool)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.config(Instant::now())).accept(stream).await?;
        let is_trusted = stream.get_ref().1.peer_certificates().is_some();
        Ok((stream, is_trusted))
    }

    /// Returns the configuration of the files as they were read last. Begins to read them again if that was long ago, in
    /// another thread, because a file system may hang.
    fn config(&self, now: Instant) -> Arc<ServerConfig> {
        let mut latest = self.0.latest();
        if !latest.is_reading && now.duration_since(latest.read) >= READ_EVERY {
            latest.is_reading = true;
            let shared = Arc::clone(&self.0);
            spawn_blocking(move || shared.read_again());
        }
        Arc::clone(&latest.config)
    }
}

impl Shared {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files. While they can't be used, the configuration of before stays.
    fn read_again(&self) {
        let read = self.options.read();
        let mut latest = self.latest();
        (latest.read, latest.is_reading) = (Instant::now(), false);
        let problem = match read {
            Ok(config) => {
                latest.config = config;
                None
            }
            Err(problem) => Some(problem),
        };
        if problem != latest.problem {
            match &problem {
                Some(problem) => {
                    tracing::warn!("{problem}; until this is mended the files are used as they were before");
                }
                None => tracing::info!("the files of {} can be used again", self.options.table),
            }
            latest.problem = problem;
        }
    }
}

/// Trusts what the authorities have signed, and the server's own certificate: who has its key may see what the server
/// shows.
#[derive(Debug)]
struct ClientVerifier {
    authorities: Arc<dyn ClientCertVerifier>,
    own: CertificateDer<'static>,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.authorities.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if *end_entity == self.own {
            return Ok(ClientCertVerified::assertion());
        }
        self.authorities.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Trusts one certificate of a server, which it knows.
#[derive(Debug)]
struct OwnCertificate {
    own: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OwnCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.own {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
