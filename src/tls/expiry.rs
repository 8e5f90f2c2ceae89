//! Remembers when the certificates expire that each connection has shown last. It is one list for the whole process, as
//! the connections of client libraries know no part of the bridge.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::certificate::Certificate;

/// The certificates that were shown last, by the table of the TLS options and the host; the host is empty for the
/// bridge's own.
static SHOWN: Mutex<BTreeMap<(String, String), Vec<Expiry>>> = Mutex::new(BTreeMap::new());

/// The owner of a certificate, and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The owner of the certificate, safe to show, such as `CN=broker,O=Acme`.
    pub subject: String,
    /// The last second of its validity, in seconds since 1970, UTC.
    pub not_after: u64,
}

/// Remembers the certificates that `host` has shown; an empty host stands for the bridge itself.
pub(super) fn remember(table: &str, host: &str, chain: &[Certificate]) {
    let expiry = |of: &Certificate| Expiry { subject: of.subject.clone(), not_after: of.not_after };
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    shown.insert((table.to_owned(), host.to_owned()), chain.iter().map(expiry).collect());
}

/// Returns the certificates that were shown last, each with the table of the TLS options, such as `source.tls`, and the
/// host that showed it, which is empty for the bridge itself.
pub fn shown_certificates() -> Vec<(String, String, Expiry)> {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let each = |((table, host), chain): (&(String, String), &Vec<Expiry>)| {
        chain.iter().map(|expiry| (table.clone(), host.clone(), expiry.clone())).collect::<Vec<_>>()
    };
    shown.iter().flat_map(each).collect()
}
