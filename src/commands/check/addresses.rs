//! Tells which addresses of a broker's host take connections, where the host has several.

use std::net::{IpAddr, SocketAddr};

use crate::display::one_line;
use crate::finding::{Finding, codes};
use crate::source::check::Reached;
use crate::source::config::Endpoint;

/// Returns what is known about the addresses of a broker that works; `None` if it has only one.
pub(super) fn finding(endpoint: &Endpoint, addresses: &[(SocketAddr, Reached)]) -> Option<Finding> {
    if addresses.len() < 2 {
        return None;
    }
    let texts: Vec<String> = addresses
        .iter()
        .map(|(address, reached)| match reached {
            Reached::Connected => format!("{} takes connections", address.ip()),
            Reached::Failed(why) => format!("{} does not ({})", address.ip(), one_line(why)),
            Reached::Silent => format!("{} does not answer", address.ip()),
        })
        .collect();
    let (host, texts) = (&endpoint.host, texts.join(", "));
    let message = format!("{host} has {} addresses: {texts}", addresses.len());
    // A refusal costs no time: the next address is tried at once.
    if !addresses.iter().any(|(_, reached)| *reached == Reached::Silent) {
        return Some(Finding::detail(codes::SOURCE_ADDRESSES, message));
    }
    let message = format!(
        "{message}: if a silent one is tried first, no connection comes about within source.connect_timeout; name the \
         others in source.urls, or ask AtData"
    );
    Some(Finding::warning(codes::SOURCE_ADDRESS_SILENT, message))
}

/// Returns a warning if the login crosses a public network as it is.
pub(super) fn without_tls(endpoint: &Endpoint, addresses: &[(SocketAddr, Reached)]) -> Option<Finding> {
    let (public, _) = addresses.iter().find(|(address, _)| !endpoint.tls && is_public(address.ip()))?;
    let with_tls = Endpoint { tls: true, ..endpoint.clone() }.to_string();
    let scheme = with_tls.split("://").next().unwrap_or_default();
    let message = format!(
        "the password and the events cross a public network to {} unencrypted: write {scheme}:// in source.url, with the \
         broker's port for TLS",
        public.ip()
    );
    Some(Finding::warning(codes::SOURCE_WITHOUT_TLS, message))
}

/// Whether routers on the internet know the address.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            // Carriers and clouds use 100.64.0.0/10 inside (RFC 6598).
            let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            !(is_shared || address.is_private() || address.is_loopback() || address.is_link_local())
        }
        IpAddr::V6(address) => {
            !(address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::config::Protocol;

    #[test]
    fn a_login_without_tls_is_a_warning_where_strangers_can_read_it() {
        let warned = |address: &str, tls| {
            let endpoint =
                Endpoint { host: "broker".to_owned(), port: 61616, protocol: Protocol::OpenWire, tls };
            let address = (address.parse::<IpAddr>().unwrap(), 61616).into();
            without_tls(&endpoint, &[(address, Reached::Connected)])
        };
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(warned(address, false), None, "{address}");
        }
        for address in ["198.41.0.4", "100.128.0.1", "2001:500::1", "::ffff:198.41.0.4"] {
            let found = warned(address, false).unwrap_or_else(|| panic!("{address}"));
            assert!(found.is_warning && found.message.contains("write ssl:// in source.url"), "{found}");
            assert_eq!(warned(address, true), None);
        }
    }

    #[test]
    fn only_a_silent_address_is_a_warning() {
        let endpoint =
            Endpoint { host: "broker".to_owned(), port: 61613, protocol: Protocol::Stomp, tls: false };
        let of = |reached: &[Reached]| {
            let addresses: Vec<_> = (1..)
                .zip(reached)
                .map(|(n, reached)| (([192, 0, 2, n], 61613).into(), reached.clone()))
                .collect();
            finding(&endpoint, &addresses)
        };
        assert_eq!(of(&[Reached::Connected]), None, "the login has proved it");
        let refused = Reached::Failed("Connection refused".to_owned());
        let told = of(&[refused, Reached::Connected]).unwrap().to_string();
        let expected =
            "broker has 2 addresses: 192.0.2.1 does not (Connection refused), 192.0.2.2 takes connections";
        assert_eq!(told, expected);
        let told = of(&[Reached::Connected, Reached::Silent]).unwrap();
        assert!(told.is_warning && told.message.contains("192.0.2.2 does not answer: if"), "{told}");
    }
}
