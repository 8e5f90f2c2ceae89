//! The destinations for which the contract is tested.

mod kafka;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use async_nats::jetstream::stream;
use async_nats::{HeaderMap, Subscriber};
use async_trait::async_trait;
use atdata_bridge::diagnostics::Diagnostics;
use atdata_bridge::event::Event;
use atdata_bridge::secret::Secret;
use atdata_bridge::sink::factory::{BuildContext, SinkKind};
use atdata_bridge::sink::file::FileSink;
use atdata_bridge::sink::file::config::{FileCompression, FileConfig, RotateConfig};
use atdata_bridge::sink::file::validate::check;
use atdata_bridge::sink::nats::config::{DeliveryMode, NatsConfig};
use atdata_bridge::sink::{Sink, SinkContext};
use atdata_bridge::units::Size;
use futures_util::StreamExt;
use tokio::sync::Mutex as AsyncMutex;

pub use self::kafka::{MockTopic, Topic};
use super::Subject;
use crate::sinks::memory::{MemoryHandle, MemorySink, ScriptedVerdict};
use crate::sinks::nats::sink;
use crate::sinks::webhook::Receiver;
use crate::sinks::webhook::sink::{WebhookConfig, WebhookKind};
use kit::nats::{NatsServer, read_stream};
use kit::scenario::Unusable;

/// The memory sink. `contents` joins the events of all instances.
pub struct Memory {
    keeps_order: bool,
    handles: Mutex<Vec<MemoryHandle>>,
    away: Mutex<bool>,
}

impl Memory {
    pub fn new(keeps_order: bool) -> Self {
        Self { keeps_order, handles: Mutex::default(), away: Mutex::new(false) }
    }

    /// Builds a sink that returns the verdicts of `script`.
    pub fn scripted(&self, script: impl FnMut(&Event) -> ScriptedVerdict + Send + 'static) -> Box<dyn Sink> {
        let sink = MemorySink::new(self.keeps_order, 100);
        sink.handle().script(script);
        self.handles.lock().unwrap().push(sink.handle());
        Box::new(sink)
    }

    /// Makes all instances report that they are degraded, or that they no longer are. Nothing else changes.
    pub fn set_degraded(&self, degraded: bool) {
        self.handles.lock().unwrap().iter().for_each(|handle| handle.set_degraded(degraded));
    }

    fn reachable(&self, reachable: bool) {
        *self.away.lock().unwrap() = !reachable;
        for handle in &*self.handles.lock().unwrap() {
            handle.reachable(reachable);
        }
    }
}

#[async_trait]
impl Subject for Memory {
    fn sink(&self) -> Box<dyn Sink> {
        let sink = MemorySink::new(self.keeps_order, 100);
        sink.handle().reachable(!*self.away.lock().unwrap());
        self.handles.lock().unwrap().push(sink.handle());
        Box::new(sink)
    }

    async fn fail(&self) {
        self.reachable(false);
    }

    async fn heal(&self) {
        self.reachable(true);
    }

    async fn contents(&self) -> Vec<u64> {
        let handles = self.handles.lock().unwrap();
        let ids = handles.iter().flat_map(|handle| handle.log());
        ids.map(|id| id.rsplit(':').next().unwrap().parse().unwrap()).collect()
    }
}

/// A sink from another crate, and the server that it posts to.
pub struct Webhook(Receiver);

impl Webhook {
    pub async fn new() -> Self {
        Self(Receiver::start().await)
    }
}

#[async_trait]
impl Subject for Webhook {
    fn sink(&self) -> Box<dyn Sink> {
        let config = WebhookConfig {
            url: Some(self.0.url().to_owned()),
            token: Some(Secret::new("hush")),
            ..WebhookConfig::default()
        };
        let build_context =
            BuildContext { partitions: None, prefetch: 1024, is_strict: false, is_for_dead_letters: false };
        let factory = WebhookKind::check(config, &build_context, &mut Diagnostics::default()).unwrap();
        factory.build(context())
    }

    async fn fail(&self) {
        self.0.away(true);
    }

    async fn heal(&self) {
        self.0.away(false);
    }

    async fn contents(&self) -> Vec<u64> {
        let number = |event: &serde_json::Value| {
            let body: serde_json::Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
            body["n"].as_u64().expect("a number")
        };
        self.0.events().iter().map(number).collect()
    }
}

/// Returns the context that every subject's sink gets.
pub fn context() -> SinkContext {
    SinkContext {
        sink: "subject".to_owned(),
        namespace: "acme".to_owned(),
        destination_id: "d".to_owned(),
        connection_id: "b1".to_owned(),
        queue: "d.RTO.acme".to_owned(),
        partitions: None,
        table: "sinks.subject".to_owned(),
        max_body: 4 << 20,
        is_replay: false,
    }
}

/// The file sink, with files so small that it finishes files all the time.
pub struct Files {
    parent: tempfile::TempDir,
    compression: FileCompression,
    unusable: Mutex<Option<Unusable>>,
}

impl Files {
    pub fn new(compression: FileCompression) -> Self {
        Self { parent: tempfile::tempdir().unwrap(), compression, unusable: Mutex::default() }
    }

    fn directory(&self) -> PathBuf {
        self.parent.path().join("events")
    }

    /// Reads every file once, under the name that it has now; fails if the names change meanwhile.
    fn read(&self) -> io::Result<Vec<u64>> {
        let mut lines = Vec::new();
        for (base, name) in self.files()? {
            let content = fs::read(self.directory().join(format!("{base}{name}")))?;
            lines.extend(if name.contains("zst") { zstd::decode_all(content.as_slice())? } else { content });
        }
        let number = |line: &[u8]| {
            let line: serde_json::Value = serde_json::from_slice(line).expect("a line is JSON");
            line["n"].as_u64().expect("a number")
        };
        // The last line of the newest file may be incomplete.
        let complete = lines.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        Ok(complete.map(number).collect())
    }

    fn files(&self) -> io::Result<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(self.directory())? {
            let name = entry?.file_name().into_string().expect("a name in UTF-8");
            // `.jsonl.open` counts only while there is no complete copy under another name.
            if let Some(at) = name.find(".jsonl").filter(|_| !name.ends_with(".tmp")) {
                let (base, ending) = name.split_at(at);
                let known = files.entry(base.to_owned()).or_insert_with(|| ending.to_owned());
                if known == ".jsonl.open" {
                    *known = ending.to_owned();
                }
            }
        }
        Ok(files)
    }
}

#[async_trait]
impl Subject for Files {
    fn sink(&self) -> Box<dyn Sink> {
        let config = FileConfig {
            directory: Some(self.directory()),
            compression: self.compression,
            rotate: RotateConfig { size: Size(8 << 10), ..RotateConfig::default() },
            ..FileConfig::default()
        };
        let build_context =
            BuildContext { partitions: None, prefetch: 1024, is_strict: false, is_for_dead_letters: false };
        Box::new(FileSink::new(
            check(&config, &build_context, &mut Diagnostics::default()).unwrap(),
            context(),
        ))
    }

    /// Puts a file in the place of the directory, as when a volume is unmounted. Writing fails for root too.
    async fn fail(&self) {
        fs::create_dir_all(self.directory()).unwrap();
        *self.unusable.lock().unwrap() = Some(Unusable::make(&self.directory()));
    }

    async fn heal(&self) {
        self.unusable.lock().unwrap().take().unwrap().restore();
    }

    async fn contents(&self) -> Vec<u64> {
        if !self.directory().exists() {
            return Vec::new();
        }
        loop {
            let before = self.files();
            let (Ok(before), Ok(contents), Ok(after)) = (before, self.read(), self.files()) else { continue };
            if before == after {
                return contents;
            }
        }
    }
}

/// A stream of a real server. `fail` kills the server; `heal` starts it again with the same store.
pub struct JetStream {
    server: NatsServer,
    stream: async_nats::jetstream::Context,
}

impl JetStream {
    pub async fn start() -> Self {
        Self::with_window(Duration::from_secs(120)).await
    }

    /// The stream forgets after this time which events it has.
    pub async fn with_window(duplicate_window: Duration) -> Self {
        let server = NatsServer::start("");
        let stream = server.jetstream().await;
        let config = stream::Config {
            name: "EVENTS".to_owned(),
            subjects: vec!["events.>".to_owned()],
            duplicate_window,
            ..stream::Config::default()
        };
        stream.create_stream(config).await.expect("make a stream");
        Self { server, stream }
    }
}

#[async_trait]
impl Subject for JetStream {
    fn sink(&self) -> Box<dyn Sink> {
        let config = NatsConfig {
            stream: Some("EVENTS".to_owned()),
            subject: "events.{namespace}.{key}".to_owned(),
            ..NatsConfig::default()
        };
        sink(&self.server.url(), config, context())
    }

    async fn fail(&self) {
        self.server.kill();
    }

    async fn heal(&self) {
        self.server.restart();
    }

    async fn contents(&self) -> Vec<u64> {
        let messages = read_stream(&self.stream, "EVENTS").await;
        messages.iter().map(|message| number_in(message.headers.as_ref().unwrap())).collect()
    }
}

/// A real server without a stream. The contents are the messages that a subscriber has received.
pub struct CoreNats {
    server: NatsServer,
    client: async_nats::Client,
    subscriber: AsyncMutex<(Subscriber, Vec<u64>)>,
}

impl CoreNats {
    pub async fn start() -> Self {
        let server = NatsServer::start("");
        let options = async_nats::ConnectOptions::new().subscription_capacity(100_000);
        let client = options.connect(server.url()).await.unwrap();
        let subscriber = client.subscribe("events").await.unwrap();
        client.flush().await.unwrap();
        Self { server, client, subscriber: AsyncMutex::new((subscriber, Vec::new())) }
    }
}

#[async_trait]
impl Subject for CoreNats {
    fn sink(&self) -> Box<dyn Sink> {
        let config = NatsConfig {
            delivery: DeliveryMode::Core,
            subject: "events".to_owned(),
            ..NatsConfig::default()
        };
        sink(&self.server.url(), config, context())
    }

    async fn fail(&self) {
        self.server.kill();
    }

    async fn heal(&self) {
        self.server.restart();
    }

    /// Returns all messages published before this call: a message without headers marks the end.
    async fn contents(&self) -> Vec<u64> {
        let mut subscriber = self.subscriber.lock().await;
        let (messages, numbers) = &mut *subscriber;
        self.client.publish("events", "end".into()).await.unwrap();
        while let Some(headers) = messages.next().await.unwrap().headers {
            numbers.push(number_in(&headers));
        }
        numbers.clone()
    }
}

fn number_in(headers: &HeaderMap) -> u64 {
    headers.get("atdata-message-id").unwrap().as_str().rsplit(':').next().unwrap().parse().unwrap()
}
