//! The clients of one opening and their threads: one polls each client for reports, and one looks after the
//! topic (`watch.rs`). The lane's task never waits for librdkafka, and never is the one that destroys a client.

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

/// How long one poll lasts; reports come at once, only the end is noticed that late.
const POLL: Duration = Duration::from_millis(100);

/// Resolves once all threads of an opening are over and its clients are gone. Cheap to clone.
#[derive(Clone)]
pub(super) struct ClientsEnded(watch::Receiver<()>);

impl ClientsEnded {
    /// Waits for it. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// Keeps the clients going until it is dropped.
pub(super) struct Running {
    clients: Vec<Arc<Client>>,
    stop: Arc<AtomicBool>,
    look: SyncSender<()>,
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
        // First our own handles: a client is destroyed by one of the threads, since that may take a while.
        self.clients.clear();
        self.stop.store(true, Ordering::Release);
        let _due = self.look.try_send(());
    }
}

/// What an opening is made of.
pub(super) struct ClientParts<'a> {
    pub(super) sink: &'a str,
    pub(super) client_id: &'a str,
    pub(super) names: &'a Names,
    pub(super) settings: &'a Arc<KafkaSettings>,
    pub(super) memory: &'a ReconnectState,
    pub(super) outbox: &'a Arc<KafkaInFlight>,
}

/// Clients of which one has seen the topic.
pub(super) struct Opened {
    pub(super) running: Running,
    pub(super) topic: Topic,
    pub(super) ended: ClientsEnded,
}

/// Makes the clients and waits until the topic is found as it must be.
///
/// # Errors
/// No broker answers in time, the login is refused, the topic is missing or has another number of partitions.
pub(super) async fn open(
    parts: ClientParts<'_>,
    previous: &mut Option<ClientsEnded>,
) -> Result<Opened, SinkError> {
    let (opening, over) = watch::channel(());
    let ended = ClientsEnded(over);
    *previous = Some(ended.clone());
    // Before the first client.
    let living = THREADS.one_more(&opening);
    let (look, looks) = sync_channel(1);
    let clients = parts.memory.latency_tuning().clients;
    let clients: Vec<_> =
        (0..clients).map(|_| client(&parts, look.clone()).map(Arc::new)).collect::<Result<_, _>>()?;
    let reminder = || BrokerRefresh::new(parts.settings.client.brokers());
    let stop = Arc::new(AtomicBool::new(false));
    let (found, first) = oneshot::channel();
    let watch = TopicMonitor {
        names: parts.names.clone(),
        pinned: parts.settings.partitions,
        reminder: reminder()?,
        outbox: Arc::clone(parts.outbox),
        doctor: Diagnosis::new(Arc::clone(parts.settings), parts.names.clone()),
        stop: Arc::clone(&stop),
        looks,
    };
    let running = Running { clients: clients.clone(), stop: Arc::clone(&stop), look };
    let looked_with = clients.first().cloned();
    let unstarted = |error: io::Error| SinkError::unavailable("cannot start a thread").caused_by(error);
    for client in clients {
        let (stop, outbox, names) = (Arc::clone(&stop), Arc::clone(parts.outbox), parts.names.clone());
        let reminder = reminder()?;
        let run = move || poll(&client, &names, reminder, &stop, &outbox);
        THREADS.one_more(&opening).start(format!("{}-poll", parts.sink), run).map_err(unstarted)?;
    }
    drop(opening);
    let run = move || {
        if let Some(client) = looked_with {
            watch.run(&client, found);
        }
    };
    living.start(format!("{}-watch", parts.sink), run).map_err(unstarted)?;
    let topic = first
        .await
        .map_err(|_| SinkError::unavailable("the thread that looks after the topic has ended"))??;
    Ok(Opened { running, topic, ended })
}

/// A client with the properties of the sink, and of its memory.
fn client(parts: &ClientParts<'_>, look: SyncSender<()>) -> Result<Client, SinkError> {
    let batch_bytes = parts.memory.batch_bytes();
    let context = Context {
        sink: parts.sink.to_owned(),
        names: parts.names.clone(),
        batch_bytes,
        outbox: Arc::clone(parts.outbox),
        memory: parts.memory.clone(),
        look,
        reports: AtomicU64::new(0),
    };
    let linger = parts.memory.latency_tuning().linger;
    let config = parts.settings.client.config(parts.client_id, batch_bytes, linger);
    config.create_with_context(context).map_err(unusable)
}

fn unusable(error: KafkaError) -> SinkError {
    SinkError::misconfigured("librdkafka refuses its settings").caused_by(error)
}

fn poll(
    client: &Client,
    names: &Names,
    mut reminder: BrokerRefresh,
    stop: &AtomicBool,
    outbox: &KafkaInFlight,
) {
    let mut heard = 0;
    while !stop.load(Ordering::Acquire) {
        client.poll(POLL);
        let fatal = client.client().fatal_error();
        if let Some((code, reason)) = &fatal {
            outbox.end(classify::fatal(*code, reason, names));
        }
        // After a fatal error librdkafka gives back what waits, but only once: not what comes back from a
        // request after that. Other clients deliver what they have.
        if fatal.is_some() || outbox.wants_purge() {
            // What is in a request gets its own report.
            client.purge(PurgeConfig::default().queue());
        }
        let reports = client.context().reports.load(Ordering::Relaxed);
        if client.in_flight_count() == 0 || reports != heard {
            heard = reports;
            reminder.heard();
        } else {
            reminder.silent(client);
        }
    }
}
