//! Tests mistakes with NATS. Each test has three events in the queue, which must still be there when the
//! bridge has ended.

mod certificates;
mod logins;
mod ports;
mod streams;
mod warnings;

use self::certificates::*;
use self::logins::*;
use self::ports::*;
use self::streams::*;
use self::warnings::*;
use super::{Scenario, scenarios};
use kit::bridge::Setup;
use kit::broker::{Broker, Protocol, Version, shared_if_available};
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::nats::{NatsServer, available, make_stream, read_stream};
use kit::scenario::{drain, emptied, place, publish};

scenarios!("nats":
    // Ports and protocols
    nothing_listens, host_unknown, stomp_port, stomp_tls_port, openwire_port, openwire_tls_port, kafka_port, http_port,
    silent_port, dropping_port, leaf_node_port, plain_server, tls_first, tls_not_first, tls_of_another,
    // Certificates
    issuer_unknown, authority_wrong, certificate_expired, certificate_of_tomorrow, host_name_wrong, authority_as_server,
    chain_incomplete, client_certificate_wanted, client_certificate_foreign, authority_file_empty, client_key_wrong,
    // Logins and permissions
    login_missing, password_wrong, user_unknown, token_wrong, nkey_unknown, nkey_no_seed, credentials_foreign,
    credentials_empty, publish_denied, inbox_denied, api_denied, tail_denied, connections_exceeded, payload_limit_of_the_user,
    // JetStream and its streams
    jetstream_off, account_without_jetstream, hub_away, stream_missing, stream_sealed, stream_mirror, stream_no_ack,
    subjects_too_narrow, stream_full, stream_full_of_bytes, too_many_replicas, subjects_taken, account_full,
    server_frozen,
    // Loss of events, and dead letters
    stream_in_memory, one_replica, max_age_short, discards_old, one_per_subject, interest_without_consumer, workqueue,
    duplicate_window_short, max_msg_size_small, max_payload_small, core_delivery,
    // Settings
    url_without_scheme, url_with_password, url_of_websockets, stream_not_named, stream_name_with_dot,
    subject_with_wildcard, subject_of_the_server, message_id_fixed, message_id_shared, window_too_large, two_logins, username_alone,
    certificate_without_key, core_with_stream, password_file_missing,
);

const EVENTS: u64 = 3;

/// A bridge that writes into the stream `EVENTS`, and whose queue has three events.
pub struct Scene {
    broker: &'static Broker,
    namespace: String,
    queue: String,
    pub setup: Setup,
}

impl Scene {
    /// Builds the scene of the row `id`. Returns `None`, and reports the skipped test, where there is no
    /// server.
    async fn new(id: &str, url: impl Into<String>) -> Option<Self> {
        if !available(id) {
            return None;
        }
        let broker = shared_if_available(Version::V6, id)?;
        let (namespace, queue) = place(Protocol::Stomp, id);
        let setup = Setup::new(broker, Protocol::Stomp, &namespace, "main", &namespace)
            .unset("SINKS__FILE__DIRECTORY")
            .set("SINKS__NATS__URL", url)
            .set("SINKS__NATS__STREAM", "EVENTS")
            .set("SINKS__NATS__SUBJECT", "events.{namespace}.{key}")
            .set("SINKS__NATS__PUBLISH_TIMEOUT", "2s")
            // The bridge does not wait long for events that it cannot settle.
            .set("SHUTDOWN__DRAIN_TIMEOUT", "1s");
        Some(Self { broker, namespace, queue, setup })
    }

    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.setup = self.setup.set(name, value);
        self
    }

    fn unset(mut self, name: &str) -> Self {
        self.setup = self.setup.unset(name);
        self
    }

    async fn fill(&self) {
        // A queue exists from its first subscription.
        drop(Consumer::subscribe(self.broker, &self.queue, 1, Acks::Never).await);
        publish(self.broker, &self.namespace, Events::good(EVENTS)).await;
    }

    /// Checks that the sink is in trouble and no event is acknowledged.
    async fn shows(self, id: &str) -> Repaired {
        self.run(id, |scenario| scenario).await
    }

    /// The same for a mistake that `check` cannot find.
    async fn shows_in_the_run(self, id: &str) -> Repaired {
        self.run(id, Scenario::unseen_by_check).await
    }

    async fn run(self, id: &str, change: fn(Scenario) -> Scenario) -> Repaired {
        self.fill().await;
        let scenario = Scenario::new(self.setup).exits(75).keeps(self.broker, &self.queue, EVENTS);
        let setup = change(scenario).shows(id).await;
        Repaired { broker: self.broker, queue: self.queue, setup }
    }

    /// Checks that a warning is reported and events are delivered.
    async fn warns(self, id: &str) {
        Scenario::new(self.setup).shows(id).await;
    }

    /// The same for a warning that only events bring.
    async fn warns_in_the_run(self, id: &str) {
        self.fill().await;
        Scenario::new(self.setup).unseen_by_check().shows(id).await;
    }

    /// Checks that the program refuses to start.
    async fn refuses_to_begin(self, id: &str) {
        self.fill().await;
        Scenario::new(self.setup).keeps(self.broker, &self.queue, EVENTS).shows(id).await;
    }
}

/// The same bridge, for a test that repairs the mistake.
pub struct Repaired {
    broker: &'static Broker,
    queue: String,
    setup: Setup,
}

impl Repaired {
    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.setup = self.setup.set(name, value);
        self
    }

    /// Checks that each event reaches the stream once.
    async fn delivers(self, jetstream: &async_nats::jetstream::Context) {
        let bridge = self.setup.start();
        emptied(self.broker, &self.queue).await;
        drain(bridge).await;
        assert_eq!(read_stream(jetstream, "EVENTS").await.len() as u64, EVENTS);
    }
}

/// Starts a server with the stream that the bridge writes to.
async fn server_with_stream() -> NatsServer {
    let server = NatsServer::start("");
    make_stream(&server.jetstream().await, "EVENTS", &["events.>"]).await;
    server
}
