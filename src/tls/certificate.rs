//! Reads from a certificate what error messages show: its owner, its issuer, its hosts and its period of
//! validity.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate as Parsed;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::name::Name;

use crate::display::one_line;

/// The most hosts that are named; the others are only counted.
const MOST_HOSTS: usize = 5;

/// One certificate, as a server presented it or as it was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// The whole certificate, to compare it with others.
    pub(super) der: Vec<u8>,
    /// The names of owner and issuer in the form in which they are compared.
    pub(super) subject_der: Vec<u8>,
    pub(super) issuer_der: Vec<u8>,
    /// The names of owner and issuer in the form in which they are shown.
    pub(super) subject: String,
    pub(super) issuer: String,
    /// Host names and addresses that the certificate is valid for.
    pub(super) hosts: Vec<String>,
    /// The first and the last second of its validity, in seconds since 1970.
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    /// Whether it may issue other certificates.
    pub(super) is_authority: bool,
}

impl Certificate {
    /// `None` if the bytes are not a certificate.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let parsed = Parsed::from_der(der).ok()?.tbs_certificate;
        let hosts = hosts(parsed.get::<SubjectAltName>().ok().flatten().map(|(_, names)| names));
        let constraints = parsed.get::<BasicConstraints>().ok().flatten();
        Some(Self {
            der: der.to_vec(),
            subject_der: parsed.subject.to_der().ok()?,
            issuer_der: parsed.issuer.to_der().ok()?,
            subject: shown(&parsed.subject).unwrap_or_else(|| first_of(&hosts)),
            issuer: shown(&parsed.issuer).unwrap_or_else(|| "an issuer without a name".to_owned()),
            hosts,
            not_before: parsed.validity.not_before.to_unix_duration().as_secs(),
            not_after: parsed.validity.not_after.to_unix_duration().as_secs(),
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
        })
    }

    pub(super) fn is_self_signed(&self) -> bool {
        self.subject_der == self.issuer_der
    }

    /// The hosts that the certificate is valid for, as a text.
    pub(super) fn hosts_in_words(&self) -> String {
        let named = self.hosts.iter().take(MOST_HOSTS).cloned().collect::<Vec<_>>().join(", ");
        match self.hosts.len() {
            0 => "no host at all (it has no subjectAltName)".to_owned(),
            count if count > MOST_HOSTS => format!("{named} and {} more", count - MOST_HOSTS),
            _ => named,
        }
    }
}

/// Reads certificates. One that can't be read is left out.
pub(super) fn chain<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Vec<Certificate> {
    chain.into_iter().filter_map(|der| Certificate::read(der)).collect()
}

/// Returns a distinguished name as it is shown, such as `CN=broker,O=Acme`.
pub(super) fn name_in_words(der: &[u8]) -> Option<String> {
    shown(&Name::from_der(der).ok()?)
}

fn shown(name: &Name) -> Option<String> {
    (!name.is_empty()).then(|| one_line(&name.to_string()).into_owned())
}

fn first_of(hosts: &[String]) -> String {
    hosts.first().cloned().unwrap_or_else(|| "an owner without a name".to_owned())
}

fn hosts(names: Option<SubjectAltName>) -> Vec<String> {
    let host = |name: GeneralName| match name {
        GeneralName::DnsName(name) => Some(one_line(name.as_str()).into_owned()),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|address| address.to_string()),
        _ => None,
    };
    names.map(|names| names.0.into_iter().filter_map(host).collect()).unwrap_or_default()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
