//! Tests one address for the `check` command: is it reachable, does the login work, may the user read the
//! queue, and what waits in it?

use std::pin::pin;
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

/// Connects to `endpoint`, logs in, and disconnects cleanly.
///
/// # Errors
/// The step that failed, and the likely cause.
pub async fn log_in(endpoint: &Endpoint, settings: &Arc<SourceSettings>) -> Result<(), SourceError> {
    run(endpoint, settings, SessionMode::Login, &mut |_| {}).await
}

/// Does the same as [`log_in`], and passes the waiting messages of the queue to `see`, in queue order, at
/// most as many as the prefetch. It consumes and marks none. The broker creates the queue if it does not
/// exist.
///
/// # Errors
/// The step that failed, and the likely cause.
pub async fn browse(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    see: &mut dyn FnMut(Message),
) -> Result<(), SourceError> {
    run(endpoint, settings, SessionMode::Browse, see).await
}

async fn run(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    mode: SessionMode,
    see: &mut dyn FnMut(Message),
) -> Result<(), SourceError> {
    let first = FirstBytes::default();
    let Err(error) = try_once(endpoint, settings, mode, see, &first).await else { return Ok(()) };
    Err(wrong_port::true_cause(error, endpoint, &first, settings).await)
}

async fn try_once(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    mode: SessionMode,
    see: &mut dyn FnMut(Message),
    first: &FirstBytes,
) -> Result<(), SourceError> {
    let stream = connection::connect(endpoint, settings, first).await?;
    let budget = Budget::new(settings.max_body);
    let session = new_session(mode)(endpoint, Arc::clone(settings), budget.clone(), Instant::now());
    let close = CancellationToken::new();
    let (incoming, mut came) = mpsc::channel(1);
    let (_no_acks, mut acks) = watch::channel((SessionId(0), 0));
    let handles = ConnectionHandles {
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
        // A browser disconnects by itself after the last message.
        on_subscribed: &|| {
            if mode == SessionMode::Login {
                close.cancel()
            }
        },
    };
    let mut running = pin!(connection::run_session(session, stream, handles));
    let mut see_all = |incoming| {
        if let Incoming::Messages(messages) = incoming {
            messages.into_iter().for_each(&mut *see);
        }
    };
    let outcome = loop {
        tokio::select! {
            outcome = &mut running => break outcome,
            Some(incoming) = came.recv() => see_all(incoming),
        }
    };
    while let Ok(incoming) = came.try_recv() {
        see_all(incoming);
    }
    outcome
}
