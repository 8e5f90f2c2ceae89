//! Starts the clients of one connection and their threads: one thread polls each client for reports, and one
//! monitors the topic (`topic_monitor.rs`). The sink worker's task never waits for librdkafka, and never
//! destroys a client.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer, PurgeConfig};
use tokio::sync::{oneshot, watch};

use super::broker_refresh::BrokerRefresh;
use super::classify;
use super::client_threads::THREADS;
use super::context::{Client, Context};
use super::diagnosis::Diagnosis;
use super::in_flight::KafkaInFlight;
use super::names::Names;
use super::reconnect_state::ReconnectState;
use super::settings::KafkaSettings;
use super::topic::Topic;
use super::topic_monitor::TopicMonitor;
use crate::sink::SinkError;

/// The duration of one poll. Reports come at once; only the end is noticed this late.
const POLL: Duration = Duration::from_millis(100);

/// Resolves once all threads of a connection have ended and its clients are destroyed. Cheap to clone.
#[derive(Clone)]
pub(super) struct ClientsEnded(watch::Receiver<()>);

impl ClientsEnded {
    /// Waits until all have ended. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// Keeps the clients running until it is dropped.
pub(super) struct Running {
    clients: Vec<Arc<Client>>,
    stop: Arc<AtomicBool>,
    check_request: SyncSender<()>,
}

impl Running {
    /// The client of a partition, always the same one (I3).
    pub(super) fn client(&self, partition: u32) -> Option<&Client> {
        let place = (partition as usize).checked_rem(self.clients.len())?;
        self.clients.get(place).map(Arc::as_ref)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Our own handles go first: a thread destroys the client, because that may take some time.
        self.clients.clear();
        self.stop.store(true, Ordering::Release);
        let _due = self.check_request.try_send(());
    }
}

/// The inputs of a new connection.
pub(super) struct ClientParts<'a> {
    pub(super) sink: &'a str,
    pub(super) client_id: &'a str,
    pub(super) names: &'a Names,
    pub(super) settings: &'a Arc<KafkaSettings>,
    pub(super) reconnect_state: &'a ReconnectState,
    pub(super) in_flight: &'a Arc<KafkaInFlight>,
}

/// Running clients, and the topic as one of them found it.
pub(super) struct Opened {
    pub(super) running: Running,
    pub(super) topic: Topic,
    pub(super) ended: ClientsEnded,
}

/// Starts the clients and waits until the topic is found with the expected properties.
///
/// # Errors
/// No broker answers in time, the login is refused, the topic is missing, or it has another number of
/// partitions.
pub(super) async fn open(
    parts: ClientParts<'_>,
    previous: &mut Option<ClientsEnded>,
) -> Result<Opened, SinkError> {
    let (connection, over) = watch::channel(());
    let ended = ClientsEnded(over);
    *previous = Some(ended.clone());
    // Counted before the first client exists.
    let monitor_thread = THREADS.one_more(&connection);
    let (check_request, check_requests) = sync_channel(1);
    let clients = parts.reconnect_state.latency_tuning().clients;
    let clients: Vec<_> = (0..clients)
        .map(|_| client(&parts, check_request.clone()).map(Arc::new))
        .collect::<Result<_, _>>()?;
    let broker_refresh = || BrokerRefresh::new(parts.settings.client.brokers());
    let stop = Arc::new(AtomicBool::new(false));
    let (found, first) = oneshot::channel();
    let monitor = TopicMonitor {
        names: parts.names.clone(),
        pinned: parts.settings.partitions,
        broker_refresh: broker_refresh()?,
        in_flight: Arc::clone(parts.in_flight),
        diagnosis: Diagnosis::new(Arc::clone(parts.settings), parts.names.clone()),
        stop: Arc::clone(&stop),
        check_requests,
    };
    let running = Running { clients: clients.clone(), stop: Arc::clone(&stop), check_request };
    let monitor_client = clients.first().cloned();
    let unstarted = |error: io::Error| SinkError::unavailable("cannot start a thread").caused_by(error);
    for client in clients {
        let (stop, in_flight, names) = (Arc::clone(&stop), Arc::clone(parts.in_flight), parts.names.clone());
        let broker_refresh = broker_refresh()?;
        let run = move || poll(&client, &names, broker_refresh, &stop, &in_flight);
        THREADS.one_more(&connection).start(format!("{}-poll", parts.sink), run).map_err(unstarted)?;
    }
    drop(connection);
    let run = move || {
        if let Some(client) = monitor_client {
            monitor.run(&client, found);
        }
    };
    monitor_thread.start(format!("{}-watch", parts.sink), run).map_err(unstarted)?;
    let topic = first
        .await
        .map_err(|_| SinkError::unavailable("the thread that looks after the topic has ended"))??;
    Ok(Opened { running, topic, ended })
}

/// Makes a client with the properties of the sink and with what earlier connections have learned.
fn client(parts: &ClientParts<'_>, check_request: SyncSender<()>) -> Result<Client, SinkError> {
    let batch_bytes = parts.reconnect_state.batch_bytes();
    let context = Context {
        sink: parts.sink.to_owned(),
        names: parts.names.clone(),
        batch_bytes,
        in_flight: Arc::clone(parts.in_flight),
        reconnect_state: parts.reconnect_state.clone(),
        check_request,
        reports: AtomicU64::new(0),
    };
    let linger = parts.reconnect_state.latency_tuning().linger;
    let config = parts.settings.client.config(parts.client_id, batch_bytes, linger);
    config.create_with_context(context).map_err(unusable)
}

fn unusable(error: KafkaError) -> SinkError {
    SinkError::misconfigured("librdkafka refuses its settings").caused_by(error)
}

fn poll(
    client: &Client,
    names: &Names,
    mut broker_refresh: BrokerRefresh,
    stop: &AtomicBool,
    in_flight: &KafkaInFlight,
) {
    let mut heard = 0;
    while !stop.load(Ordering::Acquire) {
        client.poll(POLL);
        let fatal = client.client().fatal_error();
        if let Some((code, reason)) = &fatal {
            in_flight.end(classify::fatal(*code, reason, names));
        }
        // After a fatal error librdkafka returns the waiting records, but only once: records that come back
        // from a request after that are not returned. Other clients deliver their records.
        if fatal.is_some() || in_flight.wants_purge() {
            // Records that are in a request get their own report.
            client.purge(PurgeConfig::default().queue());
        }
        let reports = client.context().reports.load(Ordering::Relaxed);
        if client.in_flight_count() == 0 || reports != heard {
            heard = reports;
            broker_refresh.heard();
        } else {
            broker_refresh.silent(client);
        }
    }
}
