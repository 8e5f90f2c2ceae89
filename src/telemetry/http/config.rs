//! Defines and checks the table `[admin]`.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostics;
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
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9464".to_owned(), max_age: Period::secs(60) }
    }
}

/// The checked settings of the table `[admin]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address to listen at; `None` means off.
    pub listen: Option<SocketAddr>,
    /// The age of an un-acked event at which the bridge is not ready; `None` means off.
    pub max_age: Option<Duration>,
}

/// Checks the table and adds mistakes to `diagnostics`. Returns `None` if there are any.
pub fn check(raw: &AdminConfig, diagnostics: &mut Diagnostics) -> Option<AdminSettings> {
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
    Some(AdminSettings { listen, max_age })
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
    fn an_age_of_nothing_is_off() {
        let max_age = |raw: &AdminConfig| check(raw, &mut Diagnostics::default()).unwrap().max_age;
        assert_eq!(max_age(&AdminConfig::default()), Some(Duration::from_secs(60)));
        assert_eq!(max_age(&AdminConfig { max_age: Period::secs(0), ..Default::default() }), None);
    }
}
