//! Reads from the monitoring page of a NATS server how often it syncs the files of its streams to disk. The
//! API for clients does not tell it.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::display::one_line;

/// The page has a few kilobytes.
const LARGEST_PAGE: u64 = 1 << 20;

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
    let answer = timeout(within, get(address)).await;
    let answer = answer.map_err(|_| format!("no answer within {} s", within.as_secs()))?;
    let answer = answer.map_err(|error| error.to_string())?;
    parse(&String::from_utf8_lossy(&answer))
}

/// HTTP 1.0, so that the answer comes in one piece and ends with the connection.
async fn get(address: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /varz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LARGEST_PAGE).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &str) -> Result<SyncPolicy, String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.") || status.split(' ').nth(1) != Some("200") {
        let status: String = status.chars().take(100).collect();
        return Err(format!("the answer is {:?}, not a page of NATS", one_line(&status)));
    }
    let page: Varz =
        serde_json::from_str(body).map_err(|error| format!("the answer is not a page of NATS: {error}"))?;
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
        let body = format!(r#"{{"server_id":"N","jetstream":{jetstream}}}"#);
        parse(&format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}"))
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
            (parse("HTTP/1.1 404 Not Found\r\n\r\n"), "404"),
            (parse("HTTP/1.1 200 OK\r\n\r\n<html>"), "not a page of NATS"),
            (parse("INFO {}\u{1b}"), "not a page of NATS"),
            (parse(""), "not a page of NATS"),
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
