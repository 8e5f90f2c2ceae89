//! Where this system keeps the certificates that it trusts.

use std::path::PathBuf;

/// What to do when there are none.
pub(super) const NONE: &str =
    "this system has no trusted root certificates: install ca-certificates or name a file with tls.ca_file";

/// The file, or else the directory: by `SSL_CERT_FILE` and `SSL_CERT_DIR`, or where distributions have it.
pub(super) fn of_the_system() -> Option<PathBuf> {
    let found = openssl_probe::probe();
    found.cert_file.or_else(|| found.cert_dir.into_iter().next())
}
