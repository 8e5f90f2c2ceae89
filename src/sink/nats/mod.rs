//! Publishes events to NATS: to a JetStream stream, or with core NATS.
//!
//! Publishes are pipelined, up to a window. Each names its delivery in its reply subject, and one
//! subscription receives all answers. After an error, JetStream may store events in another order than they
//! were sent, so the worker keeps at most one event per key in flight (I3). The sink gives `Durable` only on
//! the acknowledgement of the configured stream.
//!
//! The sink fails when the connection ends, when an answer does not come in time, and when an answer shows
//! that the stream has changed. The next open makes a new connection and checks the stream again. Then all
//! events without an answer are published again, and the stream drops those that it has stored, by
//! `Nats-Msg-Id`, inside its duplicate window. For an outage that is longer, the claim reads which events the
//! stream holds, and they are not published again. Duplicates remain possible if the stream deletes what was
//! consumed, if the user may not read it, and if the events are no longer among the last messages.
//!
//! Core NATS keeps order, because there is one connection, and is at most once: `Durable` means that the
//! server has read the event. A missing permission shows only after some events got this verdict.

mod acks;
mod check;
mod claim;
pub mod config;
mod connect_error;
mod connection;
mod explain;
mod in_flight;
mod monitor;
mod open_backoff;
mod opener;
mod port_probe;
mod producer;
mod read_back;
mod server_version;
mod servers;
pub mod settings;
mod stream;
mod stream_config;
mod stream_limits;
mod stream_warnings;
mod subject_match;
mod tail;
mod template;
mod user_check;
mod user_info;
pub mod validate;
mod verdict;

use std::sync::Arc;

use async_trait::async_trait;

use self::acks::{NatsAcks, age_ticks};
use self::config::NatsConfig;
pub use self::opener::NatsSink;
use self::opener::{subscribe, values};
use self::producer::{NatsProducer, ProducerShared};
use self::settings::NatsSettings;
use super::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use super::{Held, Position, RecordSender, Sink, SinkContext, SinkError, Submit, Verdicts};
use crate::finding::Finding;

/// The kind of sink with `kind = "nats"`.
#[derive(Debug)]
pub struct NatsKind;

impl SinkKind for NatsKind {
    const NAME: &'static str = "nats";

    type Config = NatsConfig;

    fn check(
        config: NatsConfig,
        context: &BuildContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn SinkFactory>> {
        validate::check(&config, context, diagnostics)
            .map(|settings| Arc::new(settings) as Arc<dyn SinkFactory>)
    }
}

impl SinkFactory for NatsSettings {
    fn build(&self, context: SinkContext) -> Box<dyn Sink> {
        Box::new(NatsSink::new(self.clone(), context))
    }

    fn destination(&self) -> Option<SinkDestination> {
        let servers = self.places();
        let place = match &self.stream {
            Some(stream) => format!("the subject {} of stream {stream} at {servers}", self.subject),
            None => format!("the subject {} at {servers}", self.subject),
        };
        Some(SinkDestination { place, option: "subject" })
    }

    fn deduplication(&self) -> Option<SinkDestination> {
        let stream = self.stream.as_ref()?;
        let place = format!("the message id {} in stream {stream} at {}", self.message_id, self.places());
        Some(SinkDestination { place, option: "message_id" })
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
        self.open_backoff.check()?;
        let mut connection = self.connect().await?;
        let (inbox, mut subscriber) = subscribe(&connection.client).await?;
        let stream = self.settings.stream.clone();
        let info = match &stream {
            Some(name) => Some(self.find_or_make(&mut connection, name).await?),
            None => {
                self.try_round_trip(&mut connection, &inbox, &mut subscriber).await?;
                None
            }
        };
        self.warn(self.warnings(&connection.client, info.as_ref().map(values)));
        let shared = Arc::<ProducerShared>::default();
        let producer = NatsProducer {
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
        let acks = NatsAcks {
            connection,
            inbox,
            subscriber,
            stream,
            timeout: self.settings.timeout,
            shared,
            open_backoff: Arc::clone(&self.open_backoff),
            age_ticks: age_ticks(self.settings.timeout),
            broken: None,
        };
        Ok((Box::new(producer), Box::new(acks)))
    }

    async fn claim(&mut self, at_least: usize) -> Result<Option<Held>, SinkError> {
        match self.settings.stream.clone() {
            Some(stream) => self.held(&stream, at_least).await,
            None => Ok(None),
        }
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        check::check(self).await
    }

    async fn read_back(&mut self, from: Option<Position>, records: RecordSender) -> Result<(), SinkError> {
        match self.settings.stream.clone() {
            Some(stream) => self.read_stream(&stream, from, records).await,
            None => Err(SinkError::misconfigured("core NATS keeps nothing that could be read back")),
        }
    }
}
