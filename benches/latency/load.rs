//! Publishes events at a fixed rate. Each carries the time of its publication.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kit::bridge::Setup;
use kit::broker::{Broker, Protocol};
use kit::consumer::{Acks, Consumer};
use kit::stomp::{Connection, Frame, Login};
use kit::{SOON, wait_until};
use tokio::time::{MissedTickBehavior, interval};

use super::kafka::Topic;

const DESTINATION: &str = "bench";
/// So many different keys come, one after the other.
const KEYS: u64 = 10_000;
/// The first events of a run do not count: caches and connections are cold.
const COLD: f64 = 0.1;

/// Events for one run.
pub struct Load {
    connection: Connection,
    namespace: String,
    rate: u32,
    pub events: u64,
}

impl Load {
    /// Makes the queue and logs in.
    pub async fn new(broker: &Broker, namespace: &str, rate: u32, lasts: Duration) -> Self {
        let load = Self {
            connection: Connection::login(broker.addr(), &Login::producer()).await.expect("log in"),
            namespace: namespace.to_owned(),
            rate,
            events: u64::from(rate) * lasts.as_secs(),
        };
        // The first SUBSCRIBE makes the queue.
        Consumer::subscribe(broker, &load.queue(), 1, Acks::Never).await.close().await;
        load
    }

    pub fn queue(&self) -> String {
        format!("{DESTINATION}.RTO.{}", self.namespace)
    }

    pub fn setup(&self, broker: &Broker, protocol: Protocol) -> Setup {
        Setup::new(broker, protocol, &self.namespace, DESTINATION, &self.namespace)
            .unset("SINKS__FILE__DIRECTORY")
    }

    pub async fn wait_for_consumer(&self, broker: &Broker) {
        let queue = self.queue();
        let has_consumer = || broker.queue(&queue).is_some_and(|counts| counts.consumers > 0);
        wait_until("the queue has a consumer", SOON, has_consumer).await;
    }

    /// Publishes all events, and returns the latencies that a reader of the topic sees, with the duration.
    pub async fn run(mut self, topic: &Topic) -> (Latencies, Duration) {
        let reading = topic.read(self.events);
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_secs(1) / self.rate);
        // The timer of tokio counts milliseconds: faster rates come in small bursts.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let head = Frame::new("SEND")
            .header("destination", format_args!("/topic/RTO.{}", self.namespace))
            .header("persistent", "true");
        for number in 0..self.events {
            ticks.tick().await;
            let body = format!("{{\"md5_email\":\"{:032x}\",\"sent\":{}}}", number % KEYS, now());
            self.connection.send(&head.clone().body(body)).await.expect("publish");
        }
        let latencies = tokio::task::spawn_blocking(|| reading.join().expect("read the topic"));
        let latencies = latencies.await.expect("read the topic");
        self.connection.disconnect().await.expect("disconnect");
        (Latencies::new(latencies), begun.elapsed())
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(now.as_nanos()).expect("a clock before 2554")
}

/// Returns how long ago the event with this body was published.
pub fn age(body: &[u8]) -> Duration {
    let received = now();
    let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    let sent = body["sent"].as_u64().expect("the time of its publication");
    Duration::from_nanos(received.saturating_sub(sent))
}

/// The latencies of a run, sorted.
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// `latencies` in the order of their receipt.
    fn new(latencies: Vec<Duration>) -> Self {
        let cold = (latencies.len() as f64 * COLD) as usize;
        let mut warm = latencies[cold..].to_vec();
        warm.sort();
        Self(warm)
    }

    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.0.len() - 1;
        self.0[((self.0.len() as f64 * share) as usize).min(last)]
    }
}
