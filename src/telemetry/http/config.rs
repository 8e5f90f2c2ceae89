//! Defines and checks the table `[admin]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostics;
use crate::tls::TlsServerOptions;
use crate::units::Period;

/// Health, metrics and state over HTTP: `/livez`, `/readyz`, `/metrics`, `/status`, and a page for browsers at `/`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where to listen: address and port, such as `0.0.0.0:9464` for all addresses of the host (whoever
    /// reaches it may read), port 0 for one that is free; the log tells which. `off` switches it off.
    pub listen: String,
    /// Not ready, too, while an event that was received so long ago is not acknowledged; `0s` switches this
    /// off.
    pub max_age: Period,
    /// TLS on this address. A certificate switches it on.
    pub tls: AdminTlsConfig,
}

/// TLS on `admin.listen`. The files are read again while the bridge runs, so a renewed certificate needs no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminTlsConfig {
    /// The certificate of this server (PEM), with those that lead from it to its authority. With it the address
    /// speaks TLS only.
    #[schemars(example = &"/etc/atdata-bridge/admin/tls.crt")]
    pub certificate_file: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[schemars(example = &"/etc/atdata-bridge/admin/tls.key")]
    pub key_file: Option<PathBuf>,
    /// The authorities that sign client certificates (PEM). With it every page except `/livez` and `/readyz` requires
    /// such a certificate.
    #[schemars(example = &"/etc/atdata-bridge/admin/ca.crt")]
    pub client_ca_file: Option<PathBuf>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        let tls = AdminTlsConfig::default();
        Self { listen: "127.0.0.1:9464".to_owned(), max_age: Period::secs(60), tls }
    }
}

/// The checked settings of the table `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address to listen at; `None` means off.
    pub listen: Option<SocketAddr>,
    /// The age of an un-acked event at which the bridge is not ready; `None` means off.
    pub max_age: Option<Duration>,
    /// The files of the server's TLS; `None` means without TLS.
    pub tls: Option<TlsServerOptions>,
}

/// Checks the table and adds mistakes to `diagnostics`. Returns `None` if there are any.
pub fn check(raw: &AdminConfig, diagnostics: &mut Diagnostics) -> Option<AdminSettings> {
    let tls = check_tls(&raw.tls, diagnostics);
    let listen = match raw.listen.trim() {
        "" | "off" => None,
        address => match address.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                let forms = "127.0.0.1:9464, 0.0.0.0:9464 or [::]:9464, or off";
                let message =
                    format!("`{address}` is not understood: write an address and a port, such as {forms}");
                diagnostics.refuse("listen", message);
                return None;
            }
        },
    };
    let max_age = (!raw.max_age.0.is_zero()).then_some(raw.max_age.0);
    Some(AdminSettings { listen, max_age, tls })
}

fn check_tls(raw: &AdminTlsConfig, diagnostics: &mut Diagnostics) -> Option<TlsServerOptions> {
    diagnostics.readable("tls.certificate_file", raw.certificate_file.as_deref());
    diagnostics.readable("tls.key_file", raw.key_file.as_deref());
    diagnostics.readable("tls.client_ca_file", raw.client_ca_file.as_deref());
    match (&raw.certificate_file, &raw.key_file) {
        (Some(certificate), Some(key)) => Some(TlsServerOptions {
            table: "admin.tls".to_owned(),
            certificate_file: certificate.clone(),
            key_file: key.clone(),
            client_ca_file: raw.client_ca_file.clone(),
        }),
        (Some(_), None) => {
            diagnostics.missing("tls.key_file", "the certificate needs its key");
            None
        }
        (None, Some(_)) => {
            diagnostics.missing("tls.certificate_file", "the key needs its certificate");
            None
        }
        (None, None) => {
            if raw.client_ca_file.is_some() {
                diagnostics.missing(
                    "tls.certificate_file",
                    "only a server with a certificate asks clients for theirs",
                );
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Result<Option<String>, String> {
        let mut diagnostics = Diagnostics::default();
        let checked = check(&AdminConfig { listen: text.to_owned(), ..Default::default() }, &mut diagnostics);
        let listen = checked.map(|settings| settings.listen.map(|address| address.to_string()));
        listen.ok_or_else(|| {
            format!("{}: {}", diagnostics.problems()[0].key, diagnostics.problems()[0].message)
        })
    }

    #[test]
    fn an_address_or_off() {
        for address in ["127.0.0.1:9464", "0.0.0.0:0", "[::]:9464"] {
            assert_eq!(listen(address), Ok(Some(address.to_owned())));
        }
        for off in ["", " ", "off"] {
            assert_eq!(listen(off), Ok(None));
        }
        for wrong in ["9464", ":9464", "localhost:9464", "127.0.0.1", "::1:x", "0.0.0.0:70000", "false"] {
            assert!(listen(wrong).unwrap_err().starts_with("listen: `"), "{wrong}");
        }
    }

    #[test]
    fn tls_needs_a_certificate_and_its_key() {
        let file = || Some(PathBuf::from("Cargo.toml"));
        let checked = |certificate_file, key_file, client_ca_file| {
            let tls = AdminTlsConfig { certificate_file, key_file, client_ca_file };
            let mut diagnostics = Diagnostics::default();
            let checked = check(&AdminConfig { tls, ..Default::default() }, &mut diagnostics);
            let mistakes: Vec<_> = diagnostics.problems().iter().map(|problem| problem.key.clone()).collect();
            (checked.and_then(|settings| settings.tls).is_some(), mistakes.join(" "))
        };
        let missing = |key: &str| (false, key.to_owned());
        assert_eq!(checked(None, None, None), missing(""));
        assert_eq!(checked(file(), file(), file()), (true, String::new()));
        assert_eq!(checked(file(), None, None), missing("tls.key_file"));
        assert_eq!(checked(None, file(), file()), missing("tls.certificate_file"));
        assert_eq!(checked(None, None, file()), missing("tls.certificate_file"));
        assert_eq!(checked(file(), file(), Some("/no/such/file".into())).1, "tls.client_ca_file");
    }

    #[test]
    fn an_age_of_nothing_is_off() {
        let max_age = |raw: &AdminConfig| check(raw, &mut Diagnostics::default()).unwrap().max_age;
        assert_eq!(max_age(&AdminConfig::default()), Some(Duration::from_secs(60)));
        assert_eq!(max_age(&AdminConfig { max_age: Period::secs(0), ..Default::default() }), None);
    }
}
