//! Reads the PEM files that TLS uses. An error message names the option that names the file.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};

use super::certificate::{self, Certificate};
use super::{Cause, TlsError, TlsOptions};
use crate::display::one_line;

/// The certificates that a client trusts.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    pub(super) store: Arc<RootCertStore>,
    /// The certificates of `ca_file`. Empty for the system's certificates, which are too many to name.
    pub(super) named: Vec<Certificate>,
}

impl Roots {
    /// Reads the certificates of `ca_file`, or the system's.
    pub(super) fn read(options: &TlsOptions) -> Result<Self, TlsError> {
        match &options.ca_file {
            Some(path) => Self::of_file(path, &options.key("ca_file")),
            None => Self::of_the_system(&options.key("ca_file")),
        }
    }

    pub(super) fn of_file(path: &Path, key: &str) -> Result<Self, TlsError> {
        let certificates = certificates(path, key)?;
        let mut store = RootCertStore::empty();
        for (place, certificate) in certificates.iter().enumerate() {
            store.add(certificate.clone()).map_err(|_| {
                let what = format!("its certificate number {} is damaged", place + 1);
                unusable(key, path, &format!("{what}: take it again from whoever issued it"))
            })?;
        }
        Ok(Self { store: Arc::new(store), named: certificate::chain(&certificates) })
    }

    fn of_the_system(key: &str) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            let text = format!(
                "this system has no certificates to trust: install ca-certificates, or set {key} to a PEM file"
            );
            return Err(TlsError::new(Cause::File, text));
        }
        Ok(Self { store: Arc::new(store), named: Vec::new() })
    }
}

/// Reads a certificate with those behind it, and its key. `table` is the beginning of the options' names.
pub(super) fn identity(
    table: &str,
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let (certificate_key, key_key) = (format!("{table}.certificate_file"), format!("{table}.key_file"));
    let chain = certificates(certificate, &certificate_key)?;
    let private = private_key(key, &key_key)?;
    match CertifiedKey::from_der(chain, private, provider) {
        Ok(identity) => Ok(Arc::new(identity)),
        Err(Error::InconsistentKeys(_)) => {
            let shown = certificate.display();
            let what = format!("it is not the key of the certificate in {certificate_key} = {shown}");
            Err(unusable(&key_key, key, &what))
        }
        Err(Error::InvalidCertificate(_)) => {
            let what = "its first certificate is damaged, or of X.509 version 1: issue one of version 3";
            Err(unusable(&certificate_key, certificate, what))
        }
        Err(_) => {
            let what = "it holds no key that TLS can sign with: write an RSA (2048 bits or more), EC (P-256, P-384) or \
                        Ed25519 key";
            Err(unusable(&key_key, key, what))
        }
    }
}

fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unusable(key, path, &what_else(path, "certificate"))),
        Err(error) => Err(unreadable(key, path, "certificate", &error)),
    }
}

fn private_key(path: &Path, key: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(key, path, "private key", &error))
}

fn unreadable(key: &str, path: &Path, wanted: &str, error: &pem::Error) -> TlsError {
    match error {
        pem::Error::Io(error) => {
            let text = format!("can't read {key} = {}: {error}", path.display());
            TlsError::new(Cause::File, text)
        }
        pem::Error::NoItemsFound => unusable(key, path, &what_else(path, wanted)),
        _ if wanted == "private key"
            && labels_and_headers(path).iter().any(|line| line.contains("ENCRYPTED")) =>
        {
            unusable(key, path, ENCRYPTED)
        }
        _ => unusable(key, path, &format!("the PEM of its {wanted} is damaged")),
    }
}

fn unusable(key: &str, path: &Path, what: &str) -> TlsError {
    TlsError::new(Cause::File, format!("can't use {key} = {}: {what}", path.display()))
}

const ENCRYPTED: &str =
    "the private key is encrypted: write it without a password (`openssl pkey -in KEY -out NEW`)";

/// The lines of a PEM file that are no base64: `-----BEGIN …-----`, and headers such as `Proc-Type: 4,ENCRYPTED`.
fn labels_and_headers(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::trim).filter(|line| line.contains(['-', ':'])).map(str::to_owned).collect()
}

/// Says what a file holds instead of what is `wanted`, and what to do.
fn what_else(path: &Path, wanted: &str) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let lines = labels_and_headers(path);
    let labels = lines.iter().filter_map(|line| line.strip_prefix("-----BEGIN "));
    let labels: Vec<&str> = labels.filter_map(|label| label.strip_suffix("-----")).collect();
    if wanted == "private key" && labels.iter().any(|label| label.contains("ENCRYPTED PRIVATE KEY")) {
        return ENCRYPTED.to_owned();
    }
    let found = match labels.first() {
        Some(label) => format!("it holds {}", one_line(&label.to_lowercase())),
        None if bytes.trim_ascii().is_empty() => "it is empty".to_owned(),
        // A DER file begins with a SEQUENCE. PKCS #12 does too.
        None if bytes.starts_with(&[0x30]) => "it is in DER or PKCS #12, not in PEM".to_owned(),
        None if bytes.starts_with(&[0xFE, 0xED, 0xFE, 0xED]) => "it is a Java key store".to_owned(),
        None => "it is no PEM file".to_owned(),
    };
    format!("{found}, where a {wanted} in PEM (-----BEGIN {}-----) is wanted", wanted.to_uppercase())
}
