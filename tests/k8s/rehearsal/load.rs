//! Publishes events at a steady rate while the pods change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use kit::broker::Broker;
use kit::events::Events;
use kit::publisher::Publisher;

const TICK: Duration = Duration::from_millis(50);

pub struct Load {
    published: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    /// Publishes `rate` events per second, from number `first` on.
    pub async fn start(broker: &Broker, namespace: &str, rate: u64, first: u64) -> Self {
        let mut publisher = Publisher::connect(broker, namespace).await;
        let published = Arc::new(AtomicU64::new(first));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, stopped) = (Arc::clone(&published), Arc::clone(&stop));
        let each = (rate * TICK.as_millis() as u64 / 1000).max(1);
        let task = tokio::spawn(async move {
            let events = Events::good(u64::MAX);
            let mut ticks = interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                let next = count.load(Ordering::Relaxed);
                let bodies = (next..next + each).map(|number| events.body(number));
                publisher.publish(bodies).await.expect("publish");
                count.store(next + each, Ordering::Relaxed);
            }
        });
        Self { published, stop, task }
    }

    /// The number of events published so far, including those before this load.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Stops publishing. Returns the number of all events.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("a publisher");
        self.published.load(Ordering::Relaxed)
    }
}
