//! Provides what the tests and campaigns share: real brokers, bare clients that use none of the bridge's
//! code, the program as a process, test events, and readers of the output.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is test code: a panic is a failed test"
)]

pub mod admin;
pub mod any_kafka;
pub mod bench;
pub mod bridge;
pub mod broker;
pub mod browser;
pub mod certificates;
pub mod consumer;
pub mod disk;
pub mod events;
pub mod helm;
pub mod java_client;
pub mod kafka;
pub mod kafka_reader;
pub mod kafka_relay;
pub mod kafka_writer;
pub mod listener;
pub mod nats;
pub mod output;
pub mod ports;
pub mod preload;
pub mod process;
pub mod prometheus;
pub mod provision;
pub mod proxy;
pub mod publisher;
pub mod report;
pub mod rewriting;
pub mod rival;
pub mod scenario;
pub mod stomp;
pub mod stored;
pub mod three;
pub mod tls_front;

use std::time::{Duration, Instant};

use broker::Version;
pub use provision::{did_not_run, stands_in};

/// A limit for steps that take a moment. It is long enough for a busy machine; a test waits for all of it
/// only if something is broken.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits until `condition` holds. Panics with `what` if it does not hold within `limit`.
pub async fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "after {limit:?} still waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Turns each `async fn name(version: Version)` into one test per broker version, `name::v5` and `name::v6`.
/// With `over each protocol`, it turns each `async fn name(version: Version, protocol: Protocol)` into one
/// test per version and protocol, `name::stomp_v5` and so on. If a broker is not available, the test prints
/// its name and the reason why it did not run; with `REQUIRE_BROKERS=1` it fails.
#[macro_export]
macro_rules! on_each_broker {
    (over each protocol: $($name:ident),+ $(,)?) => {
        $crate::on_each_broker! { where available, over each protocol: $($name),+ }
    };
    // For tests that also need NATS and topics of Kafka. The mock cluster can replace Kafka.
    (over each protocol, with every sink: $($name:ident),+ $(,)?) => {
        $crate::on_each_broker! { where all_available, over each protocol: $($name),+ }
    };
    // For tests that need a real Kafka.
    (over each protocol, with a real kafka: $($name:ident),+ $(,)?) => {
        $crate::on_each_broker! { where all_real, over each protocol: $($name),+ }
    };
    (where $available:ident, over each protocol: $($name:ident),+) => {$(
        mod $name {
            $crate::on_broker! { stomp_v5: $available, super::$name, V5, Stomp }
            $crate::on_broker! { stomp_v6: $available, super::$name, V6, Stomp }
            $crate::on_broker! { openwire_v5: $available, super::$name, V5, OpenWire }
            $crate::on_broker! { openwire_v6: $available, super::$name, V6, OpenWire }
        }
    )+};
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            $crate::on_broker! { v5: available, super::$name, V5 }
            $crate::on_broker! { v6: available, super::$name, V6 }
        }
    )+};
}

/// Makes one test of [`on_each_broker`].
#[macro_export]
macro_rules! on_broker {
    ($test:ident: $available:ident, $scenario:path, $version:ident $(, $protocol:ident)?) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let version = $crate::broker::Version::$version;
            if $crate::$available(version, concat!(module_path!(), "::", stringify!($test))) {
                let _log = $crate::ShownOnFailure(version);
                $scenario(version $(, $crate::broker::Protocol::$protocol)?).await;
            }
        }
    };
}

/// Prints the end of the shared broker's log when its test fails. A test's own broker prints its log itself.
pub struct ShownOnFailure(pub Version);

impl Drop for ShownOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(broker) = broker::shared_if_started(self.0)
        {
            eprintln!("{}", broker.log_tail());
        }
    }
}

/// Whether a broker of `version` is available. If not, prints that `test` did not run.
pub fn available(version: Version, test: &str) -> bool {
    let Err(reason) = version.directory() else { return true };
    did_not_run(test, &reason);
    false
}

/// Whether a broker of `version` and a NATS server are available. If not, prints that `test` did not run.
/// [`any_kafka`] always provides a Kafka.
pub fn all_available(version: Version, test: &str) -> bool {
    available(version, test) && nats::available(test)
}

/// Like [`all_available`], and requires a real Kafka.
pub fn all_real(version: Version, test: &str) -> bool {
    all_available(version, test) && kafka::available(test)
}
