//! For `check`: can this address be reached, does the login work, may the queue be read?

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::{Endpoint, SourceSettings};
use super::connection::{self, Wiring};
use super::link::NewSession;
use super::trouble::Trouble;
use super::wrong_port;
use crate::budget::Budget;
use crate::event::SessionId;
use crate::telemetry::counters::SubscriptionCounters;
use crate::wire_guess::FirstBytes;

/// Connects to `endpoint`, goes as far as the session goes, and leaves in good order. Messages that come
/// in between are not taken.
///
/// # Errors
/// What stood in the way.
pub async fn probe(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    new_session: &NewSession,
) -> Result<(), Trouble> {
    let first = FirstBytes::default();
    let outcome = try_once(endpoint, settings, new_session, &first).await;
    match outcome {
        Ok(()) => Ok(()),
        Err(trouble) => Err(wrong_port::true_cause(trouble, endpoint, &first, settings).await),
    }
}

async fn try_once(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    new_session: &NewSession,
    first: &FirstBytes,
) -> Result<(), Trouble> {
    let stream = connection::connect(endpoint, settings, first).await?;
    let budget = Budget::new(settings.max_body);
    let session = new_session(endpoint, Arc::clone(settings), budget.clone(), Instant::now());
    let close = CancellationToken::new();
    let (incoming, _not_taken) = mpsc::channel(1);
    let (_no_acks, mut acks) = watch::channel((SessionId(0), 0));
    let wiring = Wiring {
        id: SessionId(1),
        incoming: &incoming,
        acks: &mut acks,
        close: &close,
        budget: &budget,
        counters: &SubscriptionCounters::default(),
        last_message: &mut String::new(),
        grace: Duration::ZERO,
        on_subscribed: &|| close.cancel(),
    };
    connection::carry(session, stream, wiring).await
}
