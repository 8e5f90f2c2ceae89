//! Mistakes about NATS, each with three events in the queue, which are still there when the bridge has ended.

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
use super::{Planted, planted};
use kit::bridge::Setup;
use kit::broker::{Broker, Protocol, Version, shared_if_available};
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::nats::{NatsServer, available, make_stream, read_stream};
use kit::scenario::{drain, emptied, place, publish};

planted!("nats":
    // Ports and protocols.
    nothing_listens, host_unknown, stomp_port, stomp_tls_port, openwire_port, openwire_tls_port, kafka_port, http_port,
    silent_port, dropping_port, leaf_node_port, plain_server, tls_first, tls_not_first, tls_of_another,
    // Certificates.
    issuer_unknown, authority_wrong, certificate_expired, certificate_of_tomorrow, host_name_wrong, authority_as_server,
    chain_incomplete, client_certificate_wanted, client_certificate_foreign, authority_file_empty, client_key_wrong,
    // Logins and rights.
    login_missing, password_wrong, user_unknown, token_wrong, nkey_unknown, nkey_no_seed, credentials_foreign,
    credentials_empty, publish_denied, inbox_denied, api_denied, connections_exceeded, payload_limit_of_the_user,
    // JetStream and its streams.
    jetstream_off, account_without_jetstream, hub_away, stream_missing, stream_sealed, stream_mirror, stream_no_ack,
    subjects_too_narrow, stream_full, stream_full_of_bytes, too_many_replicas, subjects_taken, account_full,
    server_frozen,
    // What loses events, or makes dead letters of them.
    stream_in_memory, one_replica, max_age_short, discards_old, one_per_subject, interest_without_consumer, workqueue,
    duplicate_window_short, max_msg_size_small, max_payload_small, core_delivery,
    // Settings.
    url_without_scheme, url_with_password, url_of_websockets, stream_not_named, stream_name_with_dot,
    subject_with_wildcard, subject_of_the_server, message_id_fixed, window_too_large, two_logins, username_alone,
    certificate_without_key, core_with_stream, password_file_missing,
);

/// How many events wait.
const EVENTS: u64 = 3;

/// A bridge into the stream `EVENTS`, whose queue holds three events.
pub struct Scene {
    broker: &'static Broker,
    namespace: String,
    queue: String,
    pub setup: Setup,
}

impl Scene {
    /// For the row `id`; `None`, said by name, where a server can't be had.
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
            // What can't be settled is not waited for long.
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
        // Its queue exists once somebody has subscribed to it.
        drop(Consumer::subscribe(self.broker, &self.queue, 1, Acks::Never).await);
        publish(self.broker, &self.namespace, Events::good(EVENTS)).await;
    }

    /// It is in trouble, and none of the events is acknowledged.
    async fn shows(self, id: &str) -> Mended {
        self.planted(id, |planted| planted).await
    }

    /// The same for what `check` can't know.
    async fn shows_in_the_run(self, id: &str) -> Mended {
        self.planted(id, Planted::unseen_by_check).await
    }

    async fn planted(self, id: &str, change: fn(Planted) -> Planted) -> Mended {
        self.fill().await;
        let planted = Planted::new(self.setup).exits(75).keeps(self.broker, &self.queue, EVENTS);
        let setup = change(planted).shows(id).await;
        Mended { broker: self.broker, queue: self.queue, setup }
    }

    /// Events move all the same.
    async fn warns(self, id: &str) {
        Planted::new(self.setup).shows(id).await;
    }

    /// It does not even begin.
    async fn refuses_to_begin(self, id: &str) {
        self.fill().await;
        Planted::new(self.setup).keeps(self.broker, &self.queue, EVENTS).shows(id).await;
    }
}

/// The same bridge, for whoever has mended what was wrong.
pub struct Mended {
    broker: &'static Broker,
    queue: String,
    setup: Setup,
}

impl Mended {
    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.setup = self.setup.set(name, value);
        self
    }

    /// Now each event reaches the stream, once.
    async fn delivers(self, jetstream: &async_nats::jetstream::Context) {
        let bridge = self.setup.start();
        emptied(self.broker, &self.queue).await;
        drain(bridge).await;
        assert_eq!(read_stream(jetstream, "EVENTS").await.len() as u64, EVENTS);
    }
}

/// A server with the stream that the bridge writes to.
async fn server_with_stream() -> NatsServer {
    let server = NatsServer::start("");
    make_stream(&server.jetstream().await, "EVENTS", &["events.>"]).await;
    server
}
