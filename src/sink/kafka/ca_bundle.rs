//! Finds where this system keeps the certificates that it trusts.

use std::path::PathBuf;

/// The message for a system without such certificates.
pub(super) const NONE: &str =
    "this system has no trusted root certificates: install ca-certificates or name a file with tls.ca_file";

/// Returns the file, or else the directory: from `SSL_CERT_FILE` and `SSL_CERT_DIR`, or from where
/// distributions keep it.
pub(super) fn of_the_system() -> Option<PathBuf> {
    let found = openssl_probe::probe();
    found.cert_file.or_else(|| found.cert_dir.into_iter().next())
}
