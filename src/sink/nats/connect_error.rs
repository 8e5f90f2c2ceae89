//! Explains why a connection to a server failed.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use async_nats::{ConnectError, ConnectErrorKind, ServerAddr, ServerError};

use super::explain::Explainer;
use super::port_probe::{Greeting, PortProbe, ProbeAddress};
use super::settings::Auth;
use crate::display::one_line;
use crate::finding::codes;
use crate::sink::SinkError;
use crate::tls::{self, TlsError};

impl Explainer {
    /// Explains why the connection to `server` failed. Probes the address if the error does not name the
    /// cause.
    pub(super) async fn not_connected(
        &self,
        server: &str,
        error: &ConnectError,
        tls: Option<&tls::TlsClient>,
    ) -> SinkError {
        let Ok(address) = server.parse::<ServerAddr>() else {
            return SinkError::misconfigured(format!("{server} is not the address of a server"));
        };
        let at = shown(&address);
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation => return self.login_refused("authorization violation"),
            ConnectErrorKind::Authentication => return self.cannot_sign(),
            ConnectErrorKind::Dns => {
                let why = StdError::source(error).map(ToString::to_string).unwrap_or_default();
                return SinkError::unavailable(format!(
                    "can't look up {}: {}; check {} and the name service",
                    address.host(),
                    one_line(&why),
                    self.option("url")
                ));
            }
            _ => {}
        }
        if let Some(ServerError::Other(said)) = cause::<ServerError>(error) {
            let words =
                || SinkError::unavailable(format!("the NATS server at {at} says: {}", one_line(said)));
            return self.server_error(said).unwrap_or_else(words);
        }
        let of_tls = cause::<rustls::Error>(error);
        // An answer that is not TLS at all is explained by the probe below.
        let speaks_tls = of_tls.is_some_and(|error| !matches!(error, rustls::Error::InvalidMessage(_)));
        if let Some(tls) = tls.filter(|_| speaks_tls) {
            return tls_failed(&at, &tls.explain(address.host(), error));
        }
        if let Some(error) = cause::<io::Error>(error).filter(|error| is_unreachable(error.kind())) {
            return self.unreachable(&at, &error.to_string());
        }
        self.not_as_it_should(&at, &address, tls).await
    }

    fn unreachable(&self, at: &str, why: &str) -> SinkError {
        SinkError::unavailable(format!(
            "can't reach {at}: {}; see that the NATS server runs, and check {} and the network",
            one_line(why),
            self.option("url")
        ))
        .coded(codes::NATS_UNREACHABLE)
    }

    async fn not_as_it_should(
        &self,
        at: &str,
        address: &ServerAddr,
        tls: Option<&tls::TlsClient>,
    ) -> SinkError {
        let config = tls.map(|tls| Arc::new(tls.config()));
        let address = ProbeAddress { host: address.host().to_owned(), port: address.port(), tls: config };
        let url = self.option("url");
        match address.look().await {
            PortProbe::Foreign(wire) => SinkError::misconfigured(format!(
                "{at} speaks {wire}, not NATS: correct {url}; NATS servers listen on port 4222, if nothing else is set"
            ))
            .coded(codes::NATS_WRONG_PORT),
            PortProbe::Nats(greeting) => self.nats_ends(at, &greeting),
            PortProbe::Tls(behind) => self.tls_there(at, behind.as_deref()),
            PortProbe::Silent => SinkError::unavailable(format!(
                "{at} takes connections and says nothing, while a NATS server greets at once: see whether it hangs, and \
                 check {url}"
            )),
            PortProbe::Drops => SinkError::unavailable(format!(
                "{at} closes each connection at once: see whether a NATS server runs behind it, and check {url}"
            )),
            PortProbe::Away(why) => self.unreachable(at, &why),
            PortProbe::Unknown => {
                SinkError::misconfigured(format!("{at} does not speak NATS: correct {url}"))
                    .coded(codes::NATS_WRONG_PORT)
            }
        }
    }

    /// Explains why the connection failed although a NATS server listens at the address.
    fn nats_ends(&self, at: &str, greeting: &Greeting) -> SinkError {
        let tls = &self.settings.tls;
        let key = |option| self.option(option);
        if self.settings.tls_required && !greeting.offers_tls() {
            return SinkError::misconfigured(format!(
                "{at} speaks NATS without TLS: write nats:// in {} and unset {}, or switch TLS on in the server",
                key("url"),
                key("tls")
            ));
        }
        if tls.first {
            return SinkError::misconfigured(format!(
                "{at} greets before TLS begins: unset {}",
                key("tls.first")
            ));
        }
        if greeting.tls_verify && tls.certificate_file.is_none() {
            return self.wants_certificate(at);
        }
        let certificate = match greeting.tls_verify {
            true => format!(", perhaps because it does not accept {}", key("tls.certificate_file")),
            false => String::new(),
        };
        SinkError::unavailable(format!(
            "the NATS server at {at} ended the connection before the login{certificate}"
        ))
    }

    fn wants_certificate(&self, at: &str) -> SinkError {
        SinkError::misconfigured(format!(
            "TLS with {at}: the server wants a client certificate: set {} and {}",
            self.option("tls.certificate_file"),
            self.option("tls.key_file")
        ))
    }

    /// Explains why the connection failed when the address talks TLS from the first byte on.
    fn tls_there(&self, at: &str, behind: Option<&PortProbe>) -> SinkError {
        let key = |option| self.option(option);
        if let Some(PortProbe::Foreign(wire)) = behind {
            return SinkError::misconfigured(format!(
                "{at} speaks {wire} over TLS, not NATS: correct {}",
                key("url")
            ));
        }
        if self.settings.tls.first {
            return SinkError::unavailable(format!(
                "{at} speaks TLS, but does not greet behind it as a NATS server: check {}",
                key("url")
            ));
        }
        SinkError::misconfigured(format!(
            "{at} speaks TLS from the first byte on: write tls:// in {} and set {} = true if it is a NATS server, or \
             correct the address",
            key("url"),
            key("tls.first")
        ))
    }

    fn cannot_sign(&self) -> SinkError {
        let option = match &self.settings.auth {
            Auth::Nkey(seed) => seed.option("nkey", "nkey_file"),
            _ => "credentials_file",
        };
        let key = self.option(option);
        SinkError::misconfigured(format!(
            "{key} can't sign the login: it holds no seed of a user, which begins with SU"
        ))
    }
}

fn tls_failed(at: &str, error: &TlsError) -> SinkError {
    let text = format!("TLS with {at}: {error}");
    let error =
        if error.needs_operator() { SinkError::misconfigured(text) } else { SinkError::unavailable(text) };
    error.coded(codes::NATS_TLS)
}

/// Formats host and port; an IPv6 address gets brackets.
fn shown(address: &ServerAddr) -> String {
    match address.host() {
        host if host.contains(':') => format!("[{host}]:{}", address.port()),
        host => format!("{host}:{}", address.port()),
    }
}

fn is_unreachable(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(kind, ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable)
}

/// Returns the first error of this type among the causes of `error`. The inner error of an `io::Error` is not
/// among its sources, so it is checked too.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref())) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::nats::explain::testing::explainer;

    #[tokio::test]
    async fn a_server_that_is_not_reached_is_named_with_the_option_to_look_at() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = explainer("e").not_connected("nats://a", &ConnectError::from(refused), None).await;
        let shown = error.to_string();
        assert_eq!(
            shown,
            "can't reach a:4222: connection refused; see that the NATS server runs, and check sinks.nats.url and the network"
        );
    }
}
