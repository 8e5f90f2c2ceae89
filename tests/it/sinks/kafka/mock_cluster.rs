//! Tests the Kafka sink on librdkafka's mock cluster, which returns any error code that a test asks for. The
//! other tests in this folder run on real brokers.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atdata_bridge::diagnostics::Diagnostics;
use atdata_bridge::event::{Batch, Event, Headers, Message, SessionId};
use atdata_bridge::finding::Finding;
use atdata_bridge::key::Keying;
use atdata_bridge::sink::factory::BuildContext;
use atdata_bridge::sink::kafka::config::{KafkaConfig, KafkaProperties};
use atdata_bridge::sink::kafka::{KafkaSink, validate};
use atdata_bridge::sink::{
    Delivery, DeliveryId, Sink, SinkContext, SinkError, SinkErrorKind, Submit, Verdict, Verdicts,
};
use bytes::Bytes;
use kit::SOON;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};

const TOPIC: &str = "events";
const PARTITIONS: u32 = 6;
/// The most events that the sink has in flight, as docs/tuning.md says.
const MAX_DELIVERIES: usize = 16_384;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS as i32, 1).unwrap();
    cluster
}

fn sink_with(cluster: &Cluster, partitions: Option<u32>, properties: KafkaProperties) -> Box<dyn Sink> {
    let config = KafkaConfig {
        brokers: Some(cluster.bootstrap_servers().split(',').map(str::to_owned).collect()),
        topic: Some(TOPIC.to_owned()),
        properties,
        ..KafkaConfig::default()
    };
    let partitions = partitions.and_then(NonZeroU32::new);
    let mut diagnostics = Diagnostics::default();
    let settings = validate::check(
        &config,
        &BuildContext { partitions, prefetch: 1024, is_strict: false, is_for_dead_letters: false },
        &mut diagnostics,
    );
    let context = SinkContext {
        sink: "kafka".to_owned(),
        namespace: "acme".to_owned(),
        destination_id: "d".to_owned(),
        connection_id: "b1".to_owned(),
        queue: "d.RTO.acme".to_owned(),
        partitions,
        table: "sinks.kafka".to_owned(),
        max_body: 1 << 20,
        is_replay: false,
    };
    let mut settings = settings.unwrap_or_else(|| panic!("{:?}", diagnostics.problems()));
    // The mock cluster does not answer these requests.
    settings.optional_answer_within = Duration::from_millis(50);
    Box::new(KafkaSink::new(settings, context))
}

/// A sink that sends the records of a partition in one request. The mock cluster accepts a request behind a
/// refused one. A real broker does not: it checks the sequence numbers of every idempotent producer, the mock only
/// those of transactional ones.
fn collecting_sink(cluster: &Cluster) -> Box<dyn Sink> {
    sink_with(cluster, None, KafkaProperties::new([("linger.ms", "200")]))
}

fn sink(cluster: &Cluster) -> Box<dyn Sink> {
    sink_with(cluster, None, KafkaProperties::default())
}

/// Makes an event with a body of at least `bytes`; every tenth number has the same key.
fn event(n: u64, bytes: usize) -> Event {
    let body = format!("{{\"md5\":\"{:032x}\",\"n\":{n},\"x\":\"{}\"}}", n % 10, "x".repeat(bytes));
    let message = Message {
        id: Bytes::from(format!("ID:{n}")),
        body: Bytes::from(body),
        timestamp: Some(1_700_000_000_000),
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    };
    Event::new(message, &Keying::new(vec!["/md5".to_owned()], false))
}

fn delivery(id: u64, event: Event) -> Delivery {
    let batch = Batch { session: SessionId(1), first: id, events: vec![event], received: Instant::now() };
    Delivery { id: DeliveryId(id), event: Arc::new(batch).refs().next().unwrap() }
}

fn number_of(body: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(body).unwrap()["n"].as_u64().unwrap()
}

type TestConnection = (Box<dyn Submit>, Box<dyn Verdicts>);

/// Submits events as a sink worker does: in order, again after a retry, and to a new connection after a
/// broken one.
struct TestWorker {
    sink: Box<dyn Sink>,
    connection: Option<TestConnection>,
    next: u64,
    in_flight: BTreeMap<u64, Event>,
    queue: VecDeque<Event>,
    rejected: Vec<(u64, &'static str)>,
    errors: Vec<SinkError>,
    connections: usize,
}

impl TestWorker {
    fn new(sink: Box<dyn Sink>) -> Self {
        Self {
            sink,
            connection: None,
            next: 0,
            in_flight: Default::default(),
            queue: Default::default(),
            rejected: Vec::new(),
            errors: Vec::new(),
            connections: 0,
        }
    }

    /// Runs until every event is durable or rejected.
    async fn settle(&mut self, events: impl IntoIterator<Item = Event>) {
        self.queue.extend(events);
        let all = async {
            while !self.queue.is_empty() || !self.in_flight.is_empty() {
                self.step().await;
            }
        };
        tokio::time::timeout(SOON, all).await.expect("settled in time");
    }

    async fn step(&mut self) {
        let Some((submit, verdicts)) = &mut self.connection else {
            self.connections += 1;
            match self.sink.open().await {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => self.errors.push(error),
            }
            return;
        };
        let mut failed = Vec::new();
        let deliveries: Vec<_> =
            (self.next..).zip(&self.queue).map(|(id, event)| delivery(id, event.clone())).collect();
        let mut outcome = submit.submit(&deliveries).map(|taken| {
            self.in_flight.extend((self.next..).zip(self.queue.drain(..taken)));
            self.next += taken as u64;
        });
        // After a retry nothing more is submitted until everything in flight has its verdict.
        while outcome.is_ok() && !self.in_flight.is_empty() {
            match verdicts.next().await {
                Ok(verdicts) => {
                    for (DeliveryId(id), verdict) in verdicts {
                        let event = self.in_flight.remove(&id).expect("one verdict for each delivery");
                        match verdict {
                            Verdict::Durable => {}
                            Verdict::Retry(error) => {
                                self.errors.push(error);
                                failed.push((id, event));
                            }
                            Verdict::Reject(rejection) => {
                                self.rejected.push((number_of(event.body()), rejection.reason));
                            }
                        }
                    }
                }
                Err(error) => outcome = Err(error),
            }
        }
        if let Err(error) = outcome {
            assert!(self.in_flight.is_empty(), "broken with reports missing");
            self.errors.push(error);
            self.connection = None;
        }
        failed.sort_by_key(|(id, _)| *id);
        failed.into_iter().rev().for_each(|(_, event)| self.queue.push_front(event));
    }

    fn health(&self) -> Result<(), SinkError> {
        self.connection.as_ref().expect("open").1.health()
    }
}

/// Reads `count` records, and checks that there are no more.
fn read(cluster: &Cluster, count: usize) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS as i32 {
        assignment.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut records = Vec::new();
    let mut ends = 0;
    let deadline = Instant::now() + SOON;
    while ends < PARTITIONS {
        assert!(Instant::now() < deadline, "{} of {count} records", records.len());
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => records.push(record.detach()),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    records
}

fn numbers(records: &[OwnedMessage]) -> Vec<u64> {
    records.iter().map(|record| number_of(record.payload().unwrap())).collect()
}

/// Checks that exactly the records `expected` are stored, once each, and in the order of their numbers for
/// each key.
fn assert_exactly(cluster: &Cluster, expected: impl IntoIterator<Item = u64>) {
    let expected: Vec<_> = expected.into_iter().collect();
    let mut found = numbers(&read(cluster, expected.len()));
    for key in 0..10 {
        let of_key: Vec<_> = found.iter().filter(|n| *n % 10 == key).collect();
        assert!(of_key.is_sorted(), "key {key}: {of_key:?}");
    }
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn records_have_key_body_and_headers_and_the_partition_of_javas_producer() {
    let cluster = cluster();
    let mut worker = TestWorker::new(sink_with(&cluster, Some(PARTITIONS), KafkaProperties::default()));
    worker.settle((0..500).map(|n| event(n, 0))).await;
    assert_exactly(&cluster, 0..500);
    for record in read(&cluster, 500) {
        let event = event(number_of(record.payload().unwrap()), 0);
        assert_eq!(record.payload(), Some(event.body().as_ref()));
        assert_eq!(record.key(), Some(event.key.to_string().as_bytes()));
        assert_eq!(record.partition(), event.key.partition(NonZeroU32::new(PARTITIONS).unwrap()) as i32);
        let headers = record.headers().unwrap();
        let header = |at: usize| (headers.get(at).key, headers.get(at).value.unwrap());
        assert_eq!(header(0), ("atdata-message-id", event.message.id.as_ref()));
        assert_eq!(header(1), ("atdata-destination", b"d.RTO.acme".as_ref()));
        assert_eq!(header(2), ("atdata-timestamp", b"1700000000000".as_ref()));
        assert_eq!(header(3), ("atdata-redelivered", b"false".as_ref()));
        assert_eq!(header(4), ("atdata-connection-id", b"b1".as_ref()));
    }
    let (mut submit, _) = worker.connection.take().unwrap();
    tokio::time::timeout(SOON, submit.close()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_outage_is_reported_and_nothing_is_duplicated() {
    let cluster = cluster();
    let mut worker = TestWorker::new(sink(&cluster));
    worker.settle((0..10).map(|n| event(n, 0))).await;
    cluster.broker_down(-1).unwrap();
    let (submit, verdicts) = worker.connection.as_mut().unwrap();
    let deliveries: Vec<_> = (10..20).map(|n| delivery(n, event(n, 0))).collect();
    assert_eq!(submit.submit(&deliveries).unwrap(), 10);
    let deadline = Instant::now() + SOON;
    let error = loop {
        match verdicts.health() {
            Err(error) => break error,
            Ok(()) => assert!(Instant::now() < deadline, "healthy without a broker"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(error.kind, SinkErrorKind::Unavailable);
    cluster.broker_up(-1).unwrap();
    let mut durable = 0;
    while durable < 10 {
        for (id, verdict) in tokio::time::timeout(SOON, verdicts.next()).await.unwrap().unwrap() {
            assert!(matches!(verdict, Verdict::Durable), "{id:?}: {verdict:?}");
            durable += 1;
        }
    }
    is_healthy(&**verdicts).await;
    assert_exactly(&cluster, 0..20);
}

#[tokio::test]
async fn without_a_broker_opening_and_probing_fail_in_time() {
    let cluster = cluster();
    cluster.broker_down(-1).unwrap();
    let mut sink = sink(&cluster);
    for _ in 0..2 {
        let Err(error) = tokio::time::timeout(SOON, sink.open()).await.unwrap() else { panic!("opened") };
        assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
    }
    tokio::time::timeout(SOON, sink.probe()).await.unwrap().unwrap_err();
    cluster.broker_up(-1).unwrap();
    let lines = tokio::time::timeout(SOON, sink.probe()).await.unwrap().unwrap();
    assert!(lines[0].message.contains("with 6 partitions"), "{lines:?}");
    let warned = |line: &Finding| {
        line.to_string().starts_with("warning: the partitions of the topic events have one replica")
    };
    assert!(lines.iter().any(warned), "{lines:?}");
    assert_exactly(&cluster, []);
}

#[tokio::test]
async fn a_topic_with_the_wrong_number_of_partitions_holds_the_sink() {
    let cluster = cluster();
    let Err(error) = sink_with(&cluster, Some(5), KafkaProperties::default()).open().await else {
        panic!("opened")
    };
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    let text = error.to_string();
    assert!(text.contains("has 6 partitions, but event.partitions is 5"), "{text}");
}

#[tokio::test]
async fn a_missing_topic_holds_the_sink_and_is_not_made() {
    let cluster = cluster();
    cluster.topic_error(TOPIC, Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let mut sink = sink(&cluster);
    let Err(error) = sink.open().await else { panic!("opened") };
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    assert!(error.to_string().contains("the topic events does not exist"), "{error}");
    cluster.topic_error(TOPIC, Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    sink.open().await.unwrap();
}

#[tokio::test]
async fn a_forbidden_write_holds_the_sink_until_it_is_allowed_and_keeps_order() {
    let cluster = cluster();
    let mut worker = TestWorker::new(collecting_sink(&cluster));
    worker.settle((0..100).map(|n| event(n, 0))).await;
    let denied = [Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3];
    cluster.request_errors(Api::Produce, &denied);
    worker.settle((100..400).map(|n| event(n, 0))).await;
    let error =
        worker.errors.iter().find(|error| error.to_string().contains("not allowed to write")).unwrap();
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    assert!(worker.connections > 1);
    worker.health().unwrap();
    assert_exactly(&cluster, 0..400);
}

/// A worker with a second connection, after an event whose refusal has ended the first one.
async fn after_a_refusal(cluster: &Cluster) -> TestWorker {
    let mut worker = TestWorker::new(sink(cluster));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    worker.queue.push_back(event(1, 0));
    while worker.connections < 2 || worker.connection.is_none() {
        worker.step().await;
    }
    worker
}

#[tokio::test]
async fn the_error_that_ended_a_connection_is_reported_until_a_record_is_durable() {
    let cluster = cluster();
    let mut worker = after_a_refusal(&cluster).await;
    assert_eq!(worker.health().unwrap_err().kind, SinkErrorKind::Misconfigured);
    worker.settle([]).await;
    worker.health().unwrap();
}

#[tokio::test]
async fn the_error_that_ended_a_connection_is_forgotten_with_its_events() {
    let cluster = cluster();
    let worker = after_a_refusal(&cluster).await;
    worker.health().unwrap_err();
    worker.connection.as_ref().expect("open").1.forget_refused();
    worker.health().unwrap();
}

#[tokio::test]
async fn a_record_above_the_local_limit_is_rejected_and_the_others_are_delivered() {
    let cluster = cluster();
    let mut worker =
        TestWorker::new(sink_with(&cluster, None, KafkaProperties::new([("message.max.bytes", "2000")])));
    worker.settle((0..100).map(|n| event(n, if n == 50 { 3000 } else { 0 }))).await;
    assert_eq!(worker.rejected, [(50, "too_large")]);
    assert_eq!(worker.connections, 1);
    assert_exactly(&cluster, (0..100).filter(|n| *n != 50));
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_and_nothing_in_it_is_rejected() {
    let cluster = cluster();
    let mut worker = TestWorker::new(collecting_sink(&cluster));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    worker.settle((0..500).map(|n| event(n, 0))).await;
    assert_eq!(worker.rejected, []);
    assert_eq!(worker.connections, 2, "the next connection makes smaller batches");
    let reported =
        worker.errors.iter().any(|error| error.to_string().contains("going on with batches of 500000 bytes"));
    assert!(reported, "{:?}", worker.errors);
    assert_exactly(&cluster, 0..500);
}

#[tokio::test]
async fn a_record_that_is_alone_and_too_large_is_rejected() {
    let cluster = cluster();
    let mut worker =
        TestWorker::new(sink_with(&cluster, None, KafkaProperties::new([("batch.size", "1000")])));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    worker.settle([event(7, 1000), event(17, 0), event(27, 0)]).await;
    assert_eq!(worker.rejected, [(7, "too_large")]);
    assert_exactly(&cluster, [17, 27]);
}

#[tokio::test]
async fn the_client_retries_temporary_errors_without_reporting_them() {
    let cluster = cluster();
    let mut worker = TestWorker::new(collecting_sink(&cluster));
    let passing = [
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    ];
    cluster.request_errors(Api::Produce, &passing);
    worker.settle((0..300).map(|n| event(n, 0))).await;
    assert!(worker.errors.is_empty(), "{:?}", worker.errors);
    assert_exactly(&cluster, 0..300);
}

#[tokio::test]
async fn every_permanent_failure_in_the_middle_keeps_order() {
    let cluster = cluster();
    // One request of a partition at a time: the mock cluster does not check sequence numbers, so it would accept
    // a request behind a refused one.
    let properties = KafkaProperties::new([("batch.num.messages", "7"), ("linger.ms", "5")]);
    let mut worker = TestWorker::new(sink_with(&cluster, None, properties));
    let refused = [
        Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
        Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    ];
    for (round, error) in (0..).zip(refused) {
        let good = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
        cluster.request_errors(Api::Produce, &[good, good, good, error]);
        worker.settle((round * 300..(round + 1) * 300).map(|n| event(n, 0))).await;
    }
    assert!(worker.connections > 2);
    assert_eq!(worker.rejected, []);
    assert_exactly(&cluster, 0..1200);
}

#[tokio::test]
async fn a_refused_batch_rejects_no_event() {
    let cluster = cluster();
    let mut worker = TestWorker::new(sink(&cluster));
    let good = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.request_errors(Api::Produce, &[good, Code::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    worker.settle((0..2000).map(|n| event(n, 0))).await;
    assert_eq!(worker.rejected, []);
    assert!(worker.connections > 1);
    assert_exactly(&cluster, 0..2000);
    let (submit, _) = worker.connection.as_mut().unwrap();
    let deliveries: Vec<_> = (2000..2010).map(|n| delivery(n, event(n, 0))).collect();
    assert_eq!(submit.submit(&deliveries).unwrap(), 10, "not one by one: all have been accepted since");
}

#[tokio::test]
async fn an_event_that_is_refused_alone_while_others_are_accepted_is_rejected() {
    let cluster = cluster();
    // The linger puts all of them into one batch. Its refusal makes the sink offer them one by one.
    let mut worker = TestWorker::new(collecting_sink(&cluster));
    let (good, refused) = (Code::RD_KAFKA_RESP_ERR_NO_ERROR, Code::RD_KAFKA_RESP_ERR_INVALID_RECORD);
    cluster.request_errors(Api::Produce, &[refused, refused, good, refused]);
    let (first, other) = in_one_partition();
    // The second event has the key of the first.
    worker.settle([first, first + 10, other, other + 10].map(|n| event(n, 0))).await;
    assert_eq!(worker.rejected, [(first, "invalid_record")]);
    let mut delivered = [first + 10, other, other + 10];
    delivered.sort_unstable();
    assert_exactly(&cluster, delivered);
}

/// Returns two of the ten keys with the same partition; there are fewer partitions than keys.
fn in_one_partition() -> (u64, u64) {
    let partition = |n: u64| event(n, 0).key.partition(NonZeroU32::new(PARTITIONS).unwrap());
    let pairs = (0..10).flat_map(|first| (first + 1..10).map(move |other| (first, other)));
    pairs.into_iter().find(|(first, other)| partition(*first) == partition(*other)).unwrap()
}

#[tokio::test]
async fn an_error_of_every_event_holds_the_sink_and_rejects_none() {
    let cluster = cluster();
    let mut worker = TestWorker::new(sink(&cluster));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_INVALID_RECORD; 12]);
    worker.settle((0..50).map(|n| event(n, 0))).await;
    assert_eq!(worker.rejected, []);
    assert!(
        worker.errors.iter().any(|error| error.kind == SinkErrorKind::Misconfigured),
        "{:?}",
        worker.errors
    );
    assert_exactly(&cluster, 0..50);
}

#[tokio::test]
async fn refused_timestamps_hold_the_sink_and_reject_no_event() {
    let cluster = cluster();
    let mut worker = TestWorker::new(sink(&cluster));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP; 4]);
    worker.settle((0..50).map(|n| event(n, 0))).await;
    assert_eq!(worker.rejected, []);
    let error = worker.errors.iter().find(|error| error.to_string().contains("look at the clocks")).unwrap();
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    assert_exactly(&cluster, 0..50);
}

/// One broker leads the partitions and does not answer, while another one names it as leader.
#[tokio::test]
async fn the_sink_is_not_ready_before_it_reaches_the_leader_of_every_partition() {
    let cluster = MockCluster::new(2).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS as i32, 1).unwrap();
    for partition in 0..PARTITIONS as i32 {
        cluster.partition_leader(TOPIC, partition, Some(2)).unwrap();
    }
    let mut sink = sink(&cluster);
    tokio::time::timeout(SOON, sink.probe()).await.unwrap().unwrap();
    cluster.broker_down(2).unwrap();
    let error = tokio::time::timeout(SOON, sink.probe()).await.unwrap().unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
    // The mock cluster does not name a broker that is down, so there is no leader.
    assert!(error.to_string().contains("partition 0 of the topic events has no leader"), "{error}");
    let (_submit, verdicts) = tokio::time::timeout(SOON, sink.open()).await.unwrap().unwrap();
    verdicts.health().unwrap_err();
    cluster.broker_up(2).unwrap();
    is_healthy(&*verdicts).await;
}

/// Waits until the brokers are well, as far as the sink knows.
async fn is_healthy(verdicts: &dyn Verdicts) {
    let deadline = Instant::now() + SOON;
    while let Err(error) = verdicts.health() {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Only then does the broker know the producer in the partition, and refuses a gap in its numbers.
#[tokio::test]
async fn the_first_record_of_each_partition_is_durable_before_the_second_is_accepted() {
    let cluster = cluster();
    let mut sink = sink(&cluster);
    let (mut submit, mut verdicts) = sink.open().await.unwrap();
    let of_one_key: Vec<_> = (0..3).map(|n| delivery(n, event(n * 10, 0))).collect();
    assert_eq!(submit.submit(&of_one_key).unwrap(), 1);
    assert_eq!(submit.submit(&of_one_key[1..]).unwrap(), 0);
    let verdicts = tokio::time::timeout(SOON, verdicts.next()).await.unwrap().unwrap();
    assert!(matches!(verdicts[..], [(DeliveryId(0), Verdict::Durable)]), "{verdicts:?}");
    assert_eq!(submit.submit(&of_one_key[1..]).unwrap(), 2);
}

#[tokio::test]
async fn the_sink_accepts_no_more_than_its_limit() {
    let cluster = cluster();
    let mut worker = TestWorker::new(sink(&cluster));
    // Each partition has its first record.
    worker.settle((0..10).map(|n| event(n, 0))).await;
    let (submit, verdicts) = worker.connection.as_mut().unwrap();
    cluster.broker_down(-1).unwrap();
    let numbers = 10..MAX_DELIVERIES as u64 + 20;
    let deliveries: Vec<_> = numbers.map(|n| delivery(n, event(n, 0))).collect();
    assert_eq!(submit.submit(&deliveries).unwrap(), MAX_DELIVERIES);
    assert_eq!(submit.submit(&deliveries[MAX_DELIVERIES..]).unwrap(), 0);
    cluster.broker_up(-1).unwrap();
    // Brokers that were slow to answer count as far away: then nearly all records come back first.
    let deadline = Instant::now() + SOON;
    loop {
        tokio::time::timeout(SOON, verdicts.next()).await.unwrap().unwrap();
        if submit.submit(&deliveries[MAX_DELIVERIES..]).unwrap() > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "there is no room");
    }
}
