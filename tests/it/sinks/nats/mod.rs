//! Tests the NATS sink on real servers.

mod check;
mod end_to_end;
mod failures;
pub mod logins;
mod records;
mod tail;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use atdata_bridge::diagnostics::Diagnostics;
use atdata_bridge::event::{Batch, Event, Headers, Message, SessionId};
use atdata_bridge::key::Keying;
use atdata_bridge::sink::factory::BuildContext;
use atdata_bridge::sink::nats::NatsSink;
use atdata_bridge::sink::nats::config::NatsConfig;
use atdata_bridge::sink::nats::validate;
use atdata_bridge::sink::{Delivery, DeliveryId, Sink, SinkContext, SinkError, Verdict};
use bytes::Bytes;

use kit::SOON;

/// Returns the context that a sink gets when it is built.
pub fn context(partitions: Option<u32>) -> SinkContext {
    SinkContext {
        sink: "nats".to_owned(),
        namespace: "acme".to_owned(),
        destination_id: "d".to_owned(),
        connection_id: "b1".to_owned(),
        queue: "d.RTO.acme".to_owned(),
        partitions: partitions.and_then(NonZeroU32::new),
        max_body: 4 << 20,
        is_replay: false,
        table: "sinks.nats".to_owned(),
    }
}

/// Builds the sink that `config` describes, at `url` unless the configuration has its own URL.
pub fn sink(url: &str, mut config: NatsConfig, context: SinkContext) -> Box<dyn Sink> {
    config.url.get_or_insert_with(|| url.to_owned());
    let build_context = BuildContext {
        partitions: context.partitions,
        prefetch: 1024,
        is_strict: false,
        is_for_dead_letters: false,
    };
    let mut diagnostics = Diagnostics::default();
    let settings = validate::check(&config, &build_context, &mut diagnostics);
    let settings = settings.unwrap_or_else(|| panic!("{:?}", diagnostics.problems()));
    Box::new(NatsSink::new(settings, context))
}

pub fn event(id: &str, body: impl Into<Bytes>) -> Event {
    let message = Message {
        id: Bytes::copy_from_slice(id.as_bytes()),
        body: body.into(),
        timestamp: Some(1_700_000_000_000),
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    };
    Event::new(message, &Keying::new(vec!["/md5".to_owned()], false))
}

/// Opens the sink, submits these events in one call, and returns their verdicts in order.
pub async fn deliver(sink: &mut dyn Sink, events: Vec<Event>) -> Result<Vec<Verdict>, SinkError> {
    let (mut submit, mut verdicts) = sink.open().await?;
    let batch = Arc::new(Batch { session: SessionId(1), first: 1, events, received: Instant::now() });
    let deliveries: Vec<Delivery> =
        (1..).zip(batch.refs()).map(|(id, event)| Delivery { id: DeliveryId(id), event }).collect();
    assert_eq!(submit.submit(&deliveries)?, deliveries.len(), "there is room for a few");
    let mut received = Vec::new();
    while received.len() < deliveries.len() {
        let next = tokio::time::timeout(SOON, verdicts.next()).await.expect("verdicts in time")?;
        received.extend(next);
    }
    submit.close().await?;
    received.sort_by_key(|(id, _)| *id);
    Ok(received.into_iter().map(|(_, verdict)| verdict).collect())
}
