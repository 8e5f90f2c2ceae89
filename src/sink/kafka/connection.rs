//! Starts the clients of one connection and their threads: one thread polls each client for reports, and one
//! monitors the topic (`topic_monitor.rs`). The sink worker's task never waits for librdkafka, and never
//! destroys a client.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer, PurgeConfig};
use tokio::sync::oneshot;

use super::KafkaSink;
use super::broker_refresh::BrokerRefresh;
use super::classify;
use super::client::make_transactional;
use super::client_threads::THREADS;
use super::commit_gate::CommitGate;
use super::delivery_reports::{Context, KafkaClient};
use super::diagnosis::Diagnosis;
use super::in_flight::KafkaInFlight;
use super::names::Names;
use super::records::Records;
use super::running_clients::RunningClients;
use super::topic::Topic;
use super::topic_monitor::{Access, TopicMonitor};
use super::transactions::TransactionThread;
use super::visibility::Visibility;
use crate::sink::SinkError;

/// The duration of one poll. Reports come at once; only the end is noticed this late.
const POLL: Duration = Duration::from_millis(100);

/// Running clients, and the topic as one of them found it.
pub(super) struct Opened {
    pub(super) running: RunningClients,
    pub(super) topic: Topic,
}

impl KafkaSink {
    /// Starts new clients after the previous ones have ended: clients of two connections never exist at once.
    /// Waits until the topic is found with the expected properties.
    ///
    /// # Errors
    /// No broker answers in time, the login is refused, the topic is missing, it has another number of
    /// partitions, or `access` is not allowed.
    pub(super) async fn connect(
        &self,
        in_flight: &Arc<KafkaInFlight>,
        access: Access,
    ) -> Result<Opened, SinkError> {
        self.threads.ended().await;
        // Counted before the first client exists.
        let monitor_thread = THREADS.one_more(&self.threads);
        let (check_request, check_requests) = sync_channel(1);
        let gate: Option<Arc<CommitGate>> = self.settings.exactly_once.then(Arc::default);
        let clients: Vec<_> = (0..self.clients())
            .map(|_| self.client(gate.clone(), in_flight, check_request.clone()).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (found, first) = oneshot::channel();
        let monitor = self.monitor(access, in_flight, &stop, check_requests)?;
        let running = RunningClients {
            clients: clients.clone(),
            gate: gate.clone(),
            stop: Arc::clone(&stop),
            check_request,
        };
        let monitor_client = clients.first().cloned();
        if let (Some(gate), Some(client)) = (&gate, clients.first()) {
            self.start_transactions(client, gate, &stop, in_flight)?;
        }
        for client in clients {
            self.start_polling(client, Arc::clone(&stop), Arc::clone(in_flight))?;
        }
        let run = move || {
            if let Some(client) = monitor_client {
                monitor.run(&client, found);
            }
        };
        monitor_thread.start(format!("{}-watch", self.context.sink), run).map_err(unstarted)?;
        let ended = |_| SinkError::unavailable("the thread that looks after the topic has ended");
        Ok(Opened { running, topic: first.await.map_err(ended)?? })
    }

    /// Makes the monitor of the topic, which ends when `stop` is set.
    fn monitor(
        &self,
        access: Access,
        in_flight: &Arc<KafkaInFlight>,
        stop: &Arc<AtomicBool>,
        check_requests: Receiver<()>,
    ) -> Result<TopicMonitor, SinkError> {
        Ok(TopicMonitor {
            access,
            names: self.names.clone(),
            settings: Arc::clone(&self.settings),
            broker_refresh: self.broker_refresh()?,
            in_flight: Arc::clone(in_flight),
            diagnosis: Diagnosis::new(Arc::clone(&self.settings), self.names.clone()),
            stop: Arc::clone(stop),
            check_requests,
        })
    }

    /// Makes a client with the properties of the sink and with what earlier connections have learned.
    fn client(
        &self,
        gate: Option<Arc<CommitGate>>,
        in_flight: &Arc<KafkaInFlight>,
        check_request: SyncSender<()>,
    ) -> Result<KafkaClient, SinkError> {
        let batch_bytes = self.reconnect_state.batch_bytes();
        let context = Context {
            sink: self.context.sink.clone(),
            names: self.names.clone(),
            batch_bytes,
            in_flight: Arc::clone(in_flight),
            reconnect_state: self.reconnect_state.clone(),
            check_request,
            gate,
            reports: AtomicU64::new(0),
        };
        let client_id = &self.context.connection_id;
        let mut config = self.settings.client.config(client_id, batch_bytes, self.tuning.linger);
        config.set("max.in.flight", self.tuning.requests.to_string());
        if context.gate.is_some() {
            make_transactional(&mut config, &self.names.transactional_id());
        }
        config.create_with_context(context).map_err(refused)
    }

    fn visibility(&self) -> Result<Visibility, SinkError> {
        let (client, client_id) = (&self.settings.client, &self.context.connection_id);
        let config = client.config(client_id, client.batch_bytes(), Duration::ZERO);
        Visibility::new(config, &self.names.topic).map_err(refused)
    }

    fn start_polling(
        &self,
        client: Arc<KafkaClient>,
        stop: Arc<AtomicBool>,
        in_flight: Arc<KafkaInFlight>,
    ) -> Result<(), SinkError> {
        let (names, broker_refresh) = (self.names.clone(), self.broker_refresh()?);
        let run = move || poll(&client, &names, broker_refresh, &stop, &in_flight);
        let thread = THREADS.one_more(&self.threads);
        thread.start(format!("{}-poll", self.context.sink), run).map_err(unstarted)
    }

    /// Starts the thread that writes the transactions of a client.
    fn start_transactions(
        &self,
        client: &Arc<KafkaClient>,
        gate: &Arc<CommitGate>,
        stop: &Arc<AtomicBool>,
        in_flight: &Arc<KafkaInFlight>,
    ) -> Result<(), SinkError> {
        let transactions = TransactionThread {
            client: Arc::clone(client),
            gate: Arc::clone(gate),
            records: self.records(in_flight),
            visibility: self.visibility()?,
            names: self.names.clone(),
            in_flight: Arc::clone(in_flight),
            reconnect_state: self.reconnect_state.clone(),
            stop: Arc::clone(stop),
            last_begin: None,
            visible_after: Duration::ZERO,
        };
        let thread = THREADS.one_more(&self.threads);
        thread.start(format!("{}-commit", self.context.sink), || transactions.run()).map_err(unstarted)
    }

    /// What the records of a connection need.
    pub(super) fn records(&self, in_flight: &Arc<KafkaInFlight>) -> Records {
        Records {
            context: Arc::clone(&self.context),
            names: self.names.clone(),
            in_flight: Arc::clone(in_flight),
            record_bytes: self.settings.client.record_bytes(),
        }
    }

    fn broker_refresh(&self) -> Result<BrokerRefresh, SinkError> {
        BrokerRefresh::new(self.settings.client.brokers())
    }
}

fn refused(error: KafkaError) -> SinkError {
    SinkError::misconfigured("librdkafka refuses its settings").caused_by(error)
}

fn unstarted(error: io::Error) -> SinkError {
    SinkError::unavailable("cannot start a thread").caused_by(error)
}

fn poll(
    client: &KafkaClient,
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
            broker_refresh.heard(Instant::now());
        } else {
            broker_refresh.silent(client);
        }
    }
}
