//! Runs the parts of the hot path on their own, with events that are prepared before.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use atdata_bridge::backoff::BackoffConfig;
use atdata_bridge::budget::Budget;
use atdata_bridge::dead_letter::{DeadLetter, DeadLetterLimits, DeadLetterStore};
use atdata_bridge::diagnostics::Diagnostics;
use atdata_bridge::event::{Headers, Message, SessionId};
use atdata_bridge::finding::Finding;
use atdata_bridge::key::Keying;
use atdata_bridge::pipeline::{self, PipelineParts};
use atdata_bridge::sink::factory::{BuildContext, SinkKind};
use atdata_bridge::sink::file::FileKind;
use atdata_bridge::sink::file::config::FileConfig;
use atdata_bridge::sink::kafka::KafkaKind;
use atdata_bridge::sink::kafka::config::{KafkaConfig, KafkaProperties};
use atdata_bridge::sink::{
    Delivery, DeliveryId, Position, RecordSender, Sink, SinkContext, SinkError, Submit, Verdict, Verdicts,
};
use atdata_bridge::source::openwire::wire::body::body;
use atdata_bridge::source::openwire::wire::command::{self, Command};
use atdata_bridge::source::openwire::wire::framing::{OpenWireDecoder, OpenWireLimits};
use atdata_bridge::source::openwire::wire::ids::{ConsumerId, Destination, MessageId};
use atdata_bridge::source::openwire::wire::message::{Dispatch, MessageKind, WireMessage};
use atdata_bridge::source::stomp::framing::{StompDecoder, StompLimits};
use atdata_bridge::source::{Disconnect, Incoming, Source};
use atdata_bridge::telemetry::counters::SubscriptionCounters;
use atdata_bridge::telemetry::status::StatusRegistry;
use atdata_bridge::telemetry::watchdog::Watchdog;
use bytes::Bytes;
use kit::events::Events;
use kit::stomp::write_message;
use rdkafka::mocking::MockCluster;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A part of the hot path, and its recorded cost per event.
pub struct Part {
    pub name: &'static str,
    /// Carries so many events out of so many prepared ones.
    pub run: fn(u64, u64),
    /// In the release profile, in all threads; of a sink with the instructions of its client library.
    pub instructions: f64,
    /// In Rust, in all threads.
    pub allocations: f64,
    /// How far the allocations may differ from the recorded ones: more where batches depend on timing.
    pub allocations_margin: f64,
}

impl Part {
    const fn new(name: &'static str, run: fn(u64, u64), instructions: f64, allocations: (f64, f64)) -> Self {
        Self { name, run, instructions, allocations: allocations.0, allocations_margin: allocations.1 }
    }

    /// Whether so many allocations per event are the recorded ones.
    pub fn is_as_recorded(&self, allocations: f64) -> bool {
        (allocations - self.allocations).abs() <= self.allocations_margin
    }
}

/// The allocations are a pair: the recorded number, and the margin.
pub const PARTS: [Part; 7] = [
    Part::new("decode-stomp", decode_stomp, 2220.0, (0.01, 0.01)),
    Part::new("decode-openwire", decode_openwire, 3830.0, (0.01, 0.01)),
    Part::new("key", find_keys, 2460.0, (0.0, 0.0)),
    Part::new("pipeline-in-batches", pipeline_in_batches, 3730.0, (0.14, 0.02)),
    Part::new("pipeline-one-by-one", pipeline_one_by_one, 14_400.0, (9.0, 0.02)),
    Part::new("file-sink", write_files, 4160.0, (0.09, 0.06)),
    Part::new("kafka-sink", produce, 16_200.0, (1.18, 0.25)),
];

/// The most bytes of one socket read.
const READ: usize = 64 << 10;
/// Events in a batch of a fast broker.
const BATCH: usize = 64;
/// The prefetch of all parts.
const WINDOW: usize = 1024;

fn keying() -> Keying {
    Keying::new(vec!["/md5".to_owned()], false)
}

fn message(number: u64) -> Message {
    Message {
        id: Bytes::from(format!("ID:broker-40001-1700000000000-3:1:-1:1:{number}")),
        body: Bytes::from(Events::good(u64::MAX).body(number)),
        timestamp: Some(1_700_000_000_000),
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    }
}

/// Passes the first `size` bytes of `wire` to a decoder in pieces, as a socket does.
fn in_pieces(wire: &[u8], size: usize, mut piece: impl FnMut(&[u8]) -> usize) {
    let mut rest = &wire[..size];
    while !rest.is_empty() {
        let taken = piece(&rest[..rest.len().min(READ)]);
        rest = &rest[taken..];
    }
}

/// Fills the free space of a decoder's buffer, and returns how many bytes there was room for.
fn fill(buffer: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let room = bytes.len().min(buffer.capacity() - buffer.len());
    buffer.extend_from_slice(&bytes[..room]);
    room
}

fn decode_stomp(events: u64, prepared: u64) {
    let mut wire = String::new();
    let mut size = 0;
    for number in 0..prepared {
        write_message(&mut wire, number, &Events::good(prepared).body(number));
        if number + 1 == events {
            size = wire.len();
        }
    }
    let mut decoder = StompDecoder::new(StompLimits::with_body(1 << 20), Budget::new(usize::MAX));
    let (mut frames, mut count) = (Vec::new(), 0);
    in_pieces(wire.as_bytes(), size, |bytes| {
        let taken = fill(decoder.buffer(), bytes);
        decoder.decode(&mut frames).expect("frames");
        count += frames.len() as u64;
        frames.clear();
        taken
    });
    assert_eq!(count, events);
}

fn decode_openwire(events: u64, prepared: u64) {
    let (queue, consumer) = (Destination::queue("bench.RTO.acme"), ConsumerId::default());
    let mut wire = Vec::new();
    let mut size = 0;
    for number in 0..prepared {
        let text = Events::good(prepared).body(number).into_bytes();
        let length = u32::try_from(text.len()).expect("a short body").to_be_bytes();
        let message = WireMessage {
            destination: Some(queue.clone()),
            persistent: true,
            timestamp: 1_700_000_000_000,
            content: Some([&length[..], &text].concat().into()),
            ..WireMessage::new(MessageKind::Text, MessageId::default())
        };
        let dispatch = Dispatch {
            consumer: consumer.clone(),
            destination: Some(queue.clone()),
            message: Some(message),
            redelivery_counter: 0,
        };
        Command::MessageDispatch(dispatch).encode(0, false, &mut wire);
        if number + 1 == events {
            size = wire.len();
        }
    }
    let budget = Budget::new(usize::MAX);
    let mut decoder = OpenWireDecoder::new(OpenWireLimits::with_body(1 << 20), budget.clone());
    let (mut frames, mut count) = (Vec::new(), 0);
    in_pieces(&wire, size, |bytes| {
        let taken = fill(decoder.buffer(), bytes);
        decoder.decode(&mut frames).expect("frames");
        for frame in frames.drain(..) {
            let Command::MessageDispatch(dispatch) = command::decode(&frame).expect("a command").command
            else {
                panic!("another command")
            };
            let message = dispatch.message.expect("a message");
            black_box(body(&message, 1 << 20, &budget).expect("a body"));
            count += 1;
        }
        taken
    });
    assert_eq!(count, events);
}

fn find_keys(events: u64, prepared: u64) {
    let bodies: Vec<String> = Events::good(prepared).bodies().collect();
    let keying = keying();
    for body in bodies.iter().take(usize::try_from(events).expect("a length")) {
        black_box(keying.key_of(body.as_bytes()).expect("a key"));
    }
}

fn pipeline_in_batches(events: u64, prepared: u64) {
    block_on(carry(events, prepared, BATCH, Pace::AtOnce, Box::new(NullSink)));
}

fn pipeline_one_by_one(events: u64, prepared: u64) {
    block_on(carry(events, prepared, 1, Pace::AtOnce, Box::new(NullSink)));
}

fn write_files(events: u64, prepared: u64) {
    let directory = tempfile::tempdir().expect("make a directory");
    let config = FileConfig { directory: Some(directory.path().to_owned()), ..FileConfig::default() };
    block_on(carry(events, prepared, WINDOW, Pace::AfterAck, sink::<FileKind>(config)));
}

fn produce(events: u64, prepared: u64) {
    let cluster = MockCluster::new(1).expect("start a mock cluster");
    cluster.create_topic("events", 4, 1).expect("make a topic");
    let config = KafkaConfig {
        brokers: Some(vec![cluster.bootstrap_servers()]),
        topic: Some("events".to_owned()),
        // Without a linger the number of requests, and so the counts, would depend on the load of the machine.
        properties: KafkaProperties::new([("linger.ms", "50")]),
        ..KafkaConfig::default()
    };
    block_on(carry(events, prepared, BATCH, Pace::AtOnce, sink::<KafkaKind>(config)));
}

fn sink<K: SinkKind>(config: K::Config) -> Box<dyn Sink> {
    let mut diagnostics = Diagnostics::default();
    let factory = K::check(
        config,
        &BuildContext { partitions: None, prefetch: WINDOW, is_strict: false, is_for_dead_letters: false },
        &mut diagnostics,
    );
    let context = SinkContext {
        sink: "sink".to_owned(),
        namespace: "acme".to_owned(),
        destination_id: "bench".to_owned(),
        connection_id: "bench-1".to_owned(),
        queue: "bench.RTO.acme".to_owned(),
        max_body: 1 << 20,
        ..SinkContext::default()
    };
    factory.unwrap_or_else(|| panic!("{:?}", diagnostics.problems())).build(context)
}

fn block_on(part: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("start a runtime").block_on(part);
}

/// When the source gives the next batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    AtOnce,
    /// When everything before is acknowledged. This bounds the number of groups of the file sink, however fast the disk
    /// syncs.
    AfterAck,
}

/// Carries events through dispatcher, ack tracker and worker into `sink`, in batches of `batch`.
async fn carry(events: u64, prepared: u64, batch: usize, pace: Pace, sink: Box<dyn Sink>) {
    let messages: Vec<Message> = (0..prepared).map(message).collect();
    let mut batches: VecDeque<Vec<Message>> = messages.chunks(batch).map(<[Message]>::to_vec).collect();
    batches.truncate(usize::try_from(events).expect("a length") / batch);
    let drain = CancellationToken::new();
    let source =
        PreparedSource { batches, pace, is_new: true, events, given: 0, acked: 0, drain: drain.clone() };
    let parts = PipelineParts {
        name: None,
        queue: "main.RTO.acme".to_owned(),
        source: Box::new(source),
        sinks: vec![("sink".to_owned(), sink)],
        keying: keying(),
        prefetch: WINDOW,
        dead_letters: Arc::new(NoLetters),
        limits: DeadLetterLimits::new(100, 0.5),
        backoff: BackoffConfig::default(),
        counters: Arc::<SubscriptionCounters>::default(),
        statuses: StatusRegistry::default(),
        watchdog: Watchdog::default(),
    };
    let ended = pipeline::run(parts, drain).await;
    assert_eq!(ended.expect("no fault"), Disconnect::Confirmed);
}

/// Gives prepared batches, and stops the pipeline once all of them are acknowledged.
struct PreparedSource {
    batches: VecDeque<Vec<Message>>,
    pace: Pace,
    is_new: bool,
    events: u64,
    given: u64,
    acked: u64,
    drain: CancellationToken,
}

#[async_trait]
impl Source for PreparedSource {
    async fn next(&mut self) -> Option<Incoming> {
        if std::mem::take(&mut self.is_new) {
            return Some(Incoming::Session(SessionId(1)));
        }
        // The dispatcher asks again after each acknowledgement.
        let is_early = self.pace == Pace::AfterAck && self.acked < self.given;
        let Some(batch) = (!is_early).then(|| self.batches.pop_front()).flatten() else {
            return std::future::pending().await;
        };
        self.given += batch.len() as u64;
        Some(Incoming::Messages(batch))
    }

    fn ack(&mut self, _session: SessionId, through: u64) {
        self.acked = through;
        if through == self.events {
            self.drain.cancel();
        }
    }

    fn give_up(&mut self, _: SessionId) {}

    async fn close(&mut self) -> Disconnect {
        Disconnect::Confirmed
    }
}

struct NoLetters;

#[async_trait]
impl DeadLetterStore for NoLetters {
    fn place(&self) -> &str {
        "nowhere"
    }

    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        panic!("{letters:?}");
    }

    async fn open(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn probe(&self) -> Result<Vec<Finding>, SinkError> {
        Ok(Vec::new())
    }

    async fn read_back(&self, _: Option<Position>, _: RecordSender) -> Result<(), SinkError> {
        Ok(())
    }

    async fn close(&self) {}
}

/// Answers each delivery at once.
struct NullSink;

#[derive(Default)]
struct Answers {
    verdicts: Mutex<Vec<(DeliveryId, Verdict)>>,
    news: Notify,
}

struct NullSubmit(Arc<Answers>);

struct NullVerdicts(Arc<Answers>);

#[async_trait]
impl Sink for NullSink {
    fn keeps_order(&self) -> bool {
        true
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        let answers = Arc::<Answers>::default();
        Ok((Box::new(NullSubmit(Arc::clone(&answers))), Box::new(NullVerdicts(answers))))
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Submit for NullSubmit {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        let verdicts = deliveries.iter().map(|delivery| (delivery.id, Verdict::Durable));
        self.0.verdicts.lock().expect("no panic").extend(verdicts);
        self.0.news.notify_one();
        Ok(deliveries.len())
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

#[async_trait]
impl Verdicts for NullVerdicts {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        loop {
            let verdicts = std::mem::take(&mut *self.0.verdicts.lock().expect("no panic"));
            if !verdicts.is_empty() {
                return Ok(verdicts);
            }
            self.0.news.notified().await;
        }
    }
}
