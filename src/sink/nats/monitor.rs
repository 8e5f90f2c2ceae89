//! Reads from the monitoring page of a NATS server how often it syncs the files of its streams to disk. The
//! API for clients does not tell it.

use std::time::Duration;

use async_nats::ServerInfo;
use serde::Deserialize;

use crate::http_get::{self, HttpServer};

/// When the server syncs what it has written and acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncPolicy {
    /// Each message before it acknowledges it.
    Always,
    /// At this interval, so that acknowledged messages may be unsynced for so long.
    Every(Duration),
}

/// What the monitoring page of a server tells about its disk and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MonitorPage {
    pub(super) policy: SyncPolicy,
    pub(super) server_name: String,
    server_id: String,
    cluster: Option<String>,
}

impl MonitorPage {
    /// Whether the page is of this server, or of another one of its cluster.
    pub(super) fn is_of(&self, server: &ServerInfo) -> bool {
        let is_in_cluster = self.cluster.is_some() && self.cluster == server.cluster;
        is_in_cluster || self.server_id == server.server_id
    }
}

/// The part of the page that is read.
#[derive(Deserialize)]
struct Varz {
    #[serde(default)]
    server_id: String,
    #[serde(default)]
    server_name: String,
    #[serde(default)]
    cluster: Cluster,
    #[serde(default)]
    jetstream: JetStream,
}

#[derive(Default, Deserialize)]
struct Cluster {
    name: Option<String>,
}

#[derive(Default, Deserialize)]
struct JetStream {
    config: Option<JetStreamConfig>,
}

#[derive(Deserialize)]
struct JetStreamConfig {
    /// The time between two syncs, in nanoseconds.
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
pub(super) async fn read(address: &str, within: Duration) -> Result<MonitorPage, String> {
    parse(&http_get::get(HttpServer::plain(address), "/varz", within).await?)
}

fn parse(page: &[u8]) -> Result<MonitorPage, String> {
    let page: Varz =
        serde_json::from_slice(page).map_err(|error| format!("the answer is not a page of NATS: {error}"))?;
    let config = page.jetstream.config.ok_or("JetStream is off on this server")?;
    let policy = match config.sync_interval {
        _ if config.sync_always => SyncPolicy::Always,
        Some(nanoseconds) => SyncPolicy::Every(Duration::from_nanos(nanoseconds)),
        None => return Err("this version of nats-server does not tell its sync_interval".to_owned()),
    };
    let Varz { server_id, server_name, cluster, .. } = page;
    Ok(MonitorPage { policy, server_name, server_id, cluster: cluster.name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(jetstream: &str) -> Result<MonitorPage, String> {
        parse(format!(r#"{{"server_id":"N","cluster":{{"name":"C"}},"jetstream":{jetstream}}}"#).as_bytes())
    }

    fn page(jetstream: &str) -> Result<SyncPolicy, String> {
        read(jetstream).map(|page| page.policy)
    }

    #[test]
    fn another_server_is_told_by_its_id_unless_it_is_of_the_cluster() {
        let page = read(r#"{"config":{"sync_always":true}}"#).unwrap();
        let server = |id: &str, cluster: &str| ServerInfo {
            server_id: id.to_owned(),
            cluster: (!cluster.is_empty()).then(|| cluster.to_owned()),
            ..ServerInfo::default()
        };
        assert!(page.is_of(&server("N", "")) && page.is_of(&server("M", "C")));
        assert!(!page.is_of(&server("M", "")) && !page.is_of(&server("M", "D")));
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
            (parse(b"<html>").map(|page| page.policy), "not a page of NATS"),
            (parse(b"\x1b").map(|page| page.policy), "not a page of NATS"),
            (parse(b"").map(|page| page.policy), "not a page of NATS"),
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
