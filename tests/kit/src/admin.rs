//! Reads the admin pages of a bridge with a minimal HTTP client, and parses OpenMetrics strictly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::bridge::Bridge;
use super::{SOON, wait_until};

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    pub body: String,
}

/// The admin address of one bridge.
#[derive(Clone, Copy, Debug)]
pub struct Admin(pub SocketAddr);

impl Admin {
    /// Finds the address in the log of the bridge.
    pub async fn of(bridge: &Bridge) -> Self {
        wait_until("the log has the admin address", SOON, || address_in_log(bridge).is_some()).await;
        Self(address_in_log(bridge).expect("an address"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, "").await
    }

    /// Sends more headers, each with its line end.
    pub async fn get_with(&self, path: &str, headers: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        let text = self.say(request.as_bytes()).await.unwrap_or_else(|| panic!("no response to {path}"));
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    /// Opens `/events`. Fails with the status of an answer that is no stream.
    pub async fn events(&self) -> Result<ServerEvents, u16> {
        let mut stream = TcpStream::connect(self.0).await.expect("connect");
        // HTTP/1.0 has no chunks, so what comes is the text of the events.
        stream.write_all(b"GET /events HTTP/1.0\r\n\r\n").await.expect("ask for events");
        let mut events = ServerEvents(BufReader::new(stream));
        let head = events.line().await.expect("a status line");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        if status != 200 {
            return Err(status);
        }
        while events.line().await.is_some_and(|line| !line.is_empty()) {}
        Ok(events)
    }

    /// Sends `bytes` on a new connection and returns everything received until it ends; `None` if nothing was
    /// received.
    pub async fn say(&self, bytes: &[u8]) -> Option<String> {
        let talk = async {
            let mut stream = TcpStream::connect(self.0).await.ok()?;
            // The bridge may close the connection before it has read everything.
            drop(stream.write_all(bytes).await);
            let mut answer = Vec::new();
            drop(stream.read_to_end(&mut answer).await);
            (!answer.is_empty()).then(|| String::from_utf8(answer).expect("text"))
        };
        timeout(SOON, talk).await.expect("a response, or the end of the connection, in time")
    }

    /// Waits until the bridge is ready.
    pub async fn ready(&self) {
        self.until("/readyz", "it is ready", |answer| answer.status == 200).await;
    }

    /// Waits until the bridge is not ready and a line of the page contains all of `words`. The bridge must
    /// still be alive.
    pub async fn not_ready(&self, words: &[&str]) {
        let wanted = |line: &str| words.iter().all(|word| line.contains(word));
        let what = format!("/readyz contains {words:?}");
        self.until("/readyz", &what, |answer| answer.status == 503 && answer.body.lines().any(wanted)).await;
        let alive = self.get("/livez").await;
        assert_eq!((alive.status, alive.body.as_str()), (200, "alive\n"));
    }

    pub async fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics").await;
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(answer.status == 200 && answer.head.contains(kind), "{}", answer.head);
        Metrics::parse(&answer.body)
    }

    /// Waits until the metrics satisfy `wanted`.
    pub async fn metrics_until(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        let deadline = Instant::now() + SOON;
        loop {
            let metrics = self.metrics().await;
            if wanted(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "still waiting until {what}: {metrics:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Answer) -> bool) {
        let deadline = Instant::now() + SOON;
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "still waiting until {what}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A stream of server-sent events.
pub struct ServerEvents(BufReader<TcpStream>);

impl ServerEvents {
    /// Returns the name and the data of the next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<(String, String)> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => data = value.to_owned(),
                _ if line.is_empty() => return Some((name, data)),
                _ => panic!("no field of an event: {line}"),
            }
        }
    }

    /// Waits for the next event of this name, and returns its document.
    pub async fn document(&mut self, name: &str) -> serde_json::Value {
        loop {
            let (found, data) = self.next().await.expect("the stream goes on");
            if found == name {
                return serde_json::from_str(&data).expect("JSON");
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(SOON, self.0.read_line(&mut line)).await.expect("a line in time");
        matches!(read, Ok(1..)).then(|| line.trim_end().to_owned())
    }
}

fn address_in_log(bridge: &Bridge) -> Option<SocketAddr> {
    let log = bridge.log();
    // Earlier processes with the same settings have written into the same log.
    let line = log.get(bridge.began()..)?.lines().find(|line| line.contains("admin: /livez"))?;
    line.split_once("listen=")?.1.split_whitespace().next()?.parse().ok()
}

/// Samples by name and labels, as the page has them: `name{label="value"}`.
#[derive(Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Parses a page. Panics if it is not OpenMetrics 1.0 text.
    pub fn parse(page: &str) -> Self {
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut family = (String::new(), String::new());
        let body = page.strip_suffix("# EOF\n").expect("`# EOF` at the end of the page");
        for line in body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a name and a text");
                assert!(families.insert(name.to_owned()) && !text.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a type");
                assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
                assert!(families.contains(name), "{line} before its help");
                family = (name.to_owned(), kind.to_owned());
            } else {
                let (name, value) = sample(line, &family);
                assert!(samples.insert(name, value).is_none(), "twice: {line}");
            }
        }
        let metrics = Self(samples);
        metrics.check_histograms();
        metrics
    }

    /// The value of one sample, if it exists.
    pub fn find(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).copied()
    }

    /// The value of one sample; panics if it does not exist.
    pub fn value(&self, sample: &str) -> f64 {
        self.find(sample).unwrap_or_else(|| panic!("no {sample} in {:#?}", self.0.keys()))
    }

    /// The sum of all samples of one name.
    pub fn sum(&self, name: &str) -> f64 {
        let mine = |sample: &str| sample.split('{').next() == Some(name);
        self.0.iter().filter(|(sample, _)| mine(sample)).map(|(_, value)| value).sum()
    }

    /// The metric names, without labels.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.keys().filter_map(|sample| sample.split('{').next()).collect()
    }

    /// Checks that buckets are cumulative and that the last bucket has all observations.
    fn check_histograms(&self) {
        let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (sample, value) in self.0.iter().filter(|(sample, _)| sample.contains("_bucket{")) {
            let (name, labels) = sample.split_once("_bucket{le=\"").expect("the bound before other labels");
            let (bound, labels) = labels.split_once("\",").expect("other labels");
            let bound = bound.parse().expect("a number");
            series.entry(format!("{name}_count{{{labels}")).or_default().push((bound, *value));
        }
        for (count, mut buckets) in series {
            buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            assert!(buckets.is_sorted_by_key(|(_, value)| *value), "{count}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, self.value(&count))));
        }
    }
}

/// Parses a sample line of the current metric family.
fn sample(line: &str, (family, kind): &(String, String)) -> (String, f64) {
    let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
    let (name, labels) = match sample.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').expect("a closing brace")),
        None => (sample, ""),
    };
    let ending = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} under {family}"));
    let endings: &[&str] = match kind.as_str() {
        "counter" => &["_total"],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_count", "_sum"],
        _ => &[""],
    };
    assert!(endings.contains(&ending), "{line} is not a {kind}");
    for label in labels.split("\",").filter(|label| !label.is_empty()) {
        let (key, value) = label.split_once("=\"").expect("a label and its value");
        assert!(key.chars().all(|c| c.is_ascii_lowercase()), "{line}");
        assert!(!value.trim_end_matches('"').contains(['"', '\\', '\n']), "{line}");
    }
    (sample.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line} has no number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_page_is_refused() {
        let good = "# HELP a A.\n# TYPE a counter\na_total{b=\"c\"} 1\n# EOF\n";
        assert_eq!(Metrics::parse(good).value("a_total{b=\"c\"}"), 1.0);
        for (from, to) in [
            ("# EOF\n", ""),
            ("_total", ""),
            ("} 1\n", "} one\n"),
            ("# TYPE a counter", "# TYPE b counter"),
            ("} 1\n", "} 1\na_total{b=\"c\"} 1\n"),
            ("c\"}", "c\""),
        ] {
            let page = good.replace(from, to);
            assert!(std::panic::catch_unwind(|| Metrics::parse(&page)).is_err(), "accepted: {page}");
        }
    }
}
