//! Parses the URLs of a broker: the scheme gives the protocol and whether it runs inside TLS.

use std::net::Ipv6Addr;

use crate::source::config::{Endpoint, Protocol};

const FORMS: &str = "stomp://host:port, stomp+tls://host:port, tcp://host:port or ssl://host:port";

/// Scheme names of other programs, and the names to write here instead.
const OTHER_NAMES: [(&str, &[&str]); 4] = [
    ("stomp+tls", &["stomps", "stomp+ssl", "stomp-tls", "stomp+nio+ssl", "ssl+stomp"]),
    ("stomp", &["stomp+nio", "stomp+tcp", "tcp+stomp"]),
    ("ssl", &["tls", "tcps", "tcp+ssl", "tcp+tls", "nio+ssl", "auto+ssl", "auto+nio+ssl", "openwire+ssl"]),
    ("tcp", &["nio", "auto", "auto+nio", "openwire"]),
];

/// Protocols that the bridge does not support.
const UNSPOKEN: [(&str, &[&str]); 4] = [
    ("AMQP", &["amqp", "amqps", "amqp+ssl", "amqp+nio"]),
    ("MQTT", &["mqtt", "mqtts", "mqtt+ssl", "mqtt+nio"]),
    ("HTTP", &["http", "https"]),
    ("WebSocket", &["ws", "wss"]),
];

/// The words before a list of URLs in ActiveMQ's own clients.
const LISTS: [&str; 4] = ["failover", "static", "fanout", "discovery"];

/// Parses one URL. The error quotes only scheme, host and port, because the rest may hold a secret.
pub(super) fn parse(url: &str) -> Result<Endpoint, String> {
    let url = url.trim();
    if let Some(list) = LISTS.iter().find(|list| begins_list(url, list)) {
        return Err(instead_of_list(list, url));
    }
    single(url)
}

/// Parses one URL that is no list.
fn single(url: &str) -> Result<Endpoint, String> {
    if url.contains('@') {
        return Err(
            "no user name or password in a url: set source.username and source.password_file".to_owned()
        );
    }
    if url.contains("://") && url.contains(',') {
        return Err("several addresses: write them in source.urls instead, as a list".to_owned());
    }
    let Some((scheme, rest)) = url.split_once("://") else { return Err(without_scheme(url)) };
    let (protocol, tls) = spoken(&scheme.to_ascii_lowercase(), rest)?;
    let (address, more) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = address_of(address)?;
    let endpoint = Endpoint { host, port, protocol, tls };
    match more {
        "" | "/" => Ok(endpoint),
        more if more.trim_start_matches('/').starts_with(['?', '#']) => {
            Err(format!("options behind the port are not supported: write {endpoint}"))
        }
        _ => Err(format!(
            "nothing may stand behind the port, which is no part of a queue's name: write {endpoint}"
        )),
    }
}

/// Returns the protocol of a scheme, and whether it uses TLS.
fn spoken(scheme: &str, rest: &str) -> Result<(Protocol, bool), String> {
    let named = |names: &[(&'static str, &[&str])]| {
        names.iter().find(|(_, others)| others.contains(&scheme)).map(|(name, _)| *name)
    };
    match scheme {
        "stomp" => Ok((Protocol::Stomp, false)),
        "stomp+tls" => Ok((Protocol::Stomp, true)),
        "tcp" => Ok((Protocol::OpenWire, false)),
        "ssl" => Ok((Protocol::OpenWire, true)),
        _ => Err(match (named(&OTHER_NAMES), named(&UNSPOKEN)) {
            (Some(here), _) => format!("`{scheme}://` is not supported: write {here}://{}", shown(rest)),
            (None, Some(protocol)) => format!(
                "the bridge does not speak {protocol}: take the broker's port for STOMP or OpenWire, and write {FORMS}"
            ),
            (None, None) => format!("this scheme is not supported: write {FORMS}"),
        }),
    }
}

/// Splits an address into host and port.
fn address_of(address: &str) -> Result<(String, u16), String> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !address.ends_with(']') => (host, port),
        _ => {
            return Err(format!("the port is missing (AtData tells it with the host name): write {FORMS}"));
        }
    };
    let port = port.parse().ok().filter(|&port| port != 0 && !address.contains('+'));
    let port = port.ok_or("the port is not a number from 1 to 65535")?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
        None if is_host(host) => host,
        _ => return Err(format!("the host is neither a name nor an address: write {FORMS}")),
    };
    Ok((host.to_owned(), port))
}

/// Returns the address at the beginning of `rest`, or a placeholder word if there is none.
fn shown(rest: &str) -> String {
    let address = rest.split(['/', '?', '#', ',', ')']).next().unwrap_or_default();
    address_of(address).map_or_else(|_| "host:port".to_owned(), |_| address.to_owned())
}

/// Explains a bare address. Its port tells which protocol is probably served there.
fn without_scheme(url: &str) -> String {
    let url = url.trim_start_matches('/');
    let Ok((_, port)) = address_of(url) else { return format!("not a url of a broker: write {FORMS}") };
    let forms = match port {
        61613 => format!("stomp://{url}"),
        61614 | 61612 => format!("stomp+tls://{url}"),
        61616 => format!("tcp://{url}"),
        61617 => format!("ssl://{url}"),
        _ => format!("stomp://{url} or stomp+tls://{url}, for OpenWire tcp://{url} or ssl://{url}"),
    };
    format!("not a url of a broker: write {forms}")
}

fn begins_list(url: &str, list: &str) -> bool {
    let rest = url.get(..list.len()).filter(|start| start.eq_ignore_ascii_case(list));
    rest.is_some() && url.get(list.len()..).is_some_and(|rest| rest.starts_with(':'))
}

/// Rewrites `failover:(tcp://a:61616,ssl://b:61617)?randomize=false` as the list that the user must write.
fn instead_of_list(list: &str, url: &str) -> String {
    let inner =
        url.split_once('(').map_or_else(|| url.get(list.len() + 1..).unwrap_or(""), |(_, inner)| inner);
    let inner = inner.split_once(')').map_or(inner, |(inner, _)| inner);
    // ActiveMQ's own documents write options behind each port.
    let without_options = |url: &str| url.trim().split('?').next().map(str::to_owned).unwrap_or_default();
    let one = |url: &str| single(&without_options(url)).map(|endpoint| format!("\"{endpoint}\""));
    let urls: Result<Vec<_>, _> = inner.trim_start_matches(['/', ' ']).split(',').map(one).collect();
    let form = urls.map_or_else(
        |_| "[\"tcp://first:port\", \"tcp://second:port\"]".to_owned(),
        |urls| format!("[{}]", urls.join(", ")),
    );
    format!("`{list}:` is not needed, since addresses are tried in turn: write source.urls = {form}")
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(parse("STOMP+TLS://Broker:1").unwrap().to_string(), "stomp+tls://Broker:1");
    }

    #[test]
    fn everything_else_says_what_to_write() {
        for (url, part) in [
            ("", "not a url"),
            ("events.example.com", "not a url"),
            ("events.example.com:61613", "write stomp://events.example.com:61613"),
            ("//broker:61617", "write ssl://broker:61617"),
            ("broker:1", "write stomp://broker:1 or stomp+tls://broker:1, for OpenWire tcp://broker:1"),
            ("stomp:broker:1", "not a url"),
            ("stomps://host:1", "write stomp+tls://host:1"),
            ("stomp+ssl://host:1", "write stomp+tls://host:1"),
            ("tcp+ssl://host:1/?x=y", "write ssl://host:1"),
            ("nio://host:1", "write tcp://host:1"),
            ("stomps://host", "write stomp+tls://host:port"),
            ("amqps://host:5671", "does not speak AMQP"),
            ("mqtt://host:1883", "does not speak MQTT"),
            ("http://host:8161/admin", "does not speak HTTP: take the broker's port for STOMP"),
            ("ftp://host:1", "not supported"),
            ("tcp://host:61616?wireFormat.cacheEnabled=false", "not supported: write tcp://host:61616"),
            ("stomp://host", "port is missing"),
            ("stomp://[::1]", "port is missing"),
            ("stomp://host:0", "not a number"),
            ("stomp://host:+1", "not a number"),
            ("stomp://host:65536", "not a number"),
            ("stomp://host:1/queue", "behind the port"),
            ("stomp://:1", "neither"),
            ("stomp://a b:1", "neither"),
            ("stomp://::1:1", "neither"),
            ("stomp://a:1,stomp://b:1", "write them in source.urls"),
            ("failover:(tcp://a:1)", "write source.urls = [\"tcp://a:1\"]"),
            (
                "failover:(tcp://a:1?x=1,SSL://b:2/)?randomize=false&timeout=3000",
                "write source.urls = [\"tcp://a:1\", \"ssl://b:2\"]",
            ),
            ("failover://(stomp://a:1)", "write source.urls = [\"stomp://a:1\"]"),
            ("failover://tcp://a:1", "write source.urls = [\"tcp://a:1\"]"),
            ("failover:(tcp://a)", "write source.urls = [\"tcp://first:port\", "),
            ("failover:failover:failover:(tcp://a:1)", "write source.urls = [\"tcp://a:1\"]"),
            ("Failover:()", "write source.urls = [\"tcp://first:port\", "),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for url in
            ["stomp://1234:hush@host:1", "tcp://1234:hush@host:1", "stomp://hush@host:1", "hush@host:1"]
        {
            let error = parse(url).unwrap_err();
            assert!(error.contains("password_file") && !error.contains("hush"), "{error}");
        }
        for url in ["tcp://host:1?hush", "failover:(tcp://hush@a:1)?hush", "stomps://host:1/hush"] {
            assert!(!parse(url).unwrap_err().contains("hush"), "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_endpoint_or_an_error(
            text in "(failover:\\(|stomps?://|tcp://|[a-z@:/?,(\\[\\]) é]|\\PC){0,12}",
        ) {
            if let Ok(endpoint) = parse(&text) {
                prop_assert_eq!(parse(&endpoint.to_string()), Ok(endpoint));
            }
        }
    }
}
