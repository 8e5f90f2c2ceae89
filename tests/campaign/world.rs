//! Runs the servers, the networks and the bridges of a round.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use kit::SOON;
use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Options, QueueCounts};
use kit::events::{Events, Spread};
use kit::kafka::{Kafka, Listener};
use kit::kafka_writer::create_replicated;
use kit::nats::NatsServer;
use kit::ports::{free_port, loopback};
use kit::preload::Preload;
use kit::proxy::Proxy;
use kit::three::PARTITIONS;
use tokio::time::sleep;

use crate::plan::{Level, Plan};

/// The namespace, the topic, the stream, and the beginning of the subjects and connection ids.
pub const NAME: &str = "campaign";
/// The size of the disk with the files of a replica, in MiB.
const DISK: u32 = 256;
/// Half a minute of events and acknowledgements: ActiveMQ deletes what is no longer needed so often.
const SMALL_STORE: &str = "48 mb";
/// How long a bridge may take to stop: `shutdown.drain_timeout` is 25 s.
const STOP: Duration = Duration::from_secs(60);

pub struct World {
    pub plan: Plan,
    pub replicas: Vec<Replica>,
    pub broker: Broker,
    /// Whether the broker answers. It is locked while the broker is asked, or made to answer no more.
    answers: Mutex<bool>,
    /// Empty without the Kafka sink, like `to_kafka`.
    pub kafka: Vec<Kafka>,
    pub to_kafka: Vec<Proxy>,
    /// Empty without the JetStream sink.
    pub nats: Vec<NatsServer>,
    /// Set when nothing must be published any more.
    pub over: AtomicBool,
}

/// A bridge that is started again and again.
pub struct Replica {
    pub setup: Setup,
    pub admin: SocketAddr,
    pub to_broker: Proxy,
    pub to_nats: Vec<Proxy>,
    pub preload: Preload,
    /// Another build of the bridge; `None` if there is none.
    other_build: Option<PathBuf>,
    /// Whether the process that starts next is of the other build.
    is_other: AtomicBool,
    process: tokio::sync::Mutex<Option<Bridge>>,
    /// How often its processes have ended with each exit code, after SIGTERM.
    exits: Mutex<BTreeMap<i32, u64>>,
}

impl World {
    /// Starts the servers and the bridges.
    pub async fn start(plan: Plan, other_build: Option<&Path>) -> Self {
        let version = plan.version;
        let usual = Options::default();
        let options = if plan.small_store { Options { store: SMALL_STORE, ..usual } } else { usual };
        let (needs_kafka, needs_nats) = (plan.kafka.is_some(), plan.jetstream);
        let servers = tokio::task::spawn_blocking(move || {
            (
                Broker::start(version, options),
                if needs_kafka { Kafka::start_three().into() } else { Vec::new() },
                if needs_nats { NatsServer::start_three().into() } else { Vec::new() },
            )
        });
        let (broker, kafka, nats): (Broker, Vec<Kafka>, Vec<NatsServer>) =
            servers.await.expect("start servers");
        let mut to_kafka = Vec::new();
        for node in &kafka {
            to_kafka.push(Proxy::start_at(node.proxy_addr(), node.addr(Listener::Proxied)).await);
        }
        let mut world = Self {
            plan,
            replicas: Vec::new(),
            broker,
            answers: Mutex::new(true),
            kafka,
            to_kafka,
            nats,
            over: AtomicBool::new(false),
        };
        world.make_destinations().await;
        for number in 0..world.plan.replicas {
            let replica = world.replica(number, other_build).await;
            world.replicas.push(replica);
        }
        for replica in &world.replicas {
            replica.start().await;
        }
        world
    }

    async fn make_destinations(&self) {
        if let Some(level) = self.plan.kafka {
            create_replicated(&self.bootstrap(), NAME, PARTITIONS).await;
            if level == Level::Zero {
                tokio::task::block_in_place(|| self.set_rights());
            }
        }
        if self.plan.jetstream {
            let config = stream_of(&self.subjects());
            let (jetstream, began) = (self.jetstream().await, Instant::now());
            // The servers elect a leader first.
            while let Err(error) = jetstream.create_stream(config.clone()).await {
                assert!(began.elapsed() < SOON, "make a stream: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Lets the bridges do with the topic what they may do in this round. Blocks.
    pub fn set_rights(&self) {
        self.kafka[0].forget_rules(NAME);
        if self.plan.kafka == Some(Level::Zero) {
            for operation in ["WRITE", "DESCRIBE"] {
                self.kafka[0].allow("User:*", operation, NAME);
            }
        }
    }

    /// Lets nobody write to the topic. Blocks.
    pub fn forbid_writing(&self) {
        self.kafka[0].forget_rules(NAME);
        let allowed = if self.plan.kafka == Some(Level::Zero) { "DESCRIBE" } else { "READ" };
        self.kafka[0].allow("User:*", allowed, NAME);
    }

    /// What the stream takes.
    pub fn subjects(&self) -> String {
        format!("{NAME}.>")
    }

    /// Makes the stream take other subjects.
    pub async fn change_stream(&self, subjects: &str) {
        let (jetstream, began) = (self.jetstream().await, Instant::now());
        // After a fault, the servers may elect a leader first.
        while let Err(error) = jetstream.update_stream(stream_of(subjects)).await {
            assert!(began.elapsed() < SOON, "change a stream: {error}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn replica(&self, number: usize, other_build: Option<&Path>) -> Replica {
        let plan = &self.plan;
        let (broker, protocol) = (&self.broker, plan.protocol);
        let target = if plan.tls { broker.tls_addr_of(protocol) } else { broker.addr_of(protocol) };
        let to_broker = Proxy::start(target).await;
        let url = if plan.tls { protocol.tls_url(to_broker.addr()) } else { protocol.url(to_broker.addr()) };
        let mut to_nats = Vec::new();
        for server in &self.nats {
            to_nats.push(Proxy::start(server.addr()).await);
        }
        let admin = loopback(free_port());
        let mut setup = Setup::at(&url, NAME, "main", &format!("{NAME}-{number}"))
            .set("ADMIN__LISTEN", admin.to_string())
            .set("EVENT__PARTITIONS", PARTITIONS.to_string())
            .set("SOURCE__PREFETCH", plan.prefetch.to_string())
            .set("SOURCE__HEART_BEAT", format!("{}s", plan.heart_beat));
        if plan.tls {
            setup = setup.set("SOURCE__TLS__CA_FILE", broker.ca_file().display().to_string());
        }
        if plan.strict {
            setup = setup.set("SOURCE__ORDERING", "strict");
        }
        if let Some(level) = plan.kafka {
            setup = setup
                .set("SINKS__KAFKA__BROKERS", addresses(&self.to_kafka, ""))
                .set("SINKS__KAFKA__TOPIC", NAME);
            if level == Level::Two {
                setup = setup.set("SINKS__KAFKA__EXACTLY_ONCE", "true");
            }
        }
        if plan.jetstream {
            setup = setup
                .set("SINKS__NATS__URL", addresses(&to_nats, "nats://"))
                .set("SINKS__NATS__STREAM", NAME)
                .set("SINKS__NATS__SUBJECT", format!("{NAME}.{{partition}}.{{key}}"));
        }
        setup = if plan.files {
            setup
                .set("SINKS__FILE__NAME", "{connection_id}-{partition}")
                .set("SINKS__FILE__FORMAT", "envelope")
                .lasting_small_disk(DISK)
        } else {
            setup.unset("SINKS__FILE__DIRECTORY")
        };
        let preload = Preload::new(setup.home());
        for (name, value) in preload.variables() {
            setup = setup.variable(name, value);
        }
        Replica {
            setup,
            admin,
            to_broker,
            to_nats,
            preload,
            other_build: other_build.map(Path::to_owned),
            is_other: AtomicBool::new(false),
            process: tokio::sync::Mutex::new(None),
            exits: Mutex::new(BTreeMap::new()),
        }
    }

    pub fn queue(&self) -> String {
        format!("main.RTO.{NAME}")
    }

    /// The events of the round, of which the publisher takes as many as it needs.
    pub fn events(&self) -> Events {
        Events { count: u64::MAX, keys: self.plan.keys, spread: Spread::Even, bad_every: None }
    }

    /// All nodes of Kafka, for clients whose network nothing disturbs.
    pub fn bootstrap(&self) -> String {
        let nodes: Vec<_> = self.kafka.iter().map(Kafka::bootstrap).collect();
        nodes.join(",")
    }

    /// JetStream for a client whose network nothing disturbs.
    pub async fn jetstream(&self) -> jetstream::Context {
        self.nats[0].jetstream().await
    }

    /// The counts of the queue; `None` while the broker is away, or where there is no queue. Blocks.
    pub fn counts(&self, queue: &str) -> Option<QueueCounts> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.then(|| self.broker.queue(queue)).flatten()
    }

    /// Does something to the broker that ends or begins its answers. Blocks.
    pub fn change_broker(&self, answers: bool, change: impl FnOnce(&Broker)) {
        let mut state = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        change(&self.broker);
        *state = answers;
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Writes the logs of the bridges and of the broker into `directory`, to be read after a failure.
    pub fn keep_logs(&self, directory: &Path) {
        std::fs::create_dir_all(directory).expect("make a directory for logs");
        let write = |name: String, text: String| {
            std::fs::write(directory.join(name), text).expect("write a log");
        };
        for (number, replica) in (1..).zip(&self.replicas) {
            write(format!("bridge-{number}.log"), replica.setup.log());
        }
        write("broker.log".to_owned(), self.broker.log());
        for (number, node) in (1..).zip(&self.kafka) {
            write(format!("kafka-{number}.log"), node.log_tail());
        }
        for (number, server) in (1..).zip(&self.nats) {
            write(format!("nats-{number}.log"), server.log_tail());
        }
    }
}

fn stream_of(subjects: &str) -> stream::Config {
    stream::Config {
        name: NAME.to_owned(),
        subjects: vec![subjects.to_owned()],
        discard: stream::DiscardPolicy::New,
        num_replicas: 3,
        ..stream::Config::default()
    }
}

fn addresses(proxies: &[Proxy], scheme: &str) -> String {
    let addresses: Vec<_> = proxies.iter().map(|proxy| format!("{scheme}{}", proxy.addr())).collect();
    addresses.join(",")
}

impl Replica {
    /// Starts a process. The one before must have ended.
    pub async fn start(&self) {
        let other = self.other_build.as_ref().filter(|_| self.is_other.load(Ordering::Relaxed));
        let bridge = other.map_or_else(|| self.setup.start(), |program| self.setup.start_build(program));
        *self.process.lock().await = Some(bridge);
    }

    /// Lets the next process be of the other build, or of this one again.
    pub fn change_build(&self) {
        self.is_other.fetch_xor(true, Ordering::Relaxed);
    }

    /// Kills the process (SIGKILL). Fails if it has ended before by itself.
    pub async fn kill(&self) -> Result<(), String> {
        let mut bridge = self.process.lock().await.take().ok_or("there is no process")?;
        still_runs(&mut bridge)?;
        bridge.kill();
        Ok(())
    }

    /// Stops the process (SIGTERM), and returns its exit code. Fails if it has ended before by itself.
    pub async fn stop(&self) -> Result<i32, String> {
        let mut bridge = self.process.lock().await.take().ok_or("there is no process")?;
        still_runs(&mut bridge)?;
        bridge.terminate();
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = bridge.status() {
                break status;
            }
            if asked.elapsed() > STOP {
                return Err(format!("a bridge did not stop in {STOP:?}"));
            }
            sleep(Duration::from_millis(20)).await;
        };
        let code = status.code().ok_or_else(|| format!("a bridge has ended with {status}"))?;
        *self.exits.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
        // Drained; or cut off, which is right when a part is away.
        if [0, 75, 76].contains(&code) { Ok(code) } else { Err(format!("a bridge has ended with {code}")) }
    }

    /// Stops the process (SIGSTOP) or lets it go on. Fails if it has ended before by itself.
    pub async fn freeze(&self, is_frozen: bool) -> Result<(), String> {
        let mut process = self.process.lock().await;
        let bridge = process.as_mut().ok_or("there is no process")?;
        still_runs(bridge)?;
        if is_frozen {
            bridge.freeze()
        } else {
            bridge.thaw()
        }
        Ok(())
    }

    /// How often its processes have ended with each exit code, after SIGTERM.
    pub fn exits(&self) -> BTreeMap<i32, u64> {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn still_runs(bridge: &mut Bridge) -> Result<(), String> {
    match bridge.status() {
        None => Ok(()),
        Some(status) => Err(format!("a bridge has ended by itself: {status}")),
    }
}

/// Runs something that blocks on a thread where it may.
pub async fn blocking<T: Send + 'static>(
    world: &Arc<World>,
    work: impl FnOnce(&World) -> T + Send + 'static,
) -> T {
    let world = Arc::clone(world);
    tokio::task::spawn_blocking(move || work(&world)).await.expect("a step that does not panic")
}
