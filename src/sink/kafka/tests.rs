//! The sink on librdkafka's own mock of a cluster; `tests/it` has the same on real brokers, and more.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};

use super::config::Properties;
use super::in_flight::MAX_DELIVERIES;
use super::*;
use crate::event::{Batch, Event, Headers, Message, SessionId};
use crate::key::Keying;
use crate::sink::{Delivery, DeliveryId, SinkErrorKind, Verdict};

const TOPIC: &str = "events";
const PARTITIONS: u32 = 6;
const SOON: Duration = Duration::from_secs(30);

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS as i32, 1).unwrap();
    cluster
}

fn sink_with(cluster: &Cluster, partitions: Option<u32>, properties: Properties) -> KafkaSink {
    let config = KafkaConfig {
        brokers: Some(cluster.bootstrap_servers().split(',').map(str::to_owned).collect()),
        topic: Some(TOPIC.to_owned()),
        properties,
        ..KafkaConfig::default()
    };
    let partitions = partitions.and_then(NonZeroU32::new);
    let mut findings = Diagnostics::default();
    let settings = validate::check(&config, &BuildContext { partitions, prefetch: 1024 }, &mut findings);
    let context = SinkContext {
        sink: "kafka".to_owned(),
        namespace: "acme".to_owned(),
        destination_id: "d".to_owned(),
        connection_id: "b1".to_owned(),
        queue: "d.RTO.acme".to_owned(),
        partitions,
        table: "sinks.kafka".to_owned(),
        max_body: 1 << 20,
    };
    KafkaSink::new(settings.unwrap_or_else(|| panic!("{:?}", findings.problems())), context)
}

fn sink(cluster: &Cluster) -> KafkaSink {
    sink_with(cluster, None, Properties::default())
}

/// An event with a body of `bytes` at least; every tenth number has the same key.
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

type OpenedHalves = (Box<dyn Submit>, Box<dyn Verdicts>);

/// Hands events over as a lane does: in order, again after a retry, and to a new opening after a broken one.
struct TestWorker {
    sink: KafkaSink,
    halves: Option<OpenedHalves>,
    next: u64,
    flying: std::collections::BTreeMap<u64, Event>,
    line: std::collections::VecDeque<Event>,
    rejected: Vec<(u64, &'static str)>,
    errors: Vec<SinkError>,
    openings: usize,
}

impl TestWorker {
    fn new(sink: KafkaSink) -> Self {
        Self {
            sink,
            halves: None,
            next: 0,
            flying: Default::default(),
            line: Default::default(),
            rejected: Vec::new(),
            errors: Vec::new(),
            openings: 0,
        }
    }

    /// Until every event is durable or rejected.
    async fn settle(&mut self, events: impl IntoIterator<Item = Event>) {
        self.line.extend(events);
        let all = async {
            while !self.line.is_empty() || !self.flying.is_empty() {
                self.step().await;
            }
        };
        tokio::time::timeout(SOON, all).await.expect("settled in time");
    }

    async fn step(&mut self) {
        let Some((submit, verdicts)) = &mut self.halves else {
            self.openings += 1;
            match self.sink.open().await {
                Ok(halves) => self.halves = Some(halves),
                Err(error) => self.errors.push(error),
            }
            return;
        };
        let mut failed = Vec::new();
        let deliveries: Vec<_> =
            (self.next..).zip(&self.line).map(|(id, event)| delivery(id, event.clone())).collect();
        let mut outcome = submit.submit(&deliveries).map(|taken| {
            self.flying.extend((self.next..).zip(self.line.drain(..taken)));
            self.next += taken as u64;
        });
        // After a retry nothing more is handed over until all that is in flight has its verdict.
        while outcome.is_ok() && !self.flying.is_empty() {
            match verdicts.next().await {
                Ok(verdicts) => {
                    for (DeliveryId(id), verdict) in verdicts {
                        let event = self.flying.remove(&id).expect("one verdict for each delivery");
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
            assert!(self.flying.is_empty(), "broken with reports missing");
            self.errors.push(error);
            self.halves = None;
        }
        failed.sort_by_key(|(id, _)| *id);
        failed.into_iter().rev().for_each(|(_, event)| self.line.push_front(event));
    }

    fn health(&self) -> Result<(), SinkError> {
        self.halves.as_ref().expect("open").1.health()
    }
}

/// Reads `count` records, and then makes sure that there are no more.
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

/// That `expected` are there, once each, and in the order of their numbers for each key.
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
async fn records_carry_key_body_and_headers_and_lie_where_java_would_put_them() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink_with(&cluster, Some(PARTITIONS), Properties::default()));
    lane.settle((0..500).map(|n| event(n, 0))).await;
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
    let (mut submit, _) = lane.halves.take().unwrap();
    tokio::time::timeout(SOON, submit.close()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_outage_is_ridden_out_visibly_and_doubles_nothing() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink(&cluster));
    lane.settle((0..10).map(|n| event(n, 0))).await;
    cluster.broker_down(-1).unwrap();
    let (submit, verdicts) = lane.halves.as_mut().unwrap();
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
    verdicts.health().unwrap();
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
    assert!(lines[0].contains("with 6 partitions"), "{lines:?}");
    let warned =
        |line: &String| line.starts_with("warning: the partitions of the topic events have one replica");
    assert!(lines.iter().any(warned), "{lines:?}");
    assert_exactly(&cluster, []);
}

#[tokio::test]
async fn a_topic_with_another_number_of_partitions_holds() {
    let cluster = cluster();
    let Err(error) = sink_with(&cluster, Some(5), Properties::default()).open().await else {
        panic!("opened")
    };
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    let text = error.to_string();
    assert!(text.contains("has 6 partitions, but event.partitions is 5"), "{text}");
}

#[tokio::test]
async fn a_topic_that_is_missing_holds_and_is_not_made() {
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
async fn what_is_not_allowed_holds_until_it_is_and_keeps_order() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink(&cluster));
    lane.settle((0..100).map(|n| event(n, 0))).await;
    let denied = [Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3];
    cluster.request_errors(Api::Produce, &denied);
    lane.settle((100..400).map(|n| event(n, 0))).await;
    let error = lane.errors.iter().find(|error| error.to_string().contains("not allowed to write")).unwrap();
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    assert!(lane.openings > 1);
    lane.health().unwrap();
    assert_exactly(&cluster, 0..400);
}

#[tokio::test]
async fn a_trouble_that_ended_an_opening_is_shown_until_a_record_is_durable() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink(&cluster));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    lane.line.push_back(event(1, 0));
    while lane.openings < 2 || lane.halves.is_none() {
        lane.step().await;
    }
    assert_eq!(lane.health().unwrap_err().kind, SinkErrorKind::Misconfigured);
    lane.settle([]).await;
    lane.health().unwrap();
}

#[tokio::test]
async fn a_record_above_the_local_limit_is_rejected_and_its_neighbours_go_on() {
    let cluster = cluster();
    let mut lane =
        TestWorker::new(sink_with(&cluster, None, Properties::new([("message.max.bytes", "2000")])));
    lane.settle((0..100).map(|n| event(n, if n == 50 { 3000 } else { 0 }))).await;
    assert_eq!(lane.rejected, [(50, "too_large")]);
    assert_eq!(lane.openings, 1);
    assert_exactly(&cluster, (0..100).filter(|n| *n != 50));
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_and_nothing_in_it_is_rejected() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink(&cluster));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    lane.settle((0..500).map(|n| event(n, 0))).await;
    assert_eq!(lane.rejected, []);
    assert_eq!(lane.sink.memory.batch_bytes(), 500_000);
    assert_exactly(&cluster, 0..500);
}

#[tokio::test]
async fn a_record_that_is_alone_and_too_large_is_rejected() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink_with(&cluster, None, Properties::new([("batch.size", "1000")])));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    lane.settle([event(7, 1000), event(17, 0), event(27, 0)]).await;
    assert_eq!(lane.rejected, [(7, "too_large")]);
    assert_exactly(&cluster, [17, 27]);
}

#[tokio::test]
async fn errors_that_pass_are_not_even_seen() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink(&cluster));
    let passing = [
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    ];
    cluster.request_errors(Api::Produce, &passing);
    lane.settle((0..300).map(|n| event(n, 0))).await;
    assert!(lane.errors.is_empty(), "{:?}", lane.errors);
    assert_exactly(&cluster, 0..300);
}

#[tokio::test]
async fn every_kind_of_permanent_failure_in_the_middle_keeps_order() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink_with(&cluster, None, Properties::new([("batch.num.messages", "7")])));
    let refused = [
        Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
        Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    ];
    for (round, error) in (0..).zip(refused) {
        let good = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
        cluster.request_errors(Api::Produce, &[good, good, good, error]);
        lane.settle((round * 300..(round + 1) * 300).map(|n| event(n, 0))).await;
    }
    assert!(lane.openings > 2);
    assert_eq!(lane.rejected, []);
    assert_exactly(&cluster, 0..1200);
}

#[tokio::test]
async fn a_refusal_of_a_batch_rejects_nothing() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink(&cluster));
    let good = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.request_errors(Api::Produce, &[good, Code::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    lane.settle((0..2000).map(|n| event(n, 0))).await;
    assert_eq!(lane.rejected, []);
    assert!(lane.openings > 1);
    assert_exactly(&cluster, 0..2000);
    assert!(!lane.sink.memory.has_refused_batch(), "all have been accepted since");
}

#[tokio::test]
async fn an_event_is_rejected_that_alone_is_refused_again_while_others_are_accepted() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink(&cluster));
    lane.sink.memory.refused();
    let (good, refused) = (Code::RD_KAFKA_RESP_ERR_NO_ERROR, Code::RD_KAFKA_RESP_ERR_INVALID_RECORD);
    cluster.request_errors(Api::Produce, &[refused, good, refused]);
    let (first, other) = in_one_partition();
    // The second has the key of the first.
    lane.settle([first, first + 10, other, other + 10].map(|n| event(n, 0))).await;
    assert_eq!(lane.rejected, [(first, "invalid_record")]);
    let mut delivered = [first + 10, other, other + 10];
    delivered.sort_unstable();
    assert_exactly(&cluster, delivered);
}

/// Two of the ten keys: there are fewer partitions.
fn in_one_partition() -> (u64, u64) {
    let partition = |n: u64| event(n, 0).key.partition(NonZeroU32::new(PARTITIONS).unwrap());
    let pairs = (0..10).flat_map(|first| (first + 1..10).map(move |other| (first, other)));
    pairs.into_iter().find(|(first, other)| partition(*first) == partition(*other)).unwrap()
}

#[tokio::test]
async fn what_hits_every_event_holds_and_rejects_none() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink(&cluster));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_INVALID_RECORD; 12]);
    lane.settle((0..50).map(|n| event(n, 0))).await;
    assert_eq!(lane.rejected, []);
    assert!(lane.errors.iter().any(|error| error.kind == SinkErrorKind::Misconfigured), "{:?}", lane.errors);
    assert_exactly(&cluster, 0..50);
}

#[tokio::test]
async fn timestamps_that_are_refused_hold_and_reject_none() {
    let cluster = cluster();
    let mut lane = TestWorker::new(sink(&cluster));
    cluster.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP; 4]);
    lane.settle((0..50).map(|n| event(n, 0))).await;
    assert_eq!(lane.rejected, []);
    let error = lane.errors.iter().find(|error| error.to_string().contains("look at the clocks")).unwrap();
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    assert_exactly(&cluster, 0..50);
}

/// A broker that leads partitions and does not answer, while another one says where they are.
#[tokio::test]
async fn it_is_not_ready_before_the_leaders_of_all_partitions_are_reached() {
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
    // The mock cluster names no broker that is down, and so no leader.
    assert!(error.to_string().contains("partition 0 of the topic events has no leader"), "{error}");
    let (_submit, verdicts) = tokio::time::timeout(SOON, sink.open()).await.unwrap().unwrap();
    verdicts.health().unwrap_err();
    cluster.broker_up(2).unwrap();
    let deadline = Instant::now() + SOON;
    while let Err(error) = verdicts.health() {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn it_takes_no_more_than_it_may() {
    let cluster = cluster();
    let mut sink = sink(&cluster);
    let (mut submit, mut verdicts) = sink.open().await.unwrap();
    cluster.broker_down(-1).unwrap();
    let deliveries: Vec<_> = (0..MAX_DELIVERIES as u64 + 10).map(|n| delivery(n, event(n, 0))).collect();
    assert_eq!(submit.submit(&deliveries).unwrap(), MAX_DELIVERIES);
    assert_eq!(submit.submit(&deliveries[MAX_DELIVERIES..]).unwrap(), 0);
    cluster.broker_up(-1).unwrap();
    tokio::time::timeout(SOON, verdicts.next()).await.unwrap().unwrap();
    assert!(submit.submit(&deliveries[MAX_DELIVERIES..]).unwrap() > 0);
}
