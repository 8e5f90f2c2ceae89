//! Finds the error of rustls, or of the connection, inside the errors of a client library.

use std::error::Error;
use std::io;

use rustls::Error as RustlsError;

/// What the innermost known error of a chain is.
pub(super) enum RootCause<'e> {
    Tls(&'e RustlsError),
    Io(io::ErrorKind),
    Other,
}

/// Searches the errors that libraries have wrapped. `io::Error::source` skips the error that it holds
/// directly, so `get_ref` is needed.
pub(super) fn in_chain<'e>(error: &'e (dyn Error + 'static)) -> RootCause<'e> {
    let mut found = RootCause::Other;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<RustlsError>() {
            return RootCause::Tls(error);
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(error) => {
                if matches!(found, RootCause::Other) {
                    found = RootCause::Io(error.kind());
                }
                error.get_ref().map(|inner| inner as &(dyn Error + 'static))
            }
            None => error.source(),
        };
    }
    found
}
