//! Provides the steps that scenarios share.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::bridge::Bridge;
use super::broker::{Broker, Protocol, QueueCounts};
use super::events::Events;
use super::output::bytes;
use super::publisher::Publisher;
use super::{SOON, wait_until};

/// A limit for steps with many events or a slow retry.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How many events [`publish_while`] publishes at once.
const CHUNK: u64 = 500;

/// The namespace of a test over one protocol, and its queue for the destination id `main`. The name contains
/// the protocol, because the runs over both protocols share a broker.
pub fn place(protocol: Protocol, name: &str) -> (String, String) {
    let namespace = protocol.named(name);
    let queue = format!("main.RTO.{namespace}");
    (namespace, queue)
}

/// A random generator with a [`seed`].
pub fn seeded() -> Rng {
    Rng::with_seed(seed())
}

/// A new seed each time. It is printed, so that a failure can be repeated: `SEED=… cargo test …`.
pub fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SEED={seed}");
    seed
}

/// Waits until `consumers` consumers have subscribed to `queue`, according to the broker.
pub async fn subscribed(broker: &Broker, queue: &str, consumers: u64) {
    let count = || broker.queue(queue).map_or(0, |counts| counts.consumers);
    wait_until(&format!("{queue} has {consumers} consumers"), SOON, || count() == consumers).await;
}

/// Waits until everything in `queue` is acknowledged. The broker's count is exact.
pub async fn emptied(broker: &Broker, queue: &str) {
    wait_until(&format!("{queue} is empty"), PATIENCE, || broker.depth(queue) == 0).await;
}

/// The counts of a queue, which must exist.
pub fn counts(broker: &Broker, queue: &str) -> QueueCounts {
    broker.queue(queue).unwrap_or_else(|| panic!("there is no queue {queue}"))
}

/// Publishes all events and returns when the broker has confirmed them.
pub async fn publish(broker: &Broker, namespace: &str, events: Events) {
    Publisher::connect(broker, namespace).await.publish(events.bodies()).await.expect("publish");
}

/// Publishes the events from number `first` on and returns when the broker has confirmed them.
pub async fn publish_from(broker: &Broker, namespace: &str, events: Events, first: u64) {
    let bodies = (first..events.count).map(|number| events.body(number));
    Publisher::connect(broker, namespace).await.publish(bodies).await.expect("publish");
}

/// Publishes events, from the first one on, so that at least `waiting` are in the queue until it is `over`. Returns
/// how many there are.
pub async fn publish_while(
    broker: &Broker,
    namespace: &str,
    queue: &str,
    events: Events,
    waiting: u64,
    over: &Cell<bool>,
) -> u64 {
    let mut publisher = Publisher::connect(broker, namespace).await;
    let mut published = 0;
    while !over.get() {
        if counts(broker, queue).messages < waiting {
            let bodies = (published..published + CHUNK).map(|number| events.body(number));
            publisher.publish(bodies).await.expect("publish");
            published += CHUNK;
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    published
}

/// Waits until more than `size` bytes have been written into `directory`.
pub async fn grown(directory: &Path, size: u64) {
    let what = format!("{} has grown beyond {size} bytes", directory.display());
    wait_until(&what, PATIENCE, || bytes(directory) > size).await;
}

/// Waits until the bridge has logged `words`.
pub async fn says(bridge: &mut Bridge, words: &str) {
    says_after(bridge, 0, words).await;
}

/// Waits until the bridge has logged `words` after the first `offset` bytes of its log.
pub async fn says_after(bridge: &mut Bridge, offset: usize, words: &str) {
    let what = format!("the bridge logs {words:?}");
    wait_until(&what, PATIENCE, || {
        assert_eq!(bridge.status(), None, "it has ended before it logged {words:?}");
        bridge.log().get(offset..).is_some_and(|text| text.contains(words))
    })
    .await;
}

/// Waits until the bridge has logged, after the first `offset` bytes of its log, that this part is ready or
/// ready again.
pub async fn ready_after(bridge: &mut Bridge, offset: usize, part: &str) {
    let part = format!(r#"part="{part}""#);
    let matches = |line: &str| {
        line.contains(&part) && [" ready part=", " ready again after "].iter().any(|is| line.contains(is))
    };
    wait_until(&format!("{part} is ready"), PATIENCE, || {
        assert_eq!(bridge.status(), None, "it has ended before {part} was ready");
        bridge.log().get(offset..).is_some_and(|text| text.lines().any(matches))
    })
    .await;
}

/// Waits until the bridge has logged, after the first `offset` bytes of its log, that this part retries or is
/// held. A line that the part is ready does not count.
pub async fn in_trouble(bridge: &mut Bridge, offset: usize, part: &str) {
    let part = format!(r#"part="{part}""#);
    let matches =
        |line: &str| line.contains(&part) && ["retrying: ", "held: "].iter().any(|is| line.contains(is));
    wait_until(&format!("{part} retries or is held"), PATIENCE, || {
        assert_eq!(bridge.status(), None, "it has ended before {part} retried or was held");
        bridge.log().get(offset..).is_some_and(|text| text.lines().any(matches))
    })
    .await;
}

/// Whether the broker closed the connection and gave no reason. ActiveMQ closes a refused connection after 2 s, also
/// if it is so busy that it has not said why until then.
pub fn closed_without_reason(said: &str) -> bool {
    said.contains("the connection was closed: ")
}

/// Stops the bridge once it has started. It must settle the events that it has taken, and end with 0.
pub async fn drain(mut bridge: Bridge) {
    let is_started = || bridge.status().is_some() || bridge.handles_sigterm();
    wait_until("the bridge handles SIGTERM", SOON, is_started).await;
    bridge.terminate();
    let status = bridge.ended(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
}

/// A directory that cannot be used, because a file has its name meanwhile. Permissions would not work, since
/// root may do everything.
pub struct Unusable {
    directory: PathBuf,
    aside: PathBuf,
}

impl Unusable {
    /// Moves the directory away and puts a file in its place.
    pub fn make(directory: &Path) -> Self {
        let (directory, aside) = (directory.to_owned(), directory.with_extension("aside"));
        std::fs::write(&aside, "in the way").expect("make a file");
        let unusable = Self { directory, aside };
        unusable.exchange();
        unusable
    }

    /// Moves the directory back with its content.
    pub fn restore(self) {
        self.exchange();
        std::fs::remove_file(&self.aside).expect("remove the file");
    }

    /// In one step, since a bridge that finds nothing in the directory's place makes a new one.
    fn exchange(&self) {
        let exchange = renameat_with(CWD, &self.directory, CWD, &self.aside, RenameFlags::EXCHANGE);
        exchange.expect("exchange a directory and a file");
    }
}
