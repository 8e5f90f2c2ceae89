//! For `check`: can this address be reached, does the login work, may the queue be read, and what waits in it?

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Incoming;
use super::config::{Endpoint, SourceSettings};
use super::connection::{self, ConnectionHandles};
use super::error::SourceError;
use super::protocol::session::SessionMode;
use super::session_factory::new_session;
use super::wrong_port;
use crate::budget::Budget;
use crate::event::{Message, SessionId};
use crate::protocol_guess::FirstBytes;
use crate::telemetry::counters::SubscriptionCounters;

/// Connects to `endpoint`, logs in, and leaves in good order.
///
/// # Errors
/// What stood in the way.
pub async fn log_in(endpoint: &Endpoint, settings: &Arc<SourceSettings>) -> Result<(), SourceError> {
    look(endpoint, settings, SessionMode::Login, &mut |_| {}).await
}

/// The same, and hands over the messages that wait in the queue, in its order, as many as the prefetch at most. None
/// is consumed or marked; the queue begins to exist if it did not.
///
/// # Errors
/// What stood in the way.
pub async fn browse(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    see: &mut dyn FnMut(Message),
) -> Result<(), SourceError> {
    look(endpoint, settings, SessionMode::Browse, see).await
}

async fn look(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    reach: SessionMode,
    see: &mut dyn FnMut(Message),
) -> Result<(), SourceError> {
    let first = FirstBytes::default();
    let outcome = try_once(endpoint, settings, reach, see, &first).await;
    match outcome {
        Ok(()) => Ok(()),
        Err(trouble) => Err(wrong_port::true_cause(trouble, endpoint, &first, settings).await),
    }
}

async fn try_once(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    reach: SessionMode,
    see: &mut dyn FnMut(Message),
    first: &FirstBytes,
) -> Result<(), SourceError> {
    let stream = connection::connect(endpoint, settings, first).await?;
    let budget = Budget::new(settings.max_body);
    let new_session = new_session(reach);
    let session = new_session(endpoint, Arc::clone(settings), budget.clone(), Instant::now());
    let close = CancellationToken::new();
    let (incoming, mut came) = mpsc::channel(1);
    let (_no_acks, mut acks) = watch::channel((SessionId(0), 0));
    let wiring = ConnectionHandles {
        id: SessionId(1),
        incoming: &incoming,
        acks: &mut acks,
        close: &close,
        budget: &budget,
        counters: &SubscriptionCounters::default(),
        last_message: &mut String::new(),
        grace: Duration::ZERO,
        ending: &CancellationToken::new(),
        is_confirmed: &mut false,
        // A browser leaves by itself, when it has seen all.
        on_subscribed: &|| {
            if reach == SessionMode::Login {
                close.cancel()
            }
        },
    };
    let carried = connection::run_session(session, stream, wiring);
    tokio::pin!(carried);
    let mut see_all = |incoming| {
        if let Incoming::Messages(messages) = incoming {
            messages.into_iter().for_each(&mut *see);
        }
    };
    let outcome = loop {
        tokio::select! {
            outcome = &mut carried => break outcome,
            Some(incoming) = came.recv() => see_all(incoming),
        }
    };
    while let Ok(incoming) = came.try_recv() {
        see_all(incoming);
    }
    outcome
}
