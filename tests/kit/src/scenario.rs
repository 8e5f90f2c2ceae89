//! The steps that scenarios share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;

use super::bridge::Bridge;
use super::broker::{Broker, Protocol, QueueCounts};
use super::events::Events;
use super::output::bytes;
use super::publisher::Publisher;
use super::{SOON, wait_until};

/// A limit for what has much to carry, or a slow retry to sit out.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace for one test over one protocol, and its queue for the destination id `main`: runs of a test over
/// both protocols share a broker.
pub fn place(protocol: Protocol, name: &str) -> (String, String) {
    let namespace = protocol.named(name);
    let queue = format!("main.RTO.{namespace}");
    (namespace, queue)
}

/// Another one each time, printed, so that a failure can be repeated: `SEED=… cargo test …`.
pub fn seeded() -> Rng {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SEED={seed}");
    Rng::with_seed(seed)
}

/// The broker's end of "it works": so many consumers have subscribed to `queue`.
pub async fn subscribed(broker: &Broker, queue: &str, consumers: u64) {
    let count = || broker.queue(queue).map_or(0, |counts| counts.consumers);
    wait_until(&format!("{queue} has {consumers} consumers"), SOON, || count() == consumers).await;
}

/// Waits until everything in `queue` is acknowledged; the count is exact.
pub async fn emptied(broker: &Broker, queue: &str) {
    wait_until(&format!("{queue} is empty"), PATIENCE, || broker.depth(queue) == 0).await;
}

/// What the broker knows about a queue that exists.
pub fn counts(broker: &Broker, queue: &str) -> QueueCounts {
    broker.queue(queue).unwrap_or_else(|| panic!("there is no queue {queue}"))
}

/// Publishes all of them and returns once the broker has confirmed it.
pub async fn publish(broker: &Broker, namespace: &str, events: Events) {
    Publisher::connect(broker, namespace).await.publish(events.bodies()).await.expect("publish");
}

/// The same of those from the one with this number on.
pub async fn publish_from(broker: &Broker, namespace: &str, events: Events, first: u64) {
    let bodies = (first..events.count).map(|number| events.body(number));
    Publisher::connect(broker, namespace).await.publish(bodies).await.expect("publish");
}

/// Waits until more than `size` bytes have been written into `directory`.
pub async fn grown(directory: &Path, size: u64) {
    let what = format!("{} has grown beyond {size} bytes", directory.display());
    wait_until(&what, PATIENCE, || bytes(directory) > size).await;
}

/// Waits until it has logged `words`.
pub async fn says(bridge: &mut Bridge, words: &str) {
    says_after(bridge, 0, words).await;
}

/// Waits until it has logged `words` behind the first `said` bytes of its log.
pub async fn says_after(bridge: &mut Bridge, said: usize, words: &str) {
    let what = format!("the bridge says {words:?}");
    wait_until(&what, PATIENCE, || {
        assert_eq!(bridge.status(), None, "it has ended before it said {words:?}");
        bridge.log().get(said..).is_some_and(|news| news.contains(words))
    })
    .await;
}

/// Waits until it has logged, behind the first `said` bytes of its log, that this part is ready, or ready again.
pub async fn ready_after(bridge: &mut Bridge, said: usize, part: &str) {
    let part = format!(r#"part="{part}""#);
    let tells = |line: &str| {
        line.contains(&part) && [" ready part=", " ready again after "].iter().any(|is| line.contains(is))
    };
    wait_until(&format!("it is ready with {part}"), PATIENCE, || {
        assert_eq!(bridge.status(), None, "it has ended before it was ready with {part}");
        bridge.log().get(said..).is_some_and(|news| news.lines().any(tells))
    })
    .await;
}

/// Waits until it has logged, behind the first `said` bytes of its log, that this part is in trouble: that it
/// became ready, earlier or later, is another line.
pub async fn in_trouble(bridge: &mut Bridge, said: usize, part: &str) {
    let part = format!(r#"part="{part}""#);
    let tells =
        |line: &str| line.contains(&part) && ["retrying: ", "held: "].iter().any(|is| line.contains(is));
    wait_until(&format!("trouble is told with {part}"), PATIENCE, || {
        assert_eq!(bridge.status(), None, "it has ended before it told trouble with {part}");
        bridge.log().get(said..).is_some_and(|news| news.lines().any(tells))
    })
    .await;
}

/// Asks it to stop; it must settle what it has taken, and end with 0.
pub async fn drain(mut bridge: Bridge) {
    bridge.terminate();
    let status = bridge.ended(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
}

/// A directory that can't be used: its name leads to a file meanwhile. Modes would not do, since nothing
/// is forbidden to root.
pub struct Unusable {
    directory: PathBuf,
    aside: PathBuf,
}

impl Unusable {
    /// Takes the directory away.
    pub fn make(directory: &Path) -> Self {
        let (directory, aside) = (directory.to_owned(), directory.with_extension("aside"));
        std::fs::rename(&directory, &aside).expect("move a directory aside");
        std::fs::write(&directory, "in the way").expect("put a file in its place");
        Self { directory, aside }
    }

    /// Gives it back with all that was in it.
    pub fn restore(self) {
        std::fs::remove_file(&self.directory).expect("remove the file in its place");
        std::fs::rename(&self.aside, &self.directory).expect("move the directory back");
    }
}
