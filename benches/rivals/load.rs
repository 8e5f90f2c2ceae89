//! Publishes events at a fixed rate. Each carries the time of its publication.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kit::broker::Broker;
use kit::consumer::{Acks, Consumer};
use kit::stomp::{Connection, Frame, Login};
use kit::{SOON, wait_until};
use tokio::time::{MissedTickBehavior, interval};

use super::carrier::queue;

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
        let connection = Connection::login(broker.addr(), &Login::producer()).await.expect("log in");
        // The first SUBSCRIBE makes the queue.
        Consumer::subscribe(broker, &queue(namespace), 1, Acks::Never).await.close().await;
        let events = u64::from(rate) * lasts.as_secs();
        Self { connection, namespace: namespace.to_owned(), rate, events }
    }

    /// Waits until a carrier has subscribed.
    pub async fn wait_for_consumer(&self, broker: &Broker) {
        let queue = queue(&self.namespace);
        let has_consumer = || broker.queue(&queue).is_some_and(|counts| counts.consumers > 0);
        wait_until("the queue has a consumer", SOON, has_consumer).await;
    }

    /// Publishes all events.
    pub async fn publish(mut self) {
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
        self.connection.disconnect().await.expect("disconnect");
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(now.as_nanos()).expect("a clock before 2554")
}

/// Returns how long ago the event was published. `stored` contains the body of the event.
pub fn age(stored: &[u8]) -> Duration {
    let read = now();
    let stored = std::str::from_utf8(stored).expect("text");
    let (_, sent) = stored.split_once("\"sent\":").expect("the time of its publication");
    let digits = sent.split(|c: char| !c.is_ascii_digit()).next();
    let sent = digits.and_then(|digits| digits.parse().ok()).expect("a number");
    Duration::from_nanos(read.saturating_sub(sent))
}

/// The latencies of a run, sorted.
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// `latencies` in the order of reading.
    pub fn new(latencies: &[Duration]) -> Self {
        let cold = (latencies.len() as f64 * COLD) as usize;
        let mut warm = latencies[cold..].to_vec();
        warm.sort();
        Self(warm)
    }

    /// The latency that this share of the events does not exceed, in milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        let latency = self.0[((self.0.len() as f64 * share) as usize).min(last)];
        latency.as_secs_f64() * 1000.0
    }
}
