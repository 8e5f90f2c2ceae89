//! Explains a failed handshake in one line, with the option to change.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error as RustlsError};

use super::certificate::{Certificate, name_in_words};
use super::files::Roots;
use super::root_cause::{RootCause, in_chain};
use super::seen::Server;
use super::words::{date, in_words, moment, now, some, span, words};
use super::{Cause, TlsError, TlsOptions};
use crate::display::one_line;
use crate::protocol_guess::{self, WireProtocol};

/// Everything that is known of one handshake.
pub(super) struct Handshake<'a> {
    pub(super) host: &'a str,
    pub(super) options: &'a TlsOptions,
    pub(super) roots: &'a Roots,
    pub(super) server: Server,
    /// Whether the client has a certificate to show.
    pub(super) has_identity: bool,
    /// The first bytes that the server has sent.
    pub(super) first: Vec<u8>,
}

impl Handshake<'_> {
    /// Explains `error`, which a TLS or client library returned for the handshake.
    pub(super) fn explain(&self, error: &(dyn Error + 'static)) -> TlsError {
        match in_chain(error) {
            RootCause::Tls(error) => self.explain_tls(error),
            RootCause::Io(kind) => self.cut(Some(kind)),
            RootCause::Other => TlsError::new(Cause::Cut, one_line(&error.to_string())),
        }
    }

    /// Explains that the server has not answered within the time `allowed`.
    pub(super) fn late(&self, allowed: Duration) -> TlsError {
        let seconds = allowed.as_secs_f64();
        let text = match self.first.is_empty() {
            true => format!(
                "the server accepts the connection and does not answer the TLS handshake within {seconds} s; if \
                 that lasts, see whether this port speaks TLS: look at {}",
                self.options.address
            ),
            false => format!("the server did not finish the TLS handshake within {seconds} s"),
        };
        TlsError::new(Cause::Late, text)
    }

    /// Explains an error after the handshake, while no data has arrived. `None` if TLS is not the cause.
    pub(super) fn explain_late(&self, error: &(dyn Error + 'static)) -> Option<TlsError> {
        match in_chain(error) {
            RootCause::Tls(error) => Some(self.explain_tls(error)),
            RootCause::Io(kind) if self.lacks_identity() => Some(self.cut(Some(kind))),
            _ => None,
        }
    }

    /// Explains that the connection ended without a reason.
    fn cut(&self, kind: Option<io::ErrorKind>) -> TlsError {
        let how = match kind {
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => "reset",
            _ => "closed",
        };
        let text = if self.lacks_identity() {
            let (certificate, key) = (self.options.key("certificate_file"), self.options.key("key_file"));
            format!(
                "the server asked for a client certificate, got none and {how} the connection; if it needs one, \
                 set {certificate} and {key}"
            )
        } else if self.first.is_empty() && self.server.chain.is_empty() {
            format!(
                "the server {how} the connection as soon as the TLS handshake began; if that lasts, see whether \
                 this port speaks TLS: look at {}",
                self.options.address
            )
        } else {
            format!("the server {how} the connection in the middle of the TLS handshake")
        };
        TlsError::new(Cause::Cut, text)
    }

    fn lacks_identity(&self) -> bool {
        self.server.has_asked && !self.has_identity
    }

    fn explain_tls(&self, error: &RustlsError) -> TlsError {
        match error {
            RustlsError::InvalidCertificate(error) => self.certificate(error),
            RustlsError::NoCertificatesPresented => {
                TlsError::new(Cause::Certificate, "the server presents no certificate")
            }
            RustlsError::AlertReceived(alert) => self.alert(*alert),
            RustlsError::InvalidMessage(_)
                if protocol_guess::guess(&self.first) != Some(WireProtocol::Tls) =>
            {
                self.plaintext()
            }
            RustlsError::PeerIncompatible(why) => TlsError::new(
                Cause::Protocol,
                format!(
                    "TLS 1.2 or 1.3 is needed, and the server has no version or cipher of it ({})",
                    in_words(why)
                ),
            ),
            other => TlsError::new(Cause::Protocol, format!("the handshake went wrong: {}", in_words(other))),
        }
    }

    fn plaintext(&self) -> TlsError {
        let wire = protocol_guess::guess(&self.first);
        let what = match wire {
            Some(wire) => format!("it answers in plain text, and it is {wire}"),
            None => "it does not answer in TLS".to_owned(),
        };
        let text = format!("this port does not speak TLS ({what}): look at {}", self.options.address);
        TlsError::new(Cause::Plaintext(wire), text)
    }

    /// Explains the alert that the server sent before it closed the connection.
    fn alert(&self, alert: AlertDescription) -> TlsError {
        use AlertDescription as Alert;
        let may_be = matches!(alert, Alert::HandshakeFailure | Alert::DecryptError | Alert::IllegalParameter);
        // The server may ask for the certificate in a part of the handshake that the client does not see.
        if is_of_certificates(alert) || (self.server.has_asked && may_be) {
            return self.client_certificate(alert);
        }
        let said = in_words(alert);
        match alert {
            Alert::ProtocolVersion | Alert::InsufficientSecurity => TlsError::new(
                Cause::Protocol,
                "the server refuses TLS 1.2 and 1.3: it knows only older versions, which are not safe",
            ),
            Alert::UnrecognisedName => TlsError::new(
                Cause::Certificate,
                format!("the server knows no host {}: look at {}", self.host, self.options.address),
            ),
            Alert::HandshakeFailure => TlsError::new(
                Cause::Protocol,
                "the server refuses the handshake: it has no cipher of TLS 1.2 or 1.3 in common with us",
            ),
            Alert::InternalError | Alert::UserCanceled | Alert::CloseNotify => {
                TlsError::new(Cause::Cut, format!("the server ended the handshake: {said}"))
            }
            _ => TlsError::new(Cause::Protocol, format!("the server refused the handshake: {said}")),
        }
    }

    fn client_certificate(&self, alert: AlertDescription) -> TlsError {
        let (certificate, key) = (self.options.key("certificate_file"), self.options.key("key_file"));
        let takes: Vec<_> = self.server.takes.iter().filter_map(|name| name_in_words(name)).collect();
        let from = match takes.is_empty() {
            true => String::new(),
            false => format!(" (it takes certificates from {})", some(&takes)),
        };
        let text = match &self.options.certificate_file {
            Some(path) if self.has_identity => format!(
                "the server refuses the client certificate {certificate} = {} ({}){from}: give one that it trusts",
                path.display(),
                in_words(alert)
            ),
            _ => format!("the server wants a client certificate{from}: set {certificate} and {key}"),
        };
        TlsError::new(Cause::ClientCertificate, text)
    }

    fn certificate(&self, error: &CertificateError) -> TlsError {
        let text = match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => self.expired(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => self.not_yet(),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                self.name()
            }
            CertificateError::UnknownIssuer => self.unknown_issuer(),
            CertificateError::BadSignature => self.other_key(),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                let subject = self.subject();
                format!(
                    "the certificate of {subject} is not for a server: it needs one whose extendedKeyUsage has serverAuth"
                )
            }
            CertificateError::Revoked => format!("the certificate of {} is revoked", self.subject()),
            CertificateError::BadEncoding => "the server's certificate is damaged".to_owned(),
            CertificateError::Other(other) => self.other(&other.0.to_string()),
            other => {
                format!("the certificate of {} can't be verified: {}", self.subject(), in_words(other))
            }
        };
        TlsError::new(Cause::Certificate, text)
    }

    fn leaf(&self) -> Option<&Certificate> {
        self.server.chain.first()
    }

    fn subject(&self) -> &str {
        self.leaf().map_or("the server", |leaf| leaf.subject.as_str())
    }

    fn expired(&self) -> String {
        let now = now();
        let Some(old) = self.server.chain.iter().find(|certificate| certificate.not_after < now) else {
            return "a certificate of the server has expired: renew it".to_owned();
        };
        format!(
            "the certificate of {} expired on {}, {} ago: renew it at the server{}",
            old.subject,
            date(old.not_after),
            span(now - old.not_after),
            if now - old.not_after < 86400 { ", or look at the clock here" } else { "" }
        )
    }

    fn not_yet(&self) -> String {
        let now = now();
        let Some(young) = self.server.chain.iter().find(|certificate| certificate.not_before > now) else {
            return "a certificate of the server is not valid yet: look at the clocks".to_owned();
        };
        format!(
            "the certificate of {} is not valid before {}, and here it is {}, {} too early: look at the clocks",
            young.subject,
            moment(young.not_before),
            moment(now),
            span(young.not_before - now)
        )
    }

    fn name(&self) -> String {
        let (host, address) = (self.host, &self.options.address);
        let hosts = self.leaf().map_or_else(|| "another host".to_owned(), Certificate::hosts_in_words);
        format!(
            "the certificate of {} is for {hosts}, not for {host}: write such a name in {address}, or give the \
             server a certificate that has {host}",
            self.subject()
        )
    }

    /// Explains that no trusted certificate has signed any of the presented ones.
    fn unknown_issuer(&self) -> String {
        let (trusted, add) = (self.options.trusted(), self.add());
        let Some(leaf) = self.leaf() else {
            return format!(
                "the server's certificate comes from an authority that is not in {trusted}: {add}"
            );
        };
        if self.roots.named.iter().any(|root| root.der == leaf.der) {
            return format!(
                "{trusted} holds the server's own certificate; put that of its issuer, {}, there instead",
                leaf.issuer
            );
        }
        let last = self.last_presented(leaf);
        if self.roots.named.iter().any(|root| root.subject_der == last.issuer_der) {
            return self.other_key();
        }
        self.missing_authority(leaf, last)
    }

    /// Explains which certificate is missing behind `last`, to which the chain from `leaf` leads.
    fn missing_authority(&self, leaf: &Certificate, last: &Certificate) -> String {
        let (trusted, add, subject) = (self.options.trusted(), self.add(), &leaf.subject);
        if leaf.is_self_signed() {
            return format!(
                "the server shows the self-signed certificate of {subject}, which is not in {trusted}{}: {add}",
                self.holds()
            );
        }
        if last == leaf {
            return format!(
                "the certificate of {subject} was issued by {issuer}, whose certificate is neither in {trusted}{} \
                 nor sent by the server: {add}; if {issuer} is an intermediate, the server must send it too",
                self.holds(),
                issuer = leaf.issuer,
            );
        }
        if last.is_self_signed() {
            return format!(
                "the certificate of {subject} comes from the authority {}, which is not in {trusted}{}: {add}",
                last.subject,
                self.holds()
            );
        }
        format!(
            "the certificate of {subject} was issued by {}, and that of {} by {issuer}, whose certificate is \
             neither in {trusted}{} nor sent by the server: {add}",
            leaf.issuer,
            last.subject,
            self.holds(),
            issuer = last.issuer,
        )
    }

    /// Follows the chain of issuers from `leaf`, and returns the last presented certificate of it.
    fn last_presented<'c>(&'c self, leaf: &'c Certificate) -> &'c Certificate {
        let mut last = leaf;
        // At most as many steps as certificates, because two certificates may have issued each other.
        for _ in &self.server.chain {
            let issuer = self.server.chain.iter().find(|issuer| issuer.subject_der == last.issuer_der);
            match issuer {
                Some(issuer) if !last.is_self_signed() => last = issuer,
                _ => break,
            }
        }
        last
    }

    /// Explains that the issuer's name is right and its key is not.
    fn other_key(&self) -> String {
        let issuer = self.leaf().map_or("its issuer", |leaf| self.last_presented(leaf).issuer.as_str());
        format!(
            "the certificate of {} was signed by another {issuer} than that in {}: the name is the same, the key \
             is not; take the authority's certificate of today",
            self.subject(),
            self.options.trusted()
        )
    }

    /// Explains an error that rustls's verifier names only as text.
    fn other(&self, said: &str) -> String {
        let subject = self.subject();
        match said {
            "CaUsedAsEndEntity" => format!(
                "the server shows the certificate of an authority ({subject}) as its own, so anybody who has its key \
                 could issue more: give the server a certificate with basicConstraints CA:FALSE"
            ),
            "EndEntityUsedAsCa" => format!(
                "the certificate of {subject} was signed with one that is not an authority's: in what the server \
                 sends, only its own certificate may have CA:FALSE"
            ),
            "UnsupportedCertVersion" => {
                format!(
                    "the certificate of {subject} is of X.509 version 1, which has no host names: issue it anew"
                )
            }
            "PathLenConstraintViolated" | "MaximumPathDepthExceeded" => {
                format!("more certificates lead from {subject} to its authority than are allowed")
            }
            "NameConstraintViolation" => {
                format!("the authority of the certificate of {subject} may not issue one for this host")
            }
            said => format!("the certificate of {subject} can't be verified: {}", words(said)),
        }
    }

    /// Says how to trust an authority that is not trusted yet.
    fn add(&self) -> String {
        let key = self.options.key("ca_file");
        match self.options.ca_file {
            Some(_) => format!("put that authority's certificate into {key}"),
            None => format!("set {key} to a file with that authority's certificate"),
        }
    }

    /// Names the certificates that the CA file holds.
    fn holds(&self) -> String {
        let names: Vec<String> = self.roots.named.iter().map(|root| root.subject.clone()).collect();
        if names.is_empty() { String::new() } else { format!(" (which has {})", some(&names)) }
    }
}

/// Whether a server sends this alert only about the certificate of the client.
fn is_of_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
    )
}
