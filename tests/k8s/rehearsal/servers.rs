//! Starts the servers for the pods, with logins and TLS, and makes the values of the chart for them.

use std::fs;
use std::path::Path;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use serde_json::{Value, json};

use crate::Mode;
use crate::node::Secrets;
use kit::broker::{Broker, Options, Protocol, Version};
use kit::kafka::{self, Kafka, Listener};
use kit::nats::NatsServer;
use kit::stomp::Login;

/// As small as possible while all pods still get events: a kill can duplicate this many events.
pub const PREFETCH: u64 = 200;
const PARTITIONS: u32 = 6;
const NATS: (&str, &str) = ("bridge", "bridge-secret");

pub struct Servers {
    pub broker: Broker,
    pub kafka: Kafka,
    nats: NatsServer,
    pub jetstream: jetstream::Context,
    protocol: Protocol,
}

impl Servers {
    pub async fn start(version: Version, protocol: Protocol) -> Self {
        let broker = Broker::start(version, Options::default());
        let kafka = Kafka::start();
        let (user, password) = NATS;
        let nats =
            NatsServer::start(&format!("authorization {{ user: \"{user}\", password: \"{password}\" }}\n"));
        let login = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
        let jetstream = nats.jetstream_as(login).await;
        Self { broker, kafka, nats, jetstream, protocol }
    }

    /// Makes the topic and the stream, both named after the mode.
    pub async fn make_topic_and_stream(&self, mode: Mode) {
        let name = mode.name();
        self.kafka.create_topic(name, PARTITIONS, &[]);
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            discard: stream::DiscardPolicy::New,
            ..stream::Config::default()
        };
        self.jetstream.create_stream(config).await.expect("make a stream");
    }

    /// The content of the users' Secrets.
    pub fn secrets(&self) -> Secrets {
        let read = |path: &Path| fs::read_to_string(path).expect("read a certificate");
        let secret = |entries: &[(&'static str, String)]| entries.iter().cloned().collect();
        let (_, kafka_password) = kafka::CUSTOMER;
        [
            (
                "atdata",
                secret(&[
                    ("password", Login::customer().password.to_owned()),
                    ("ca.crt", read(self.broker.ca_file())),
                ]),
            ),
            (
                "kafka",
                secret(&[
                    ("password", kafka_password.to_owned()),
                    ("ca.crt", read(&self.kafka.certificates().authority)),
                ]),
            ),
            ("nats", secret(&[("password", NATS.1.to_owned())])),
        ]
        .into()
    }

    /// The values of the chart.
    pub fn values(&self, mode: Mode, replicas: usize) -> Value {
        let name = mode.name();
        let kafka = format!("localhost:{}", self.kafka.addr(Listener::SaslTls).port());
        let from = |secret: &str| json!({ "existingSecret": secret });
        json!({
            "replicaCount": replicas,
            "terminationGracePeriodSeconds": 15,
            "config": {
                "source": {
                    "url": self.broker.tls_url_of(self.protocol),
                    "username": Login::customer().username,
                    "password_file": from("atdata"),
                    "tls": { "ca_file": from("atdata") },
                    "namespace": name,
                    "destination_id": DESTINATION,
                    "prefetch": PREFETCH,
                    "ordering": mode.ordering(),
                },
                "event": { "partitions": PARTITIONS },
                "sinks": {
                    "kafka": {
                        "brokers": [kafka],
                        "topic": name,
                        "exactly_once": mode.exactly_once(),
                        "sasl": {
                            "mechanism": "plain",
                            "username": kafka::CUSTOMER.0,
                            "password_file": from("kafka"),
                        },
                        "tls": { "enabled": true, "ca_file": from("kafka") },
                    },
                    "nats": {
                        "url": self.nats.url(),
                        "stream": name,
                        "subject": format!("{name}.{{partition}}.{{key}}"),
                        "username": NATS.0,
                        "password_file": from("nats"),
                    },
                    "file": { "format": "envelope" },
                },
                "shutdown": { "drain_timeout": "10s" },
            },
        })
    }
}

const DESTINATION: &str = "main";

/// The queue of a mode's pods.
pub fn queue(mode: Mode) -> String {
    format!("{DESTINATION}.RTO.{}", mode.name())
}
