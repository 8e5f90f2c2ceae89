//! Connects to servers by TLS. It always verifies certificate and host name, and explains a failed handshake.
//! [`TlsServer`] is the other side, for the pages of the bridge.
//!
//! [`connect`] returns a [`TlsError`]. A client library that does its own handshake gets [`TlsClient::config`],
//! and [`TlsClient::explain`] turns its error into the same explanation.

mod certificate;
mod expiry;
mod explain;
mod files;
mod root_cause;
mod seen;
mod server;
#[cfg(test)]
mod server_tests;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod words;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::file_reads;
use crate::protocol_guess::{FirstBytes, Remembering, WireProtocol};
pub use expiry::{Expiry, shown_certificates};
use explain::Handshake;
use files::Roots;
use seen::{Identity, Seen, Verifier};
pub use server::{TlsServer, TlsServerOptions};
pub use stream::TlsStream;

/// Why TLS failed: one line for people, and whether a later try may succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TlsError {
    cause: Cause,
    text: String,
}

/// The kind of a TLS error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A file that the configuration names can't be used.
    File,
    /// The server's certificate can't be trusted, or not for this host.
    Certificate,
    /// The server asks for a certificate of the client, or refuses the one that it got.
    ClientCertificate,
    /// Both sides talk TLS, but have no version or cipher in common.
    Protocol,
    /// The server does not talk TLS; the value is the protocol that it talks, if known.
    Plaintext(Option<WireProtocol>),
    /// The connection was closed or reset during the handshake.
    Cut,
    /// The server did not answer within the allowed time.
    Late,
}

impl TlsError {
    pub(crate) fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }

    /// The kind of this error; it decides whether somebody must act.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether somebody must act; otherwise the error may pass by itself.
    pub fn needs_operator(&self) -> bool {
        !matches!(self.cause, Cause::Cut | Cause::Late)
    }
}

/// The files that TLS uses, and the names of the options for them, so that all users of TLS show the same
/// messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The beginning of the options' names: `source.tls` for `source.tls.ca_file`.
    pub table: String,
    /// The option that names the server, such as `source.url`.
    pub address: String,
    /// A PEM file of certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the client's own certificate and those that lead from it to its authority.
    pub certificate_file: Option<PathBuf>,
    /// A PEM file with the key of the client's certificate.
    pub key_file: Option<PathBuf>,
}

impl TlsOptions {
    /// The full name of an option, for messages.
    fn key(&self, option: &str) -> String {
        format!("{}.{option}", self.table)
    }

    /// Reads the client's own certificate and its key, if both are set.
    fn identity(&self, provider: &CryptoProvider) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
        let files = self.certificate_file.as_ref().zip(self.key_file.as_ref());
        files.map(|(certificate, key)| files::identity(&self.table, certificate, key, provider)).transpose()
    }

    /// The trusted certificates, for messages, such as `source.tls.ca_file = /etc/ca.pem`.
    fn trusted(&self) -> String {
        match &self.ca_file {
            Some(path) => format!("{} = {}", self.key("ca_file"), path.display()),
            None => "the system's certificates".to_owned(),
        }
    }
}

/// A TLS client: the certificates that it trusts and shows, and those that servers have presented to it.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    options: TlsOptions,
    roots: Roots,
    seen: Seen,
    has_identity: bool,
}

impl TlsClient {
    /// Reads the files that `options` names.
    ///
    /// # Errors
    /// One of the files can't be used.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (roots, seen) = (Roots::read(options)?, Seen::default());
        let unusable = |_| TlsError::new(Cause::File, format!("can't use {}", options.trusted()));
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots.store), Arc::clone(&provider))
                .build()
                .map_err(unusable)?;
        let verifier = Arc::new(Verifier { inner, seen: seen.clone(), table: options.table.clone() });
        let own = options.identity(&provider)?;
        if let Some(own) = &own {
            expiry::remember(&options.table, "", &certificate::chain(&own.cert));
        }
        let has_identity = own.is_some();
        let identity = Arc::new(Identity { own, seen: seen.clone() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new(Cause::Protocol, error.to_string()))?
            // The library calls this dangerous. This verifier leaves every verdict to rustls's own verifier.
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(identity);
        Ok(Self { config: Arc::new(config), options: options.clone(), roots, seen, has_identity })
    }

    /// Reads the files in another thread, because a file system may hang.
    ///
    /// # Errors
    /// One of the files can't be used, or can't be read in the time `allowed`.
    pub async fn read(options: &TlsOptions, allowed: Duration) -> Result<Self, TlsError> {
        let read = {
            let options = options.clone();
            move || Self::new(&options)
        };
        let hangs = || {
            let text = format!("can't read the files of {}: {}", options.table, file_reads::no_answer());
            Err(TlsError::new(Cause::File, text))
        };
        file_reads::within(allowed, read).await.unwrap_or_else(hangs)
    }

    /// Returns the configuration for a library that does its own handshake.
    pub fn config(&self) -> ClientConfig {
        ClientConfig::clone(&self.config)
    }

    /// Explains the error of a handshake with `host`, however deep the library has wrapped it.
    pub fn explain(&self, host: &str, error: &(dyn Error + 'static)) -> TlsError {
        self.handshake(host, &FirstBytes::default()).explain(error)
    }

    fn handshake<'a>(&'a self, host: &'a str, first: &FirstBytes) -> Handshake<'a> {
        Handshake {
            host,
            options: &self.options,
            roots: &self.roots,
            server: self.seen.server(),
            has_identity: self.has_identity,
            first: first.so_far(),
        }
    }
}

/// Does the handshake with `host` over `stream`, within the time `allowed`. Reads the files each time, so
/// that the next connection uses a rotated certificate.
///
/// A server may refuse the client's certificate only after the handshake. So the first error of the returned
/// stream also holds a [`TlsError`].
///
/// # Errors
/// A file can't be used, or the handshake fails for any reason.
pub async fn connect<S>(
    stream: S,
    host: &str,
    options: &TlsOptions,
    allowed: Duration,
) -> Result<TlsStream<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = TlsClient::read(options, allowed).await?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        let address = &options.address;
        let what = format!("`{host}` is no host name that a certificate could be checked against");
        TlsError::new(Cause::File, format!("{what}: change {address}"))
    })?;
    let first = FirstBytes::default();
    let stream = Remembering::new(stream, &first);
    let handshake = TlsConnector::from(Arc::clone(&client.config)).connect(name, stream);
    match timeout(allowed, handshake).await {
        Ok(Ok(stream)) => Ok(TlsStream::new(stream, client, host)),
        Ok(Err(error)) => Err(client.handshake(host, &first).explain(&error)),
        Err(_) => Err(client.handshake(host, &first).late(allowed)),
    }
}
