//! NATS: a JetStream stream, or core NATS.
//!
//! Publishes are pipelined, up to a window; each names its delivery in its reply subject, and one subscription
//! hears all answers. JetStream may store them in another order than they were sent, after an error, so the
//! lane keeps one event per key in flight (I3). `Durable` is said on the acknowledgement of the configured
//! stream alone.
//!
//! An opening is one connection. It ends with the connection, with an answer that does not come in time, and
//! with one that says that the stream is not what it was; then everything without an answer is published
//! again over a new connection, after another look at the stream, and the stream drops by `Nats-Msg-Id` what
//! it had stored. An outage that outlasts the duplicate window can so leave doubles of what was in flight.
//!
//! Core NATS keeps order (one connection) and is at most once: `Durable` means that the server has read the
//! event, and a permission that is missing shows only after some were.

mod acks;
mod check;
pub mod config;
mod connection;
mod explain;
mod in_flight;
mod open_backoff;
mod opener;
mod port_probe;
mod producer;
mod publish_ack;
mod servers;
pub mod settings;
mod stream;
mod stream_config;
mod subject_match;
mod template;
pub mod validate;

use std::sync::Arc;

use async_trait::async_trait;

use self::acks::NatsAcks;
use self::config::NatsConfig;
pub use self::opener::NatsSink;
use self::opener::{found, subscribe};
use self::producer::{NatsProducer, ProducerShared};
use self::settings::NatsSettings;
use super::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use super::{Sink, SinkContext, SinkError, Submit, Verdicts};

/// The kind `nats`.
#[derive(Debug)]
pub struct NatsKind;

impl SinkKind for NatsKind {
    const NAME: &'static str = "nats";

    type Config = NatsConfig;

    fn check(
        config: NatsConfig,
        surroundings: &BuildContext,
        findings: &mut Diagnostics,
    ) -> Option<Arc<dyn SinkFactory>> {
        validate::check(&config, surroundings, findings)
            .map(|settings| Arc::new(settings) as Arc<dyn SinkFactory>)
    }
}

impl SinkFactory for NatsSettings {
    fn build(&self, context: SinkContext) -> Box<dyn Sink> {
        Box::new(NatsSink::new(self.clone(), context))
    }

    fn destination(&self) -> Option<SinkDestination> {
        let mut servers = self.servers.clone();
        servers.sort_unstable();
        servers.dedup();
        let servers = servers.join(", ");
        let place = match &self.stream {
            Some(stream) => format!("the subject {} of stream {stream} at {servers}", self.subject),
            None => format!("the subject {} at {servers}", self.subject),
        };
        Some(SinkDestination { place, option: "subject" })
    }

    fn keeps(&self) -> Result<(), &'static str> {
        match self.stream {
            Some(_) => Ok(()),
            None => Err("core NATS keeps nothing for who listens later"),
        }
    }
}

#[async_trait]
impl Sink for NatsSink {
    fn keeps_order(&self) -> bool {
        self.settings.stream.is_none()
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        self.holding.check()?;
        let mut connection = self.connect().await?;
        let (inbox, mut subscriber) = subscribe(&connection.client).await?;
        let stream = self.settings.stream.clone();
        let info = match &stream {
            Some(name) => Some(self.find_or_make(&mut connection, name).await?),
            None => {
                self.try_the_way(&mut connection, &inbox, &mut subscriber).await?;
                None
            }
        };
        self.warn(self.warnings(&connection.client, info.as_ref().map(found)));
        let shared = Arc::<ProducerShared>::default();
        let publisher = NatsProducer {
            client: connection.client.clone(),
            inbox: inbox.clone(),
            subject: self.explainer.subject().clone(),
            connected: connection.since,
            message_id: self.settings.message_id.bind(&self.context),
            context: self.context.clone(),
            stream: stream.clone(),
            window: self.settings.window,
            shared: Arc::clone(&shared),
        };
        let terms = (stream, self.settings.timeout);
        let holding = Arc::clone(&self.holding);
        let answers = NatsAcks::new(connection, (inbox, subscriber), terms, shared, holding);
        Ok((Box::new(publisher), Box::new(answers)))
    }

    async fn probe(&mut self) -> Result<Vec<String>, SinkError> {
        check::check(self).await
    }
}
