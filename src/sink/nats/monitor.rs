//! Reads from the monitoring page of a NATS server how often it syncs the files of its streams to disk. The
//! API for clients does not tell it.

use std::time::Duration;

use serde::Deserialize;

use crate::http_get;

/// When the server syncs what it has written and acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncPolicy {
    /// Before it acknowledges.
    Always,
    /// After this time.
    Every(Duration),
}

/// The part of the page that is read.
#[derive(Deserialize)]
struct Varz {
    #[serde(default)]
    jetstream: JetStream,
}

#[derive(Default, Deserialize)]
struct JetStream {
    config: Option<JetStreamConfig>,
}

#[derive(Deserialize)]
struct JetStreamConfig {
    /// In nanoseconds.
    sync_interval: Option<u64>,
    #[serde(default)]
    sync_always: bool,
}

/// Returns the address of a monitoring port, `host:port`. The error says what a url must be.
pub(super) fn address(url: &str) -> Result<String, &'static str> {
    const FORM: &str = "is not the url of a monitoring port: write http://host:8222";
    let address = url.strip_prefix("http://").ok_or(FORM)?;
    let address = address.strip_suffix('/').unwrap_or(address);
    let (host, port) = address.rsplit_once(':').ok_or(FORM)?;
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@?#".contains(c));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    if is_host && is_port { Ok(address.to_owned()) } else { Err(FORM) }
}

/// Asks the monitoring port at `address`. An error says why the page can't be read.
pub(super) async fn sync_policy(address: &str, within: Duration) -> Result<SyncPolicy, String> {
    parse(&http_get::get(address, "/varz", within).await?)
}

fn parse(page: &[u8]) -> Result<SyncPolicy, String> {
    let page: Varz =
        serde_json::from_slice(page).map_err(|error| format!("the answer is not a page of NATS: {error}"))?;
    let config = page.jetstream.config.ok_or("JetStream is off on this server")?;
    match config.sync_interval {
        _ if config.sync_always => Ok(SyncPolicy::Always),
        Some(nanoseconds) => Ok(SyncPolicy::Every(Duration::from_nanos(nanoseconds))),
        None => Err("this version of nats-server does not tell its sync_interval".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(jetstream: &str) -> Result<SyncPolicy, String> {
        parse(format!(r#"{{"server_id":"N","jetstream":{jetstream}}}"#).as_bytes())
    }

    #[test]
    fn the_page_tells_when_the_server_syncs() {
        let every = SyncPolicy::Every(Duration::from_secs(120));
        assert_eq!(page(r#"{"config":{"max_memory":1,"sync_interval":120000000000}}"#), Ok(every));
        let always = r#"{"config":{"sync_interval":120000000000,"sync_always":true}}"#;
        assert_eq!(page(always), Ok(SyncPolicy::Always));
    }

    #[test]
    fn other_answers_are_errors() {
        for (answer, words) in [
            (page("{}"), "JetStream is off"),
            (page(r#"{"config":{}}"#), "does not tell"),
            (parse(b"<html>"), "not a page of NATS"),
            (parse(b"\x1b"), "not a page of NATS"),
            (parse(b""), "not a page of NATS"),
        ] {
            let error = answer.unwrap_err();
            assert!(error.contains(words) && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn only_the_url_of_a_port_is_accepted() {
        assert_eq!(address("http://nats:8222"), Ok("nats:8222".to_owned()));
        assert_eq!(address("http://[::1]:8222/"), Ok("[::1]:8222".to_owned()));
        for url in [
            "nats:8222",
            "https://nats:8222",
            "http://nats",
            "http://:8222",
            "http://nats:0",
            "http://a@nats:8222",
            "http://nats:8222/varz",
        ] {
            assert!(address(url).is_err(), "{url}");
        }
    }
}
