//! Tests what only OpenWire has, on the real brokers: message kinds that STOMP lacks, which events are marked
//! as redelivered, and a full prefetch window while nothing is settled. Other modules test what the two
//! protocols share.

use std::fs;
use std::io::{Read, Write};

use atdata_bridge::budget::Budget;
use atdata_bridge::secret::Secret;
use atdata_bridge::source::openwire::wire::command::{Command, decode};
use atdata_bridge::source::openwire::wire::framing::{OpenWireDecoder, OpenWireLimits};
use atdata_bridge::source::openwire::wire::ids::{Destination, DestinationKind, MessageId, ProducerId};
use atdata_bridge::source::openwire::wire::info::{ConnectionInfo, SessionInfo};
use atdata_bridge::source::openwire::wire::message::{MessageKind, WireMessage};
use atdata_bridge::source::openwire::wire::primitives::FieldWriter;
use atdata_bridge::source::openwire::wire::properties::{self, Value};
use atdata_bridge::source::openwire::wire::wire_format::WireFormatInfo;
use atdata_bridge::source::protocol::java_text::java_bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use kit::admin::Admin;
use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Options, Protocol, SLOW_ACKS, Version, shared};
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::java_client::JavaClient;
use kit::output::{Tally, json_lines};
use kit::scenario::{
    PATIENCE, Unusable, counts, drain, emptied, grown, publish, ready_after, says, subscribed,
};
use kit::stomp::{Connection, Login};
use kit::{SOON, on_each_broker, wait_until};

on_each_broker!(
    every_kind_of_message_arrives_or_becomes_a_dead_letter,
    messages_of_javas_client_arrive_or_become_complete_dead_letters,
    no_event_is_marked_after_a_clean_close_and_all_received_events_after_a_kill,
    the_whole_prefetch_arrives_while_nothing_is_settled,
    a_consumer_that_the_broker_removes_comes_back,
    the_bridge_waits_for_a_connection_id_that_stomp_uses,
);

fn setup(broker: &Broker, namespace: &str) -> Setup {
    Setup::new(broker, Protocol::OpenWire, namespace, "main", &format!("{namespace}-1"))
}

async fn every_kind_of_message_arrives_or_becomes_a_dead_letter(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.ow-kinds");
    let setup = setup(broker, "ow-kinds");
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;

    let body = |n: u64| format!(r#"{{"md5":"{}","n":{n},"text":"é😀"}}"#, Events::good(9).key(n));
    let zlib = |bytes: &[u8]| {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(bytes).expect("compress");
        zlib.finish().expect("compress")
    };
    // As Java does: the compressed data is longer than the length says.
    let mut bytes = u32::try_from(body(3).len()).expect("short").to_be_bytes().to_vec();
    bytes.extend(zlib(&[body(3).as_bytes(), &[0; 700]].concat()));
    let map = properties::encode(&[("md5".to_owned(), Value::Text(Events::good(9).key(4)))]);

    let mut producer = Producer::connect(broker, "ow-kinds").await;
    producer.send(MessageKind::Text, text_content(&body(0)), false).await;
    producer.send(MessageKind::Bytes, body(1).into(), false).await;
    producer.send(MessageKind::Text, zlib(&text_content(&body(2))).into(), true).await;
    producer.send(MessageKind::Bytes, bytes.into(), true).await;
    producer.send(MessageKind::Map, map.clone(), false).await;
    producer.send(MessageKind::Text, Bytes::from_static(b"corrupt"), true).await;
    producer.send(MessageKind::Text, text_content(&body(6)), false).await;
    emptied(broker, queue).await;

    let metrics = Admin::of(&bridge).await.metrics().await;
    let labels = format!(r#"{{queue="{queue}"}}"#);
    // The messages whose Java text has a character beyond U+FFFF.
    assert_eq!(metrics.value(&format!("atdata_bridge_events_repaired_total{labels}")), 3.0);
    drain(bridge).await;
    let arrived: Vec<String> = json_lines(setup.files()).iter().map(ToString::to_string).collect();
    let expected = [0, 1, 2, 3, 6]
        .map(|n| serde_json::from_str::<serde_json::Value>(&body(n)).expect("JSON").to_string());
    assert_eq!(arrived, expected);
    let letters = json_lines(setup.dead_letters());
    let reasons: Vec<_> = letters.iter().map(|letter| letter["reason"].as_str()).collect();
    assert_eq!(reasons, [Some("unreadable_body"); 2]);
    assert!(letters[0]["detail"].as_str().is_some_and(|detail| detail.contains("Map")), "{letters:?}");
    let dead_letter_body = letters[0]["body"].as_str().expect("a map of short texts is text");
    assert_eq!(dead_letter_body.as_bytes(), map);
    assert!(letters[0]["message_id"].as_str().is_some_and(|id| id.ends_with(":1:1:5")), "{letters:?}");
}

async fn messages_of_javas_client_arrive_or_become_complete_dead_letters(version: Version) {
    let (broker, queue, topic) = (shared(version), "main.RTO.ow-java", "RTO.ow-java");
    let setup = setup(broker, "ow-java");
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    let Login { username, password, .. } = Login::producer();
    let url = broker.url_of(Protocol::OpenWire);
    let java = JavaClient::new(version, &url, username, password, "ow-java-producer");
    assert_eq!(java.connect(), "connected");

    let body = |n: u64| format!(r#"{{"md5":"{}","n":{n},"text":"é😀"}}"#, Events::good(9).key(n));
    for (n, kind) in (0..).zip(["text", "bytes", "compressed-text", "compressed-bytes"]) {
        java.publish(kind, topic, &body(n));
    }
    let others = ["map", "object", "stream", "blob", "compressed-map", "compressed-object", "bare"];
    others.iter().for_each(|kind| java.publish(kind, topic, "who knows"));
    java.0.stop();
    emptied(broker, queue).await;
    drain(bridge).await;

    let arrived: Vec<_> = json_lines(setup.files()).iter().map(ToString::to_string).collect();
    let sent = |n| serde_json::from_str::<serde_json::Value>(&body(n)).expect("JSON").to_string();
    assert_eq!(arrived, [0, 1, 2, 3].map(sent));
    let letters = json_lines(setup.dead_letters());
    let details: Vec<_> = letters.iter().map(|letter| letter["detail"].as_str().expect("text")).collect();
    let names = [
        ": Map ",
        ": Object ",
        ": Stream ",
        ": Blob ",
        ": compressed Map ",
        ": compressed Object ",
        "the body is neither",
    ];
    assert_eq!(details.len(), names.len(), "{details:?}");
    for ((kind, letter), name) in others.iter().zip(&letters).zip(names) {
        let detail = letter["detail"].as_str().expect("text");
        assert!(detail.contains(name), "{kind}: {detail}");
        let headers = letter["headers"].as_array().expect("headers");
        for header in [
            ("boolean", "true"),
            ("byte", "-2"),
            ("short", "-300"),
            ("int", "-70000"),
            ("long", "-5000000000"),
            ("float", "1.5"),
            ("double", "-0.25"),
            ("string", "é😀"),
            ("JMSXGroupID", "people"),
            ("JMSXGroupSeq", "7"),
            ("correlation-id", "correlated"),
            ("type", "open"),
            ("persistent", "true"),
            ("original-destination", "/topic/RTO.ow-java"),
        ] {
            let header = serde_json::json!([header.0, header.1]);
            assert!(headers.contains(&header), "{kind} lacks {header}: {headers:?}");
        }
    }
    // The raw bytes contain the data, for anyone who can decode them.
    let raw = |n: usize| match letters[n]["body"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(letters[n]["body_base64"].as_str().expect("base64")).expect("base64"),
    };
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
    for n in [0, 1, 2] {
        assert!(holds(&raw(n), "who knows"), "{}", letters[n]);
    }
    assert!(holds(&raw(3), "http://localhost/blob?"), "{}", letters[3]);
    let mut map = Vec::new();
    ZlibDecoder::new(&raw(4)[..]).read_to_end(&mut map).expect("zlib");
    assert!(holds(&map, "who knows"), "{map:?}");
}

/// Events that were on their way to a bridge that drains were never delivered to it (`protocols.md §3.8`).
async fn no_event_is_marked_after_a_clean_close_and_all_received_events_after_a_kill(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.ow-marks");
    let events = Events::good(40_000);
    let setup = setup(broker, "ow-marks");
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    drain(bridge).await;
    publish(broker, "ow-marks", events).await;
    let sample = |name: &str| format!(r#"atdata_bridge_events_{name}_total{{queue="{queue}"}}"#);

    let bridge = setup.start();
    grown(setup.files(), 400_000).await;
    drain(bridge).await;
    let before = counts(broker, queue).dequeued;
    assert!(before < events.count / 2, "the backlog was gone before the close: {before}");

    let bridge = setup.start();
    let admin = admin_of_start(3, &bridge).await;
    let received = sample("received");
    let metrics = admin
        .metrics_until("more events were received than were in flight", |metrics| {
            metrics.find(&received).is_some_and(|received| received > 2048.0)
        })
        .await;
    assert_eq!(metrics.value(&sample("redelivered")), 0.0);
    // A bridge that is faster than the broker may have acknowledged all that it has. Once nothing changes any more, what
    // is in flight is not acknowledged.
    bridge.freeze();
    let mut last = None;
    wait_until("events stay in flight", SOON, || {
        let now = counts(broker, queue);
        let before = last.replace((now.dequeued, now.in_flight));
        now.in_flight > 0 && before == Some((now.dequeued, now.in_flight))
    })
    .await;
    bridge.kill();

    let bridge = setup.start();
    let redelivered = sample("redelivered");
    admin_of_start(4, &bridge)
        .await
        .metrics_until("an event is redelivered", |metrics| {
            metrics.find(&redelivered).is_some_and(|redelivered| redelivered > 0.0)
        })
        .await;
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(1024);
}

/// Returns the admin server of the process that was started as number `times`; all processes share one log.
async fn admin_of_start(times: usize, bridge: &Bridge) -> Admin {
    let logged = || bridge.log().matches("admin: /livez").count();
    wait_until("the log has the address of the admin server", SOON, || logged() == times).await;
    Admin::of(bridge).await
}

/// If a broker with a backlog on its disk gets no acknowledgement, it sends a few hundred messages and then
/// nothing (`protocols.md §3.11`).
async fn the_whole_prefetch_arrives_while_nothing_is_settled(version: Version) {
    let (broker, queue) = (Broker::start(version, Options::default()), "main.RTO.acme");
    let events = Events::good(3000);
    Consumer::subscribe(&broker, queue, 1, Acks::Never).await.close().await;
    publish(&broker, "acme", events).await;
    broker.restart();
    let setup = setup(&broker, "acme");
    fs::create_dir_all(setup.files()).expect("make a directory");
    let unusable = Unusable::make(setup.files());

    let bridge = setup.start();
    wait_until("the whole prefetch is in flight", SOON, || {
        let in_flight = counts(&broker, queue).in_flight;
        assert!(in_flight <= 1024, "more events are in flight than the prefetch allows: {in_flight}");
        in_flight == 1024
    })
    .await;
    unusable.restore();
    emptied(&broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

async fn a_consumer_that_the_broker_removes_comes_back(version: Version) {
    let options = Options { slow_consumers: Some(SLOW_ACKS), ..Options::default() };
    let (broker, queue) = (Broker::start(version, options), "main.RTO.acme");
    let events = Events::good(1000);
    let setup = setup(&broker, "acme");
    fs::create_dir_all(setup.files()).expect("make a directory");
    let unusable = Unusable::make(setup.files());
    let mut bridge = setup.start();
    subscribed(&broker, queue, 1).await;
    publish(&broker, "acme", events).await;
    says(&mut bridge, "the broker has taken the subscription away").await;
    let said = bridge.log().len();
    unusable.restore();
    ready_after(&mut bridge, said, "source").await;
    emptied(&broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

async fn the_bridge_waits_for_a_connection_id_that_stomp_uses(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.ow-named");
    let login = Login::customer().client_id("ow-named-1");
    let holder = Connection::login(broker.addr(), &login).await.expect("log in");
    let setup = setup(broker, "ow-named").set("LOG__FILTER", "debug");
    let mut bridge = setup.start();
    says(&mut bridge, "the connection id is still in use, from tcp://127.0.0.1:").await;
    holder.disconnect().await.expect("disconnect");
    subscribed(broker, queue, 1).await;
    drain(bridge).await;
}

fn text_content(text: &str) -> Bytes {
    let text = java_bytes(text);
    [&u32::try_from(text.len()).expect("short").to_be_bytes(), &text[..]].concat().into()
}

/// Publishes messages that only OpenWire has. The bridge's own codec encodes them, and a real broker reads
/// them.
struct Producer {
    stream: TcpStream,
    decoder: OpenWireDecoder,
    commands: i32,
    id: ProducerId,
    topic: Destination,
    sent: i64,
}

impl Producer {
    async fn connect(broker: &Broker, namespace: &str) -> Self {
        let connection = Bytes::from(format!("ID:test-{namespace}-1"));
        let topic = Destination { kind: DestinationKind::Topic, name: format!("RTO.{namespace}").into() };
        let mut producer = Self {
            stream: TcpStream::connect(broker.addr_of(Protocol::OpenWire)).await.expect("connect"),
            decoder: OpenWireDecoder::new(OpenWireLimits::with_body(1 << 20), Budget::new(1 << 20)),
            commands: 0,
            id: ProducerId { connection: connection.clone(), session: 1, value: 1 },
            topic,
            sent: 0,
        };
        let login = Login::producer();
        let mut handshake = Vec::new();
        Command::WireFormatInfo(WireFormatInfo::offer(PATIENCE, PATIENCE, i64::MAX)).encode(
            0,
            false,
            &mut handshake,
        );
        producer.stream.write_all(&handshake).await.expect("send the handshake");
        let login = Command::ConnectionInfo(ConnectionInfo {
            connection: connection.clone(),
            client_id: Some(format!("test-{namespace}")),
            password: Some(Secret::new(login.password)),
            user_name: Some(login.username.to_owned()),
        });
        producer.request(&login).await;
        producer.request(&Command::SessionInfo(SessionInfo { connection, value: 1 })).await;
        producer.send_producer_info().await;
        producer
    }

    /// Sends a ProducerInfo (`protocols.md §3.5`), which the bridge's own codec does not have.
    async fn send_producer_info(&mut self) {
        self.commands += 1;
        let mut command = Vec::new();
        let mut writer = FieldWriter(&mut command);
        writer.byte(6);
        writer.int(self.commands);
        writer.bool(true); // responseRequired
        writer.object(123);
        writer.text(Some(&self.id.connection));
        writer.long(self.id.value);
        writer.long(self.id.session);
        writer.null(); // destination
        writer.null(); // brokerPath
        writer.bool(false); // dispatchAsync
        writer.int(0); // window
        let size = u32::try_from(command.len()).expect("short").to_be_bytes();
        self.request_in_bytes(&[&size, &command[..]].concat()).await;
    }

    /// Sends a persistent message and waits until the broker has it.
    async fn send(&mut self, kind: MessageKind, content: Bytes, compressed: bool) {
        self.sent += 1;
        let id = MessageId {
            text_view: None,
            producer: self.id.clone(),
            producer_sequence: self.sent,
            broker_sequence: 0,
        };
        let mut message = WireMessage::new(kind, id);
        message.destination = Some(self.topic.clone());
        message.persistent = true;
        message.timestamp = 1_700_000_000_000;
        message.content = Some(content);
        message.compressed = compressed;
        self.request(&Command::Message(message)).await;
    }

    async fn request(&mut self, command: &Command) {
        self.commands += 1;
        let mut bytes = Vec::new();
        command.encode(self.commands, true, &mut bytes);
        self.request_in_bytes(&bytes).await;
    }

    async fn request_in_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("send");
        timeout(SOON, self.wait_for_response()).await.expect("a response in time");
    }

    async fn wait_for_response(&mut self) {
        loop {
            let mut frames = Vec::new();
            self.decoder.decode(&mut frames).expect("frames");
            for frame in &frames {
                match decode(frame).expect("a command").command {
                    Command::Response { correlation_id } if correlation_id == self.commands => return,
                    refusal @ (Command::ExceptionResponse { .. } | Command::ConnectionError { .. }) => {
                        panic!("{refusal:?}")
                    }
                    _ => {}
                }
            }
            let read = self.stream.read_buf(self.decoder.buffer()).await.expect("read");
            assert_ne!(read, 0, "the broker has closed the connection");
        }
    }
}
