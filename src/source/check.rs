//! Opens one session outside of the bridge: tests whether an address is reachable and the login works, or
//! browses the messages that wait in the queue.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Incoming;
use super::config::{Endpoint, SourceSettings};
use super::connection::{self, ConnectionHandles};
use super::error::SourceError;
use super::network::{Network, Tcp};
use super::protocol::session::SessionMode;
use super::session_factory::new_session;
use super::wrong_port;
use crate::budget::Budget;
use crate::event::{Message, SessionId};
use crate::protocol_guess::FirstBytes;
use crate::telemetry::counters::SubscriptionCounters;

/// What a session has agreed on with the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// How long the broker may be silent before the connection counts as dead; `None` if the broker sends no
    /// heart-beats.
    pub silence: Option<Duration>,
}

/// Connects to `endpoint`, logs in, and disconnects cleanly. Returns what was agreed on.
///
/// # Errors
/// The step that failed, and the likely cause.
pub async fn log_in(endpoint: &Endpoint, settings: &Arc<SourceSettings>) -> Result<Agreed, SourceError> {
    let budget = Budget::new(settings.max_body);
    run(endpoint, settings, SessionMode::Login, &budget, &mut |_| ControlFlow::Continue(())).await
}

/// Does the same as [`log_in`], and passes the waiting messages of the queue to `see`, in queue order, at
/// most as many as the prefetch, until `see` has seen enough. It consumes and marks none. The broker creates
/// the queue if it does not exist (D51). While messages that `see` keeps use up `budget`, no more come.
///
/// # Errors
/// The step that failed, and the likely cause. `see` may have got messages before.
pub async fn browse(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    budget: &Budget,
    see: &mut See<'_>,
) -> Result<Agreed, SourceError> {
    run(endpoint, settings, SessionMode::Browse, budget, see).await
}

/// What came of a connection to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    Connected,
    /// Refused or without a route; holds the reason.
    Failed(String),
    /// Nothing answered within the time.
    Silent,
}

/// Connects to each address of the host of `endpoint` and closes the connection at once. Tries them together,
/// for at most `within`. Returns none if the host can't be looked up.
pub async fn try_addresses(endpoint: &Endpoint, within: Duration) -> Vec<(SocketAddr, Reached)> {
    let found = lookup_host((endpoint.host.as_str(), endpoint.port)).await;
    let addresses: BTreeSet<SocketAddr> = found.into_iter().flatten().collect();
    join_all(addresses.into_iter().map(|address| async move {
        let reached = match timeout(within, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Reached::Connected,
            Ok(Err(error)) => Reached::Failed(error.to_string()),
            Err(_) => Reached::Silent,
        };
        (address, reached)
    }))
    .await
}

/// Takes one browsed message, and says whether to go on.
type See<'a> = dyn FnMut(Message) -> ControlFlow<()> + 'a;

async fn run(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    mode: SessionMode,
    budget: &Budget,
    see: &mut See<'_>,
) -> Result<Agreed, SourceError> {
    let first = FirstBytes::default();
    match try_once(endpoint, settings, mode, budget, see, &first).await {
        Ok(agreed) => Ok(agreed),
        Err(error) => Err(wrong_port::true_cause(error, endpoint, &first, settings, &Tcp).await),
    }
}

async fn try_once(
    endpoint: &Endpoint,
    settings: &Arc<SourceSettings>,
    mode: SessionMode,
    budget: &Budget,
    see: &mut See<'_>,
    first: &FirstBytes,
) -> Result<Agreed, SourceError> {
    let stream = Tcp.connect(endpoint, settings, first).await?;
    let session = new_session(mode)(endpoint, Arc::clone(settings), budget.clone(), Instant::now());
    let close = CancellationToken::new();
    let agreed = OnceLock::new();
    let (incoming, mut came) = mpsc::channel(1);
    let (_no_acks, mut acks) = watch::channel((SessionId(0), 0));
    let handles = ConnectionHandles {
        id: SessionId(1),
        incoming: &incoming,
        acks: &mut acks,
        close: &close,
        budget,
        counters: &SubscriptionCounters::default(),
        last_message: &mut String::new(),
        // Messages that came before an error are still passed on, which takes a moment only.
        grace: settings.connect_timeout,
        ending: &CancellationToken::new(),
        is_confirmed: &mut false,
        // A browser disconnects by itself after the last message.
        on_subscribed: &|silence| {
            // A session is subscribed once.
            let _first = agreed.set(Agreed { silence });
            if mode == SessionMode::Login {
                close.cancel()
            }
        },
    };
    let running = connection::run_session(session, stream, handles);
    let outcome = pass_on(running, &mut came, |incoming| {
        let Incoming::Messages(messages) = incoming else { return };
        if !close.is_cancelled() && messages.into_iter().try_for_each(&mut *see).is_break() {
            close.cancel();
        }
    });
    outcome.await.map(|()| agreed.get().copied().unwrap_or_default())
}

/// Runs a session to its end, and gives to `see` all that comes from it.
async fn pass_on(
    running: impl Future<Output = Result<(), SourceError>>,
    came: &mut mpsc::Receiver<Incoming>,
    mut see: impl FnMut(Incoming),
) -> Result<(), SourceError> {
    let mut running = pin!(running);
    let outcome = loop {
        tokio::select! {
            outcome = &mut running => break outcome,
            Some(incoming) = came.recv() => see(incoming),
        }
    };
    while let Ok(incoming) = came.try_recv() {
        see(incoming);
    }
    outcome
}
