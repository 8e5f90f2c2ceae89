//! Checks the topic in a thread of its own while the clients run, and reports what is wrong.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use super::broker_refresh::BrokerRefresh;
use super::classify;
use super::client::ANSWER_WITHIN;
use super::client_error::ClientError;
use super::delivery_reports::KafkaClient;
use super::diagnosis::Diagnosis;
use super::in_flight::KafkaInFlight;
use super::names::Names;
use super::permissions;
use super::settings::KafkaSettings;
use super::topic::{Leader, Topic};
use super::topic_lookup::{TopicLookupError, lookup, reaches};
use crate::finding::codes;
use crate::sink::SinkError;

/// The wait between two requests of the first lookup.
const POLL: Duration = Duration::from_millis(100);
/// The wait between two checks of the topic, unless a check is requested.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The time limit for other connections once one has failed.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);
/// The time limit of one request of the first lookup.
const QUESTION: Duration = Duration::from_secs(1);
/// The time limit of a later request. librdkafka drops a connection whose answer comes too late. Behind
/// records on a slow connection an answer comes late.
const LATER_QUESTION: Duration = Duration::from_secs(5);

/// What a connection does with the topic, and so needs the permission for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Checks the topic while the client runs.
pub(super) struct TopicMonitor {
    pub(super) access: Access,
    pub(super) names: Names,
    pub(super) settings: Arc<KafkaSettings>,
    pub(super) broker_refresh: BrokerRefresh,
    pub(super) in_flight: Arc<KafkaInFlight>,
    pub(super) diagnosis: Diagnosis,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) check_requests: Receiver<()>,
}

impl TopicMonitor {
    pub(super) fn run(mut self, client: &KafkaClient, found: oneshot::Sender<Result<Topic, SinkError>>) {
        let first = self.first_lookup(client);
        let count = first.as_ref().map(|topic| topic.partitions).ok();
        let taken = found.send(first);
        if let (Some(count), Ok(())) = (count, taken) {
            self.check_until_stopped(client, count);
        }
    }

    fn check_until_stopped(&mut self, client: &KafkaClient, count: NonZeroU32) {
        loop {
            match self.check_requests.recv_timeout(CHECK_EVERY) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(()) | Err(RecvTimeoutError::Timeout) if self.is_over() => return,
                // A topic that accepts records exists, and a request would only wait behind them. If the
                // brokers throttle, a request would also be answered late.
                Err(RecvTimeoutError::Timeout)
                    if self.in_flight.has_accepted_within(CHECK_EVERY) || self.in_flight.is_throttled() =>
                {
                    self.broker_refresh.heard(Instant::now());
                }
                Ok(()) | Err(RecvTimeoutError::Timeout) => self.check_again(client, count),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Repeats the request until a broker answers, an error is known, or the time is over.
    fn first_lookup(&mut self, client: &KafkaClient) -> Result<Topic, SinkError> {
        let began = Instant::now();
        loop {
            match lookup(client, &self.names, self.settings.partitions, QUESTION) {
                Ok(topic) => return self.checked_topic(client, topic),
                Err(TopicLookupError::Wrong(error)) => return Err(error),
                Err(TopicLookupError::NoAnswer(error)) => {
                    if let Some(ending) = self.in_flight.ending() {
                        return Err(ending);
                    }
                    let failure = self.in_flight.failure();
                    let patience = if failure.is_some() { REFUSED_WITHIN } else { ANSWER_WITHIN };
                    let is_clear = failure.is_some_and(|failure| classify::needs_operator(failure.code));
                    if is_clear || self.is_over() || began.elapsed() >= patience {
                        return Err(self.explain(&error));
                    }
                    // An answer without any broker comes at once, and would come again at once. So wait.
                    let _news = self.check_requests.recv_timeout(POLL);
                }
            }
        }
    }

    /// Checks whether the bridge can use the topic, which exists.
    fn checked_topic(&mut self, client: &KafkaClient, topic: Topic) -> Result<Topic, SinkError> {
        let rights = permissions::rights(client, &self.names.topic, self.settings.optional_answer_within);
        match (self.access, rights) {
            (Access::Write, Some(rights)) if !rights.write => return Err(classify::not_allowed(&self.names)),
            (Access::Read, Some(rights)) if !rights.read => {
                return Err(permissions::may_not_read(&self.names));
            }
            _ => {}
        }
        let mut topic = self.with_round_trip(client, topic);
        topic.may_read = rights.map(|rights| rights.read);
        // Other partitions may work, so the connection goes on while its health has an error.
        let unreached = self.unreached(client, &topic, REFUSED_WITHIN);
        self.in_flight.set_health(unreached);
        Ok(topic)
    }

    /// Repeats the request, because an answer that waited for a connection took longer than the round trip.
    /// The fastest answer counts.
    fn with_round_trip(&self, client: &KafkaClient, topic: Topic) -> Topic {
        let goes_on = |_: &u8| !self.is_over();
        let others = (0..3)
            .take_while(goes_on)
            .filter_map(|_| lookup(client, &self.names, self.settings.partitions, QUESTION).ok());
        let round_trip = others.map(|other| other.round_trip).min().unwrap_or(topic.round_trip);
        Topic { round_trip: round_trip.min(topic.round_trip), ..topic }
    }

    fn check_again(&mut self, client: &KafkaClient, count: NonZeroU32) {
        // Without any connection a request would only wait, and the diagnosis finds the error at once.
        if self.in_flight.take_all_down()
            && let Some(error) = self.diagnosis.diagnose_brokers(self.in_flight.failure().as_ref())
        {
            self.broker_refresh.silent(client);
            return self.in_flight.set_health(Some(error));
        }
        let found = lookup(client, &self.names, None, LATER_QUESTION);
        match &found {
            Err(TopicLookupError::NoAnswer(_)) => self.broker_refresh.silent(client),
            Ok(_) | Err(TopicLookupError::Wrong(_)) => self.broker_refresh.heard(Instant::now()),
        }
        match found {
            Ok(topic) if topic.partitions == count => {
                let unreached = self.unreached(client, &topic, LATER_QUESTION);
                self.in_flight.set_health(unreached);
            }
            Ok(topic) => {
                let (now, before) = (topic.partitions, count);
                let text =
                    format!("the topic {} has {now} partitions now, and had {before}", self.names.topic);
                self.in_flight.end(SinkError::unavailable(text));
                if now < before {
                    // It is another topic of the same name. Waiting records must not go to it with the old
                    // number of partitions.
                    self.in_flight.purge();
                }
            }
            Err(TopicLookupError::Wrong(error)) => self.in_flight.set_health(Some(error)),
            Err(TopicLookupError::NoAnswer(error)) => {
                let error = self.explain(&error);
                self.in_flight.set_health(Some(error));
            }
        }
    }

    /// Returns an error if a leader does not answer or a partition has no leader.
    fn unreached(&mut self, client: &KafkaClient, topic: &Topic, within: Duration) -> Option<SinkError> {
        if let Some(partition) = topic.leaderless {
            let message = format!(
                "partition {partition} of the topic {} has no leader: see that the brokers with its replicas run",
                self.names.topic
            );
            return Some(SinkError::unavailable(message).coded(codes::KAFKA_NO_LEADER));
        }
        // The code that stops this thread waits for its end, so no further leader is asked after the stop.
        let silent = |leader: &&Leader| !self.is_over() && !reaches(client, &self.names, leader, within);
        let leader = topic.leaders.iter().find(silent)?.clone();
        if self.is_over() {
            return None;
        }
        Some(self.diagnosis.diagnose_advertised(
            leader.id,
            &leader.address,
            self.in_flight.failure().as_ref(),
        ))
    }

    /// Explains why no broker has answered for the topic.
    fn explain(&mut self, otherwise: &KafkaError) -> SinkError {
        let failure = self.in_flight.failure();
        if !self.is_over()
            && let Some(error) = self.diagnosis.diagnose_brokers(failure.as_ref())
        {
            return error;
        }
        // The diagnosis takes a while, in which librdkafka may have failed.
        let failure = self.in_flight.failure();
        match &failure {
            Some(ClientError { broker: Some((id, address)), .. }) if !self.is_over() => {
                self.diagnosis.diagnose_advertised(*id, address, failure.as_ref())
            }
            Some(ClientError { code, words, .. }) => classify::classify_failure(*code, words, &self.names),
            None => classify::no_answer(None, &otherwise.to_string(), &self.names),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use std::sync::mpsc::sync_channel;

    use rdkafka::types::RDKafkaErrorCode as Code;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::sink::kafka::config::KafkaConfig;
    use crate::sink::kafka::delivery_reports::Context;
    use crate::sink::kafka::reconnect_state::ReconnectState;
    use crate::sink::kafka::validate::tests::{checked, good};

    /// Listens, counts every connection and closes it.
    struct ClosingPort {
        address: String,
        connections: Arc<AtomicUsize>,
    }

    impl ClosingPort {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let connections = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&connections);
            tokio::spawn(async move {
                while let Ok(_connection) = listener.accept().await {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
            Self { address, connections }
        }

        /// Returns the number of connections before this call, and starts again at zero. Connections are
        /// accepted in order, so the earlier ones are counted once the one made here is closed.
        async fn take_count(&self) -> usize {
            let mut last = TcpStream::connect(&self.address).await.unwrap();
            let _closed = last.read(&mut [0]).await;
            self.connections.swap(0, Ordering::SeqCst) - 1
        }
    }

    /// Makes a monitor with one requested check, and a client that knows no broker: each of its requests waits
    /// for the whole time limit.
    fn monitor(brokers: &str) -> (TopicMonitor, KafkaClient) {
        let config = KafkaConfig { brokers: Some(vec![brokers.to_owned()]), ..good() };
        let settings = Arc::new(checked(&config).unwrap());
        let (names, in_flight) = (Names::of("events"), Arc::new(KafkaInFlight::new(None, None)));
        let (check_request, check_requests) = sync_channel(1);
        check_request.send(()).unwrap();
        let context = Context {
            sink: "kafka".to_owned(),
            names: names.clone(),
            batch_bytes: 1,
            in_flight: Arc::clone(&in_flight),
            reconnect_state: ReconnectState::new(1),
            check_request,
            gate: None,
            reports: AtomicU64::new(0),
        };
        let mut config = settings.client.config("test", 1, Duration::ZERO);
        config.remove("bootstrap.servers");
        let monitor = TopicMonitor {
            access: Access::Write,
            names: names.clone(),
            broker_refresh: BrokerRefresh::new(brokers).unwrap(),
            in_flight,
            diagnosis: Diagnosis::new(Arc::clone(&settings), names),
            settings,
            stop: Arc::default(),
            check_requests,
        };
        (monitor, config.create_with_context(context).unwrap())
    }

    /// The code that stops the monitor waits for the end of its thread.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_stopped_monitor_asks_nothing_more() {
        let port = ClosingPort::start().await;
        let no_answer = KafkaError::MetadataFetch(Code::OperationTimedOut);
        let (mut running, _client) = monitor(&port.address);
        tokio::task::block_in_place(|| running.explain(&no_answer));
        assert!(port.take_count().await > 0, "while it runs it looks at the address");

        let (mut monitor, client) = monitor(&port.address);
        monitor.stop.store(true, Ordering::Release);
        let topic = Topic {
            partitions: NonZeroU32::MIN,
            replicas: 1,
            in_sync: (1, 0),
            followers: Vec::new(),
            advertised: Vec::new(),
            brokers: 1,
            round_trip: Duration::MAX,
            leaders: vec![Leader { id: 1, address: port.address.clone(), partition: 0 }],
            leaderless: None,
            may_read: None,
        };
        let began = Instant::now();
        tokio::task::block_in_place(|| {
            assert!(monitor.unreached(&client, &topic, LATER_QUESTION).is_none());
            monitor.with_round_trip(&client, topic);
            monitor.explain(&no_answer);
            monitor.check_until_stopped(&client, NonZeroU32::MIN);
        });
        // Without the stop `with_round_trip` alone asks three times.
        assert!(began.elapsed() < 3 * QUESTION, "the client was asked");
        assert_eq!(port.take_count().await, 0, "the address was looked at");
    }
}
