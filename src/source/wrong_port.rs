//! Finds out what really listens at an address where no session succeeds: from the first bytes received, or
//! from the answers to probes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::config::{Endpoint, Protocol, SourceSettings};
use super::error::SourceError;
use super::network::Network;
use crate::protocol_guess::{ASK_KAFKA, ASK_STOMP, FirstBytes, LISTEN, WireProtocol, guess};
use crate::tls::Cause;

/// The longest wait for the answer to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the likely cause of `error` at `endpoint`, where no session has ever succeeded. `first` holds the
/// first bytes received from there. If nothing was received, this sends probes.
pub(super) async fn true_cause(
    error: SourceError,
    endpoint: &Endpoint,
    first: &FirstBytes,
    settings: &SourceSettings,
    network: &dyn Network,
) -> SourceError {
    let (found, inside_tls) = match &error {
        SourceError::Tls { error: tls_error, .. } => match tls_error.cause() {
            Cause::Plaintext(wire) => (wire, false),
            Cause::Cut | Cause::Late => (ask(endpoint, false, settings, network).await, false),
            _ => return error,
        },
        SourceError::Closed(_) | SourceError::Timeout { .. } | SourceError::Silent(_) if first.is_empty() => {
            (ask(endpoint, endpoint.tls, settings, network).await, endpoint.tls)
        }
        // A broker that asks for a client certificate may also close for another reason.
        SourceError::TlsRefused(error) if error.cause() == Cause::Cut => {
            (ask(endpoint, endpoint.tls, settings, network).await, endpoint.tls)
        }
        SourceError::Closed(_)
        | SourceError::Timeout { .. }
        | SourceError::Silent(_)
        | SourceError::Protocol { .. } => (first.guess(), endpoint.tls),
        _ => return error,
    };
    let is_right = found == Some(wire_of(endpoint.protocol)) && inside_tls == endpoint.tls;
    let is_of_tls = matches!(error, SourceError::Tls { .. } | SourceError::TlsRefused(_));
    let speaks_tls = found == Some(WireProtocol::Tls) && endpoint.tls;
    match found {
        Some(_) if is_right || speaks_tls => error,
        Some(wire) => SourceError::WrongPort(advice(endpoint, wire, inside_tls, settings.address_option())),
        None if first.is_empty() && !is_of_tls => SourceError::Unanswered {
            error: Box::new(error),
            address: address(endpoint),
            expected: format!(
                "the broker's {} port, as {} says",
                wire_of(endpoint.protocol),
                settings.address_option()
            ),
        },
        None => error,
    }
}

fn wire_of(protocol: Protocol) -> WireProtocol {
    match protocol {
        Protocol::Stomp => WireProtocol::Stomp,
        Protocol::OpenWire => WireProtocol::OpenWire,
    }
}

fn address(endpoint: &Endpoint) -> String {
    let url = endpoint.to_string();
    url.split_once("://").map_or(url.as_str(), |(_, address)| address).to_owned()
}

/// Says what listens there, and what to write instead.
fn advice(endpoint: &Endpoint, found: WireProtocol, inside_tls: bool, option: &str) -> String {
    let address = address(endpoint);
    let without_tls = if endpoint.tls && !inside_tls { " without TLS" } else { "" };
    let same_with = |protocol, tls| Endpoint { protocol, tls, ..endpoint.clone() };
    const PORTS: &str = "usually 61613 for STOMP, 61614 with TLS, 61616 for OpenWire, 61617 with TLS";
    match found {
        WireProtocol::Tls => {
            format!("{address} speaks TLS: write {} in {option}", same_with(endpoint.protocol, true))
        }
        WireProtocol::Stomp => {
            let url = same_with(Protocol::Stomp, inside_tls);
            format!("{address} speaks STOMP{without_tls}: write {url} in {option}")
        }
        WireProtocol::OpenWire => {
            let url = same_with(Protocol::OpenWire, inside_tls);
            format!("{address} speaks OpenWire{without_tls}: write {url} in {option}")
        }
        WireProtocol::Nats => {
            format!("{address} is a NATS server, not ActiveMQ: write the broker's address in {option}")
        }
        WireProtocol::Kafka => {
            format!("{address} is a Kafka broker, not ActiveMQ: write the broker's address in {option}")
        }
        WireProtocol::Http => format!(
            "{address} is an HTTP server; is it the broker's web console? Write the broker's port in {option}: {PORTS}"
        ),
        other => format!("{address} speaks {other}: write the broker's port in {option}: {PORTS}"),
    }
}

/// Sends the probes in turn and returns the protocol of the first answer.
async fn ask(
    endpoint: &Endpoint,
    tls: bool,
    settings: &SourceSettings,
    network: &dyn Network,
) -> Option<WireProtocol> {
    let there = Endpoint { tls, ..endpoint.clone() };
    // Listening is last: a server that waits for a question makes it take its whole time.
    for question in [ASK_STOMP, &ASK_KAFKA, LISTEN] {
        let found = answer(&there, question, settings, network).await;
        if found.is_some() {
            return found;
        }
    }
    None
}

async fn answer(
    endpoint: &Endpoint,
    question: &[u8],
    settings: &SourceSettings,
    network: &dyn Network,
) -> Option<WireProtocol> {
    let first = FirstBytes::default();
    let mut stream = network.connect(endpoint, settings, &first).await.ok()?;
    let asking = async {
        stream.write_all(question).await?;
        stream.flush().await?;
        let mut buffer = [0; 64];
        while guess(&first.so_far()).is_none() && stream.read(&mut buffer).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The result of the probe does not matter: the bytes received decide.
    let _ended = timeout(PROBE_TIMEOUT.min(settings.connect_timeout), asking).await;
    first.guess()
}

#[cfg(test)]
mod tests {
    use super::super::network::Tcp;
    use super::super::testing::settings;
    use super::*;
    use crate::protocol_guess::testing::openwire_port;

    #[tokio::test]
    async fn an_openwire_port_that_closed_without_its_greeting_is_known() {
        let address = openwire_port().await;
        let (host, port) = address.split_once(':').unwrap();
        let (host, port) = (host.to_owned(), port.parse().unwrap());
        let endpoint = Endpoint { host, port, protocol: Protocol::Stomp, tls: false };
        let closed = SourceError::Closed("the broker ended it".to_owned());
        let cause = true_cause(closed, &endpoint, &FirstBytes::default(), &settings(), &Tcp).await;
        let expected = format!("{address} speaks OpenWire: write tcp://{address} in ");
        assert!(cause.to_string().starts_with(&expected), "{cause}");
    }
}
