//! A real Kafka of one node, a process of the tests' own.
//!
//! The methods block for as long as the server takes (a start: about three seconds), so use them from
//! multi-threaded tests.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use rdkafka::ClientConfig;

use super::any_kafka::{self, AnyKafka};
use super::certificates::Certificates;
use super::did_not_run;
use super::ports::{free_port, loopback};
use super::process::Server;
use super::provision::{provisioned, support_directory};

/// Where the jars of the server are, or why there are none.
pub fn directory() -> Result<PathBuf, String> {
    provisioned("kafka", "4")
}

/// Who may log in to [`Listener::Sasl`] and [`Listener::SaslTls`] by PLAIN; others by SCRAM, see
/// [`Kafka::add_user`].
pub const CUSTOMER: (&str, &str) = ("customer", "customer-secret");

/// Ways in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// PLAINTEXT: everybody is `User:ANONYMOUS`.
    Plain,
    /// SASL_PLAINTEXT: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER with any unsigned token.
    Sasl,
    /// SSL: `User:CN=customer` for who shows [`Certificates::client`], else `User:ANONYMOUS`.
    Tls,
    /// SASL_SSL: as [`Sasl`](Self::Sasl).
    SaslTls,
    /// SASL_PLAINTEXT for the server's own talk: nothing but PLAIN, and nobody of the tests may log in.
    PlainLoginOnly,
    /// PLAINTEXT, for a [`Proxy`](super::proxy::Proxy) at [`Kafka::proxy_addr`]: its clients are sent there.
    Proxied,
}

/// A server on free loopback ports with a directory of its own; ends when dropped, or with the tests'
/// process, however that ends.
pub struct Kafka {
    ports: Ports,
    certificates: Certificates,
    server: Server,
}

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

/// The server that tests share, each with topics of its own; started when first asked for. A test that
/// stops, kills or freezes its server must start one for itself. Panics where there is none: ask
/// [`available`] before.
pub fn shared() -> &'static Kafka {
    match any_kafka::shared() {
        AnyKafka::Real(kafka) => kafka,
        AnyKafka::Mock(_) => panic!("there is no real Kafka"),
    }
}

/// Makes of each `async fn name()` one test, `name::v4`. Where Kafka can't be had, the test says by name that
/// it did not run, and why; with `REQUIRE_BROKERS=1` it fails.
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

/// Whether `test` can have a Kafka; tells when not.
pub fn available(test: &str) -> bool {
    let Err(reason) = directory() else { return true };
    did_not_run(test, &reason);
    false
}

/// Shows the end of the shared server's log when its test fails; other servers show their own.
pub struct ShownOnFailure;

impl Drop for ShownOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(AnyKafka::Real(kafka)) = any_kafka::shared_if_started()
        {
            eprintln!("{}", kafka.log_tail());
        }
    }
}

impl Kafka {
    /// Starts a server and waits until it serves.
    pub fn start() -> Self {
        let server = Server::new("kafka");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificates = Certificates::make(server.directory(), &names);
        let ports = server.launch_on(Ports::free, |ports| command(ports, &certificates, &server));
        Self { ports, certificates, server }
    }

    /// Where a listener is.
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

    /// The plain listener, as clients' `bootstrap.servers` wants it.
    pub fn bootstrap(&self) -> String {
        self.addr(Listener::Plain).to_string()
    }

    /// Where the test's proxy to [`Listener::Proxied`] must listen, and its clients must begin.
    pub fn proxy_addr(&self) -> SocketAddr {
        loopback(self.ports.proxy)
    }

    /// What a TLS client must trust and may show.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Stops it cleanly, as an operator would.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Kills it if it runs, and starts it on the same ports with the same store.
    pub fn restart(&self) {
        self.kill();
        let command = command(self.ports, &self.certificates, &self.server);
        self.server.launch(command).unwrap_or_else(|reason| panic!("{reason}\n{}", self.log_tail()));
    }

    /// Stops its clock (SIGSTOP): connections stay open, nothing answers, this harness neither.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// Makes a topic; `settings` are `name=value`.
    pub fn create_topic(&self, topic: &str, partitions: u32, settings: &[&str]) {
        self.tell(&format!("create {topic} {partitions} {}", settings.join(" ")));
    }

    /// Removes a topic with all that is in it.
    pub fn delete_topic(&self, topic: &str) {
        self.tell(&format!("delete {topic}"));
    }

    /// How many partitions a topic has; `None` where there is no such topic.
    pub fn partitions(&self, topic: &str) -> Option<u32> {
        let answer = self.server.ask(&format!("describe {topic}"));
        let count = answer.strip_prefix("topic ").map(str::parse);
        assert!(count.is_some() || answer == "none", "describe {topic}: {answer}");
        count.map(|count| count.expect("a number of partitions"))
    }

    /// Gives a topic more partitions: so many in all.
    pub fn grow_topic(&self, topic: &str, partitions: u32) {
        self.tell(&format!("grow {topic} {partitions}"));
    }

    /// Changes a setting of a topic, `name=value`.
    pub fn configure_topic(&self, topic: &str, setting: &str) {
        self.tell(&format!("configure {topic} {setting}"));
    }

    /// Lets nobody write into a topic any more; everybody may read it.
    pub fn make_read_only(&self, topic: &str) {
        self.allow("User:*", "READ", topic);
    }

    /// Allows an operation (`READ`, `WRITE`, `DESCRIBE`, …) on a topic to a principal (`User:name`). Where
    /// something is allowed to somebody, everything else is forbidden to everybody.
    pub fn allow(&self, principal: &str, operation: &str, topic: &str) {
        self.tell(&format!("allow {principal} {operation} {topic}"));
    }

    /// Forbids an operation on a topic to a principal.
    pub fn deny(&self, principal: &str, operation: &str, topic: &str) {
        self.tell(&format!("deny {principal} {operation} {topic}"));
    }

    /// Drops all that was allowed and denied on a topic: everybody may do everything with it again.
    pub fn forget_rules(&self, topic: &str) {
        self.tell(&format!("forget {topic}"));
    }

    /// Lets somebody log in by `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub fn add_user(&self, name: &str, mechanism: &str, password: &str) {
        self.tell(&format!("user {name} {mechanism} {password}"));
    }

    fn tell(&self, order: &str) {
        let answer = self.server.ask(order);
        assert_eq!(answer, "ok", "{order}\n{}", self.log_tail());
    }

    /// The end of what it logged, with its place: for failures.
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

fn command(ports: Ports, certificates: &Certificates, server: &Server) -> Command {
    let home = directory().unwrap_or_else(|reason| panic!("{reason}"));
    let mut command = Command::new("java");
    command
        // Small, and quick to start: what a longer life would be optimised for is no matter here.
        .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"])
        .arg("-cp")
        .arg(format!("{0}/classes:{0}/lib/*", home.display()))
        .arg("TestKafka")
        .arg(settings(ports, certificates, server));
    command
}

fn settings(ports: Ports, certificates: &Certificates, server: &Server) -> PathBuf {
    let directory = server.directory();
    let read = |path: &PathBuf| fs::read_to_string(path).expect("read a PEM file");
    let identity = directory.join("identity.pem");
    fs::write(&identity, read(&certificates.key) + &read(&certificates.server)).expect("write a PEM file");

    let mut text = read(&support_directory("kafka").join("server.properties"));
    let mut put = |name: &str, value: &dyn std::fmt::Display| {
        text = text.replace(&format!("${{{name}}}"), &value.to_string());
    };
    put("controller", &ports.controller);
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
    let path = directory.join("server.properties");
    fs::write(&path, text).expect("write server.properties");
    path
}

/// What a client of `listener` needs; add how it logs in.
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
