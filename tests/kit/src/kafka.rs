//! Runs a real Kafka with one node, two or three, each as a process.
//!
//! The methods block until the server has answered (a start takes about three seconds). Use them from
//! multi-threaded tests.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use rdkafka::ClientConfig;

use super::any_kafka::{self, AnyKafka};
use super::certificates::Certificates;
use super::did_not_run;
use super::ports::{free_port, loopback};
use super::process::Server;
use super::provision::{provisioned, support_directory};

/// The directory of the server's jars, or the reason why it is not available.
pub fn directory() -> Result<PathBuf, String> {
    provisioned("kafka", "4")
}

/// The username and password that may log in to [`Listener::Sasl`] and [`Listener::SaslTls`] with PLAIN. For
/// SCRAM, see [`Kafka::add_user`].
pub const CUSTOMER: (&str, &str) = ("customer", "customer-secret");

/// The listeners of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// PLAINTEXT: every client is `User:ANONYMOUS`.
    Plain,
    /// SASL_PLAINTEXT: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER with any unsigned token.
    Sasl,
    /// SSL: a client that presents [`Certificates::client`] is `User:CN=customer`, every other one is
    /// `User:ANONYMOUS`.
    Tls,
    /// SASL_SSL: as [`Sasl`](Self::Sasl).
    SaslTls,
    /// SASL_PLAINTEXT between the server's own components: only PLAIN, and no test client may log in.
    PlainLoginOnly,
    /// PLAINTEXT, behind a [`Proxy`](super::proxy::Proxy) at [`Kafka::proxy_addr`]: the server advertises
    /// that address to its clients.
    Proxied,
}

/// A server on free loopback ports with its own directory. It ends when dropped or when the test process ends
/// in any way.
pub struct Kafka {
    node: Node,
    ports: Ports,
    java: JavaOptions,
    certificates: Certificates,
    server: Server,
}

#[derive(Clone, Copy)]
enum Node {
    /// A broker that is also the controller.
    First,
    /// A broker in the cluster of the first one.
    Second,
    /// One of three brokers, counted from 0, that are all controllers. Topics have three replicas.
    OfThree { number: usize, controllers: [u16; 3] },
}

/// The options for Java of a server.
#[derive(Clone, Copy)]
enum JavaOptions {
    /// It is small and quick to start.
    QuickStart,
    /// Those of `kafka-server-start.sh` and `kafka-run-class.sh` in Kafka 4.
    Operators,
}

impl JavaOptions {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::QuickStart => &["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
            Self::Operators => &[
                "-Xmx1G",
                "-Xms1G",
                "-server",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35",
                "-XX:+ExplicitGCInvokesConcurrent",
                "-XX:MaxInlineLevel=15",
            ],
        }
    }
}

/// What differs in a cluster of three: everything is on all nodes, two of them must have it, and a leader that
/// was away gets its partitions back soon.
const OF_THREE: &str = "
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
controlled.shutdown.enable=true
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=6000
leader.imbalance.check.interval.seconds=10
";

#[derive(Clone, Copy)]
struct Ports {
    controller: u16,
    admin: u16,
    plain: u16,
    sasl: u16,
    tls: u16,
    sasl_tls: u16,
    proxied: u16,
    proxy: u16,
}

/// The server that tests share. Each test uses its own topics. The first call starts it. A test that stops,
/// kills or freezes its server must start its own. Panics if there is no real Kafka: call [`available`]
/// first.
pub fn shared() -> &'static Kafka {
    match any_kafka::shared() {
        AnyKafka::Real(kafka) => kafka,
        AnyKafka::Mock(_) => panic!("there is no real Kafka"),
    }
}

/// Turns each `async fn name()` into one test, `name::v4`. If Kafka is not available, the test prints its
/// name and the reason why it did not run; with `REQUIRE_BROKERS=1` it fails.
#[macro_export]
macro_rules! on_kafka {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn v4() {
                if $crate::kafka::available(concat!(module_path!(), "::v4")) {
                    let _log = $crate::kafka::ShownOnFailure;
                    super::$name().await;
                }
            }
        }
    )+};
}
pub use crate::on_kafka;

/// Whether a real Kafka is available. If not, prints that `test` did not run.
pub fn available(test: &str) -> bool {
    let Err(reason) = directory() else { return true };
    did_not_run(test, &reason);
    false
}

/// Prints the end of the shared server's log when its test fails. A test's own server prints its log itself.
pub struct ShownOnFailure;

impl Drop for ShownOnFailure {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(AnyKafka::Real(kafka)) = any_kafka::shared_if_started()
        {
            eprintln!("{}", kafka.log_tail());
        }
    }
}

impl Kafka {
    /// Starts a server and waits until it is ready.
    pub fn start() -> Self {
        Self::start_node(Node::First, Ports::free, JavaOptions::QuickStart)
    }

    /// Starts a server with the options for Java of Kafka's own scripts, to measure with.
    pub fn start_as_operators_do() -> Self {
        Self::start_node(Node::First, Ports::free, JavaOptions::Operators)
    }

    /// Starts a second node of the cluster of this one, and waits until it is ready. It has the partitions of topics
    /// that are made later, in turn with the first node.
    pub fn start_second(&self) -> Self {
        let ports = || Ports { controller: self.ports.controller, ..Ports::free() };
        Self::start_node(Node::Second, ports, JavaOptions::QuickStart)
    }

    /// Starts three nodes that are one cluster, and waits until all are ready. Use
    /// [`create_replicated`](super::kafka_writer::create_replicated) for their topics.
    pub fn start_three() -> [Self; 3] {
        let controllers = [(); 3].map(|()| free_port());
        let start = |number: usize| {
            let ports = move || Ports { controller: controllers[number], ..Ports::free() };
            Self::start_node(Node::OfThree { number, controllers }, ports, JavaOptions::QuickStart)
        };
        // A node is ready when most of them are there.
        thread::scope(|scope| {
            let starts = [0, 1, 2].map(|number| scope.spawn(move || start(number)));
            starts.map(|node| node.join().expect("start a node of Kafka"))
        })
    }

    fn start_node(node: Node, ports: impl Fn() -> Ports, java: JavaOptions) -> Self {
        let server = Server::new("kafka");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificates = Certificates::make(server.directory(), &names);
        let ports = server.launch_on(ports, |ports| command(node, ports, &certificates, &server, java));
        Self { node, ports, java, certificates, server }
    }

    /// The address of a listener.
    pub fn addr(&self, listener: Listener) -> SocketAddr {
        loopback(match listener {
            Listener::Plain => self.ports.plain,
            Listener::Sasl => self.ports.sasl,
            Listener::Tls => self.ports.tls,
            Listener::SaslTls => self.ports.sasl_tls,
            Listener::PlainLoginOnly => self.ports.admin,
            Listener::Proxied => self.ports.proxied,
        })
    }

    /// The value of `bootstrap.servers` for the plain listener.
    pub fn bootstrap(&self) -> String {
        self.addr(Listener::Plain).to_string()
    }

    /// The address at which the test's proxy to [`Listener::Proxied`] must listen, and which its clients must
    /// use as bootstrap server.
    pub fn proxy_addr(&self) -> SocketAddr {
        loopback(self.ports.proxy)
    }

    /// The certificates that a TLS client must trust and may present.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Stops the server cleanly, as an operator does.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Kills the server at once (SIGKILL).
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Kills the server if it runs, and starts it on the same ports with the same store.
    pub fn restart(&self) {
        self.kill();
        let command = command(self.node, self.ports, &self.certificates, &self.server, self.java);
        self.server.launch(command).unwrap_or_else(|reason| panic!("{reason}\n{}", self.log_tail()));
    }

    /// Stops the process (SIGSTOP): connections stay open, nothing answers, not even the methods here.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// Makes a topic; `settings` are `name=value`.
    pub fn create_topic(&self, topic: &str, partitions: u32, settings: &[&str]) {
        self.send(&format!("create {topic} {partitions} {}", settings.join(" ")));
    }

    /// Deletes a topic with its records.
    pub fn delete_topic(&self, topic: &str) {
        self.send(&format!("delete {topic}"));
    }

    /// The number of partitions of a topic that have a leader; `None` if it does not exist.
    pub fn partitions(&self, topic: &str) -> Option<u32> {
        let answer = self.server.ask(&format!("describe {topic}"));
        let count = answer.strip_prefix("topic ").map(str::parse);
        assert!(count.is_some() || answer == "none", "describe {topic}: {answer}");
        count.map(|count| count.expect("a number of partitions"))
    }

    /// Increases the number of partitions of a topic to `partitions`.
    pub fn grow_topic(&self, topic: &str, partitions: u32) {
        self.send(&format!("grow {topic} {partitions}"));
    }

    /// Changes a setting of a topic, `name=value`.
    pub fn configure_topic(&self, topic: &str, setting: &str) {
        self.send(&format!("configure {topic} {setting}"));
    }

    /// Makes a topic read-only for everybody.
    pub fn make_read_only(&self, topic: &str) {
        self.allow("User:*", "READ", topic);
    }

    /// Allows a principal (`User:name`) an operation (`READ`, `WRITE`, `DESCRIBE`, …) on a topic, on a consumer group
    /// (`group:NAME`), or on all transactional ids with a prefix (`transactional-id:PREFIX`). Once a topic has such a
    /// rule, everything that no rule allows is forbidden to everybody.
    pub fn allow(&self, principal: &str, operation: &str, topic: &str) {
        self.send(&format!("allow {principal} {operation} {topic}"));
    }

    /// Forbids a principal an operation on a topic.
    pub fn deny(&self, principal: &str, operation: &str, topic: &str) {
        self.send(&format!("deny {principal} {operation} {topic}"));
    }

    /// Deletes all rules of a topic: everybody may do everything with it again.
    pub fn forget_rules(&self, topic: &str) {
        self.send(&format!("forget {topic}"));
    }

    /// Adds a user that can log in with `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub fn add_user(&self, name: &str, mechanism: &str, password: &str) {
        self.send(&format!("user {name} {mechanism} {password}"));
    }

    fn send(&self, line: &str) {
        let answer = self.server.ask(line);
        assert_eq!(answer, "ok", "{line}\n{}", self.log_tail());
    }

    /// The end of the log, with its path, for messages of failed tests.
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }
}

impl Ports {
    fn free() -> Self {
        Self {
            controller: free_port(),
            admin: free_port(),
            plain: free_port(),
            sasl: free_port(),
            tls: free_port(),
            sasl_tls: free_port(),
            proxied: free_port(),
            proxy: free_port(),
        }
    }
}

fn command(
    node: Node,
    ports: Ports,
    certificates: &Certificates,
    server: &Server,
    java: JavaOptions,
) -> Command {
    let home = directory().unwrap_or_else(|reason| panic!("{reason}"));
    let mut command = Command::new("java");
    command
        .args(java.arguments())
        .arg("-Djava.awt.headless=true")
        .arg("-cp")
        .arg(format!("{0}/classes:{0}/lib/*", home.display()))
        .arg("TestKafka")
        .arg(settings(node, ports, certificates, server));
    command
}

fn settings(node: Node, ports: Ports, certificates: &Certificates, server: &Server) -> PathBuf {
    let directory = server.directory();
    let read = |path: &PathBuf| fs::read_to_string(path).expect("read a PEM file");
    let identity = directory.join("identity.pem");
    fs::write(&identity, read(&certificates.key) + &read(&certificates.server)).expect("write a PEM file");

    let mut text = read(&support_directory("kafka").join("server.properties"));
    let mut put = |name: &str, value: &dyn std::fmt::Display| {
        text = text.replace(&format!("${{{name}}}"), &value.to_string());
    };
    let controller = format!("CONTROLLER://127.0.0.1:{},", ports.controller);
    let (number, roles, listener) = match node {
        Node::First => (1, "broker,controller", controller.as_str()),
        Node::Second => (2, "broker", ""),
        Node::OfThree { number, .. } => (number + 1, "broker,controller", controller.as_str()),
    };
    let controllers = match node {
        Node::OfThree { controllers, .. } => controllers.to_vec(),
        Node::First | Node::Second => vec![ports.controller],
    };
    let voters = (1..).zip(controllers).map(|(number, port)| format!("{number}@127.0.0.1:{port}"));
    put("node", &number);
    put("roles", &roles);
    put("controller_listener", &listener);
    put("voters", &voters.collect::<Vec<_>>().join(","));
    put("admin", &ports.admin);
    put("plain", &ports.plain);
    put("sasl", &ports.sasl);
    put("tls", &ports.tls);
    put("sasl_tls", &ports.sasl_tls);
    put("proxied", &ports.proxied);
    put("proxy", &ports.proxy);
    put("data", &directory.join("data").display());
    put("identity", &identity.display());
    put("authority", &certificates.authority.display());
    if let Node::OfThree { .. } = node {
        // Of two lines with the same name, the last one counts.
        text += OF_THREE;
    }
    let path = directory.join("server.properties");
    fs::write(&path, text).expect("write server.properties");
    path
}

/// The configuration of a client of `listener`, without its login.
pub fn client(kafka: &Kafka, listener: Listener) -> ClientConfig {
    let (protocol, encrypted) = match listener {
        Listener::Plain | Listener::Proxied => ("plaintext", false),
        Listener::Sasl | Listener::PlainLoginOnly => ("sasl_plaintext", false),
        Listener::Tls => ("ssl", true),
        Listener::SaslTls => ("sasl_ssl", true),
    };
    let mut client = ClientConfig::new();
    client.set("security.protocol", protocol);
    let begin = if listener == Listener::Proxied { kafka.proxy_addr() } else { kafka.addr(listener) };
    client.set("bootstrap.servers", begin.to_string());
    if encrypted {
        client.set("ssl.ca.location", kafka.certificates.authority.display().to_string());
    }
    client
}
