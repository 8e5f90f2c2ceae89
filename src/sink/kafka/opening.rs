//! The clients of one opening and their threads: one polls each client for reports, and one looks after the
//! topic. The lane's task never waits for librdkafka, and never is the one that destroys a client.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::{oneshot, watch};

use super::client::ANSWER_WITHIN;
use super::config::KafkaSettings;
use super::context::Context;
use super::judge;
use super::living::THREADS;
use super::memory::Memory;
use super::outbox::Outbox;
use super::reminder::Reminder;
use crate::sink::SinkError;

/// How long one poll lasts; reports come at once, only the end is noticed that late.
const POLL: Duration = Duration::from_millis(100);
/// Between two looks at the topic, unless something asks for one.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// So long for the others, once one connection has failed.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);
/// One question of the first look.
const QUESTION: Duration = Duration::from_secs(1);
/// The question of a later one. librdkafka drops the connection on which an answer comes too late, and behind
/// records on a slow way it comes late.
const LATER_QUESTION: Duration = Duration::from_secs(5);

/// A client.
pub(super) type Client = BaseProducer<Context>;

/// What a look found.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    /// How many partitions it has.
    pub(super) partitions: NonZeroU32,
    /// The smallest number of replicas of a partition.
    pub(super) replicas: usize,
    /// How many brokers the cluster has.
    pub(super) brokers: usize,
    /// How long the answer took.
    pub(super) round_trip: Duration,
}

/// Resolves once all threads of an opening are over and its clients are gone. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ended(watch::Receiver<()>);

impl Ended {
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
pub(super) struct Parts<'a> {
    pub(super) sink: &'a str,
    pub(super) client_id: &'a str,
    pub(super) settings: &'a KafkaSettings,
    pub(super) memory: &'a Memory,
    pub(super) outbox: &'a Arc<Outbox>,
}

/// Clients of which one has seen the topic.
pub(super) struct Opened {
    pub(super) running: Running,
    pub(super) topic: Topic,
    pub(super) ended: Ended,
}

/// Makes the clients and waits until the topic is found as it must be.
///
/// # Errors
/// No broker answers in time, the login is refused, the topic is missing or has another number of partitions.
pub(super) async fn open(parts: Parts<'_>, previous: &mut Option<Ended>) -> Result<Opened, SinkError> {
    let (opening, over) = watch::channel(());
    let ended = Ended(over);
    *previous = Some(ended.clone());
    // Before the first client.
    let living = THREADS.one_more(&opening);
    let (look, looks) = sync_channel(1);
    let clients = parts.memory.distance().clients;
    let clients: Vec<_> =
        (0..clients).map(|_| client(&parts, look.clone()).map(Arc::new)).collect::<Result<_, _>>()?;
    let reminder = || Reminder::new(parts.settings.client.brokers());
    let stop = Arc::new(AtomicBool::new(false));
    let (found, first) = oneshot::channel();
    let watch = Watch {
        topic: parts.settings.topic.clone(),
        pinned: parts.settings.partitions,
        reminder: reminder()?,
        outbox: Arc::clone(parts.outbox),
        stop: Arc::clone(&stop),
        looks,
    };
    let running = Running { clients: clients.clone(), stop: Arc::clone(&stop), look };
    let looked_with = clients.first().cloned();
    let unstarted = |error: io::Error| SinkError::unavailable("cannot start a thread").caused_by(error);
    for client in clients {
        let (stop, outbox, topic) =
            (Arc::clone(&stop), Arc::clone(parts.outbox), parts.settings.topic.clone());
        let reminder = reminder()?;
        let run = move || poll(&client, &topic, reminder, &stop, &outbox);
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
fn client(parts: &Parts<'_>, look: SyncSender<()>) -> Result<Client, SinkError> {
    let batch_bytes = parts.memory.batch_bytes();
    let context = Context {
        sink: parts.sink.to_owned(),
        topic: parts.settings.topic.clone(),
        batch_bytes,
        outbox: Arc::clone(parts.outbox),
        memory: parts.memory.clone(),
        look,
        reports: AtomicU64::new(0),
    };
    let linger = parts.memory.distance().linger;
    let config = parts.settings.client.config(parts.client_id, batch_bytes, linger);
    config.create_with_context(context).map_err(unusable)
}

fn unusable(error: KafkaError) -> SinkError {
    SinkError::misconfigured("librdkafka refuses its settings").caused_by(error)
}

fn poll(client: &Client, topic: &str, mut reminder: Reminder, stop: &AtomicBool, outbox: &Outbox) {
    let mut heard = 0;
    while !stop.load(Ordering::Acquire) {
        client.poll(POLL);
        let fatal = client.client().fatal_error();
        if let Some((code, reason)) = &fatal {
            outbox.end(judge::fatal(*code, reason, topic));
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

/// Looks after the topic while the client runs.
struct Watch {
    topic: String,
    /// `event.partitions`.
    pinned: Option<NonZeroU32>,
    reminder: Reminder,
    outbox: Arc<Outbox>,
    stop: Arc<AtomicBool>,
    looks: Receiver<()>,
}

impl Watch {
    fn run(mut self, client: &Client, found: oneshot::Sender<Result<Topic, SinkError>>) {
        let first = self.first_look(client);
        let count = first.as_ref().map(|topic| topic.partitions).ok();
        let taken = found.send(first);
        let (Some(count), Ok(())) = (count, taken) else { return };
        loop {
            match self.looks.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(()) | Err(RecvTimeoutError::Timeout) if self.is_over() => return,
                // A topic that takes records is there, and a question would only wait behind them.
                Err(RecvTimeoutError::Timeout) if self.outbox.was_durable_within(LOOK_EVERY) => {
                    self.reminder.heard();
                }
                Ok(()) | Err(RecvTimeoutError::Timeout) => self.look_again(client, count),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Asks until there is an answer, a trouble is known, or the time is over.
    fn first_look(&self, client: &Client) -> Result<Topic, SinkError> {
        let began = Instant::now();
        loop {
            match look(client, &self.topic, self.pinned, QUESTION) {
                Ok(topic) => return Ok(self.at_its_distance(client, topic)),
                Err(Looked::Wrong(error)) => return Err(error),
                Err(Looked::NoAnswer(error)) => {
                    let known = self.outbox.trouble().or_else(|| self.outbox.ending());
                    let patience =
                        if self.outbox.reason().is_some() { REFUSED_WITHIN } else { ANSWER_WITHIN };
                    if known.is_some() || self.is_over() || began.elapsed() >= patience {
                        return Err(known.unwrap_or_else(|| self.no_answer(&error)));
                    }
                    // An answer that names no broker comes at once, and would again.
                    let _news = self.looks.recv_timeout(POLL);
                }
            }
        }
    }

    /// Answers that waited for a connection took longer than the way: the quickest of a few tells the distance.
    fn at_its_distance(&self, client: &Client, topic: Topic) -> Topic {
        let others = (0..3).filter_map(|_| look(client, &self.topic, self.pinned, QUESTION).ok());
        let round_trip = others.map(|other| other.round_trip).min().unwrap_or(topic.round_trip);
        Topic { round_trip: round_trip.min(topic.round_trip), ..topic }
    }

    fn look_again(&mut self, client: &Client, count: NonZeroU32) {
        let found = look(client, &self.topic, None, LATER_QUESTION);
        match &found {
            Err(Looked::NoAnswer(_)) => self.reminder.silent(client),
            Ok(_) | Err(Looked::Wrong(_)) => self.reminder.heard(),
        }
        match found {
            Ok(topic) if topic.partitions == count => self.outbox.set_trouble(None),
            Ok(topic) => {
                let (now, before) = (topic.partitions, count);
                let text = format!("the topic {} has {now} partitions now, and had {before}", self.topic);
                self.outbox.end(SinkError::unavailable(text));
                if now < before {
                    // Another topic of the same name: what waits must not go to it by the old count.
                    self.outbox.purge();
                }
            }
            Err(Looked::Wrong(error)) => self.outbox.set_trouble(Some(error)),
            Err(Looked::NoAnswer(error)) => {
                let known = self.outbox.trouble().unwrap_or_else(|| self.no_answer(&error));
                self.outbox.set_trouble(Some(known));
            }
        }
    }

    fn no_answer(&self, error: &KafkaError) -> SinkError {
        judge::no_answer(self.outbox.reason().as_deref(), &error.to_string())
    }
}

/// Why a look found nothing to go on with.
enum Looked {
    /// The brokers say what is wrong.
    Wrong(SinkError),
    /// They say nothing.
    NoAnswer(KafkaError),
}

/// Asks the brokers for the topic. Never creates it.
fn look(client: &Client, name: &str, pinned: Option<NonZeroU32>, within: Duration) -> Result<Topic, Looked> {
    let asked = Instant::now();
    let metadata = client.client().fetch_metadata(Some(name), within).map_err(Looked::NoAnswer)?;
    let round_trip = asked.elapsed();
    if metadata.brokers().is_empty() {
        // librdkafka now knows none, either (`reminder.rs`).
        return Err(Looked::NoAnswer(KafkaError::MetadataFetch(Code::BrokerNotAvailable)));
    }
    let topic = metadata.topics().first();
    let missing = || Looked::Wrong(judge::trouble(Code::UnknownTopic, name));
    let topic = topic.ok_or_else(missing)?;
    if let Some(code) = topic.error() {
        return Err(Looked::Wrong(judge::trouble(code.into(), name)));
    }
    let partitions =
        u32::try_from(topic.partitions().len()).ok().and_then(NonZeroU32::new).ok_or_else(missing)?;
    match pinned {
        Some(pinned) if pinned != partitions => Err(Looked::Wrong(SinkError::misconfigured(format!(
            "the topic {name} has {partitions} partitions, but event.partitions is {pinned}: make them the same"
        )))),
        _ => Ok(Topic {
            partitions,
            replicas: topic
                .partitions()
                .iter()
                .map(|partition| partition.replicas().len())
                .min()
                .unwrap_or(0),
            brokers: metadata.brokers().len(),
            round_trip,
        }),
    }
}
