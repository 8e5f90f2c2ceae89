//! The urls of a broker: the scheme tells the protocol, and whether it is spoken inside TLS.

use std::net::Ipv6Addr;

use crate::source::config::{Endpoint, Protocol};

/// Reads one url. The error never quotes it: it may hold a secret.
pub(super) fn parse(url: &str) -> Result<Endpoint, String> {
    const FORMS: &str = "stomp://host:port, stomp+tls://host:port, tcp://host:port or ssl://host:port";
    let Some((scheme, rest)) = url.trim().split_once("://") else {
        return Err(format!("not a url of a broker: write {FORMS}"));
    };
    if rest.contains('@') {
        return Err(
            "no user name or password in a url: set source.username and source.password_file".to_owned()
        );
    }
    let (protocol, tls) = match scheme {
        "stomp" => (Protocol::Stomp, false),
        "stomp+tls" => (Protocol::Stomp, true),
        "tcp" => (Protocol::OpenWire, false),
        "ssl" => (Protocol::OpenWire, true),
        _ => return Err(format!("this scheme is not supported: write {FORMS}")),
    };
    let address = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !address.ends_with(']') => (host, port),
        _ => return Err(format!("the port is missing (AtData tells it with the host name): write {FORMS}")),
    };
    let port = port.parse().ok().filter(|&port| port != 0 && !address.contains('+'));
    let port = port.ok_or("the port is not a number from 1 to 65535")?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
        None if is_host(host) => host,
        _ => return Err(format!("the host is neither a name nor an address: write {FORMS}")),
    };
    Ok(Endpoint { host: host.to_owned(), port, protocol, tls })
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_and_every_kind_of_host() {
        for (url, host, port, protocol, tls) in [
            ("stomp://events.example.com:61613", "events.example.com", 61613, Protocol::Stomp, false),
            ("stomp+tls://127.0.0.1:1/", "127.0.0.1", 1, Protocol::Stomp, true),
            (" tcp://[::1]:65535 ", "::1", 65535, Protocol::OpenWire, false),
            ("ssl://broker:61617", "broker", 61617, Protocol::OpenWire, true),
        ] {
            let endpoint = parse(url).unwrap();
            assert_eq!(endpoint, Endpoint { host: host.to_owned(), port, protocol, tls });
            assert_eq!(endpoint.to_string(), url.trim().trim_end_matches('/'));
        }
    }

    #[test]
    fn everything_else_says_what_to_write() {
        for (url, part) in [
            ("", "not a url"),
            ("events.example.com:61613", "not a url"),
            ("stomp+ssl://host:1", "not supported"),
            ("nio://host:1", "tcp://host:port or ssl://host:port"),
            ("tcp://host:61616?wireFormat.cacheEnabled=false", "not a number"),
            ("failover:(tcp://a:1)", "not supported"),
            ("stomp://host", "port is missing"),
            ("stomp://[::1]", "port is missing"),
            ("stomp://host:0", "not a number"),
            ("stomp://host:+1", "not a number"),
            ("stomp://host:65536", "not a number"),
            ("stomp://host:1/queue", "not a number"),
            ("stomp://:1", "neither"),
            ("stomp://a b:1", "neither"),
            ("stomp://::1:1", "neither"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for url in ["stomp://1234:hush@host:1", "tcp://1234:hush@host:1", "stomp://hush@host:1"] {
            let error = parse(url).unwrap_err();
            assert!(error.contains("password_file") && !error.contains("hush"), "{error}");
        }
    }
}
