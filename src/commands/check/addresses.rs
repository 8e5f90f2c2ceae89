//! Tells which addresses of a broker's host take connections, where the host has several.

use std::net::SocketAddr;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::config::Protocol;

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
