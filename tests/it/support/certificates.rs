//! A certificate authority of the tests' own, and certificates of a server and a client signed by it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

/// PEM files in a directory.
pub struct Certificates {
    /// The authority's certificate: what a client must trust.
    pub authority: PathBuf,
    /// The server's certificate.
    pub server: PathBuf,
    /// The server's key, PKCS #8, P-256.
    pub key: PathBuf,
    /// The certificate of a client, whose subject is `CN=customer`.
    pub client: PathBuf,
    /// The client's key, PKCS #8, P-256.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes an authority and a certificate for `names` (host names or addresses) in `directory`.
    pub fn make(directory: &Path, names: &[String]) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(authority, new_key()).expect("sign the authority");

        let key = new_key();
        let server = CertificateParams::new(names).expect("names for a certificate");
        let server = server.signed_by(&key, &authority).expect("sign the server's certificate");

        let client_key = new_key();
        let mut client = CertificateParams::default();
        client.distinguished_name = DistinguishedName::new();
        client.distinguished_name.push(DnType::CommonName, "customer");
        let client = client.signed_by(&client_key, &authority).expect("sign the client's certificate");

        Self {
            authority: write(directory, "authority.pem", &authority.pem()),
            server: write(directory, "server.pem", &server.pem()),
            key: write(directory, "server.key", &key.serialize_pem()),
            client: write(directory, "client.pem", &client.pem()),
            client_key: write(directory, "client.key", &client_key.serialize_pem()),
        }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("generate a key")
}

fn write(directory: &Path, name: &str, pem: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, pem).expect("write a PEM file");
    path
}
