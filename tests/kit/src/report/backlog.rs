//! Fills a queue at a real broker before anything consumes it, and measures how fast a bridge empties it.

use std::time::{Duration, Instant};

use crate::SOON;
use crate::bridge::{Bridge, Setup};
use crate::broker::Broker;
use crate::consumer::{Acks, Consumer};
use crate::events::Events;
use crate::publisher::Publisher;

pub const PATIENCE: Duration = Duration::from_secs(600);
/// With a delayed network, the measurement starts after one in `WARM` of the events. Before that, the window
/// is still filling.
const WARM: u64 = 5;
const LOOK: Duration = Duration::from_millis(5);

/// Publishes `events` as persistent messages and returns the queue of `destination`, which then contains all
/// of them.
pub async fn backlog(broker: &Broker, namespace: &str, destination: &str, events: Events) -> String {
    let queue = format!("{destination}.RTO.{namespace}");
    // The first SUBSCRIBE makes the queue.
    Consumer::subscribe(broker, &queue, 1, Acks::Never).await.close().await;
    Publisher::connect(broker, namespace).await.publish(events.bodies()).await.expect("publish");
    assert_eq!(broker.depth(&queue), events.count);
    queue
}

/// Returns the events per second of a bridge, measured without the first part. `acked` returns how many of
/// `events` are acknowledged.
pub async fn rate(setup: &Setup, events: u64, acked: impl Fn() -> u64) -> f64 {
    let mut bridge = setup.start();
    let (first, begun) = reached(events / WARM, &acked, &mut bridge).await;
    let (last, ended) = reached(events, &acked, &mut bridge).await;
    stop(bridge).await;
    (last - first) as f64 / (ended - begun).as_secs_f64()
}

/// Waits until `events` are acknowledged. Returns the exact number and the time.
async fn reached(events: u64, acked: &impl Fn() -> u64, bridge: &mut Bridge) -> (u64, Instant) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (now, count) = (Instant::now(), acked());
        if count >= events {
            return (count, now);
        }
        assert!(bridge.status().is_none(), "the bridge has ended\n{}", bridge.log());
        assert!(now < deadline, "{count} of {events} events after {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Stops the bridge cleanly.
pub async fn stop(mut bridge: Bridge) {
    bridge.terminate();
    assert!(bridge.ended(SOON).await.success(), "the bridge did not stop cleanly");
}
