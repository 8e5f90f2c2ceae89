//! A queue at a real broker that fills before anybody consumes it, and how fast a bridge empties it.

use std::time::{Duration, Instant};

use crate::SOON;
use crate::bridge::{Bridge, Setup};
use crate::broker::Broker;
use crate::consumer::{Acks, Consumer};
use crate::events::Events;
use crate::publisher::Publisher;

/// How long a run may take.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// Over a long way a run is measured from this part of the events on: what comes before is the way to a full
/// window.
const WARM: u64 = 5;
const LOOK: Duration = Duration::from_millis(5);

/// Publishes `events`, persistent, and returns the queue of `destination`, which holds them all.
pub async fn backlog(broker: &Broker, namespace: &str, destination: &str, events: Events) -> String {
    let queue = format!("{destination}.RTO.{namespace}");
    // It exists from its first SUBSCRIBE on.
    Consumer::subscribe(broker, &queue, 1, Acks::Never).await.close().await;
    Publisher::connect(broker, namespace).await.publish(events.bodies()).await.expect("publish");
    assert_eq!(broker.depth(&queue), events.count);
    queue
}

/// Events a second of a bridge, from start to end but for the first part: `acked` tells how many of `events` are
/// acknowledged.
pub async fn rate(setup: &Setup, events: u64, acked: impl Fn() -> u64) -> f64 {
    let mut bridge = setup.start();
    let (first, begun) = reached(events / WARM, &acked, &mut bridge).await;
    let (last, ended) = reached(events, &acked, &mut bridge).await;
    stop(bridge).await;
    (last - first) as f64 / (ended - begun).as_secs_f64()
}

/// When so many were acknowledged, and how many it were then.
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

/// Stops it cleanly.
pub async fn stop(mut bridge: Bridge) {
    bridge.terminate();
    assert!(bridge.ended(SOON).await.success(), "the bridge did not stop cleanly");
}
