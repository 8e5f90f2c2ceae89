//! TLS to a broker: certificate and host name are always verified.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why TLS can't be set up; the handshake's own errors are I/O errors.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file can't be read or holds no certificate.
    #[error("can't use the CA file {path}: {detail}")]
    CaFile {
        /// As configured.
        path: String,
        /// Why not.
        detail: String,
    },
    /// No root certificates on this system.
    #[error("no root certificates found on this system; install ca-certificates or name a ca_file")]
    NoSystemRoots,
    /// Neither a DNS name nor an address.
    #[error("`{0}` is no host name that a certificate could be checked against")]
    HostName(String),
    /// The client's own certificate or its key can't be used.
    #[error("can't use the certificate {path} or its key: {detail}")]
    Identity {
        /// The certificate, as configured.
        path: String,
        /// Why not.
        detail: String,
    },
    /// Refused by the library.
    #[error(transparent)]
    Library(#[from] rustls::Error),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] std::io::Error),
}

/// Does the handshake with `host` over `stream`, trusting `ca_file`, or the system's roots. Reads the
/// roots anew each time, so that a rotated CA is picked up by the next connection.
///
/// # Errors
/// Roots that can't be read, and everything that makes a handshake fail.
pub async fn connect<S>(stream: S, host: &str, ca_file: Option<&Path>) -> Result<TlsStream<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::HostName(host.to_owned()))?;
    let config = client_config(ca_file)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// What a client trusts: for `check`, too.
///
/// # Errors
/// The roots can't be read.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    client_config_as(ca_file, None)
}

/// The same with the client's own certificate and its key, both in PEM, for servers that ask who it is.
///
/// # Errors
/// The roots, the certificate or the key can't be read.
pub fn client_config_as(
    ca_file: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<ClientConfig, TlsError> {
    let roots = match ca_file {
        Some(path) => roots_from(path)?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some((certificate, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let fail = |detail: String| TlsError::Identity { path: certificate.display().to_string(), detail };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| fail(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| fail(error.to_string()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| fail(error.to_string()))
}

fn roots_from(path: &Path) -> Result<RootCertStore, TlsError> {
    let fail = |detail: String| TlsError::CaFile { path: path.display().to_string(), detail };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fail("it holds no PEM certificate".to_owned()));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(roots) }
}
