//! Holds what the tests and campaigns share: real brokers, clients that know nothing of the bridge's own code, the program as
//! a process, events, and readers of what came out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is part of tests, and fails as they do"
)]

pub mod admin;
pub mod any_kafka;
pub mod bench;
pub mod bridge;
pub mod broker;
pub mod certificates;
pub mod consumer;
pub mod disk;
pub mod events;
pub mod helm;
pub mod java_client;
pub mod kafka;
pub mod kafka_reader;
pub mod kafka_relay;
pub mod listener;
pub mod nats;
pub mod output;
pub mod ports;
pub mod process;
pub mod provision;
pub mod proxy;
pub mod publisher;
pub mod report;
pub mod scenario;
pub mod stomp;
pub mod three;
pub mod tls_front;

use std::time::{Duration, Instant};

use broker::Version;
pub use provision::{did_not_run, stands_in};

/// A limit for what should take a moment: long enough for a busy machine, never waited for in full
/// unless something is broken.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; panics, naming `what`, when it does not within `limit`.
pub async fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "after {limit:?} still waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes of each `async fn name(version: Version)` one test for each broker version, `name::v5` and
/// `name::v6`; `over each protocol`, of each `async fn name(version: Version, protocol: Protocol)` one for each
/// version and protocol, `name::stomp_v5` and so on. Where a broker can't be had, the test says by name that it
/// did not run, and why; with `REQUIRE_BROKERS=1` it fails.
#[macro_export]
macro_rules! on_each_broker {
    (over each protocol: $($name:ident),+ $(,)?) => {
        $crate::on_each_broker! { where available, over each protocol: $($name),+ }
    };
    // The same where NATS is needed too, and topics of Kafka, for which there is a stand-in.
    (over each protocol, with every sink: $($name:ident),+ $(,)?) => {
        $crate::on_each_broker! { where all_available, over each protocol: $($name),+ }
    };
    // The same where only a real Kafka will do.
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

/// One of the tests that [`on_each_broker`] makes.
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

/// Shows the end of the shared broker's log when its test fails; other brokers show their own.
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

/// Whether `test` can have a broker of `version`; tells when not.
pub fn available(version: Version, test: &str) -> bool {
    let Err(reason) = version.directory() else { return true };
    did_not_run(test, &reason);
    false
}

/// Whether `test` can have a broker of `version` and a NATS server; tells when not. Kafka it has
/// from [`any_kafka`].
pub fn all_available(version: Version, test: &str) -> bool {
    available(version, test) && nats::available(test)
}

/// The same, and a real Kafka.
pub fn all_real(version: Version, test: &str) -> bool {
    all_available(version, test) && kafka::available(test)
}
