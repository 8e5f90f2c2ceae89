//! Runs real ActiveMQ brokers, each as a process of its own.
//!
//! The methods block until the broker has answered (a start takes about two seconds). Use them from
//! multi-threaded tests, as [`on_each_broker`](super::on_each_broker) makes them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::certificates::Certificates;
use super::ports::{free_port, loopback};
use super::process::Server;
use super::provision::{provisioned, support_directory};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 5.17 from Debian, as hosts like AtData's run it.
    V5,
    /// The newest version 6.
    V6,
}

impl Version {
    /// The directory of the jars, or the reason why it is not available.
    pub fn directory(self) -> Result<PathBuf, String> {
        provisioned("activemq", self.number())
    }

    fn number(self) -> &'static str {
        match self {
            Self::V5 => "5",
            Self::V6 => "6",
        }
    }
}

/// The protocol between a bridge and its broker. The publishers and bare consumers of the tests always use
/// STOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `stomp://`, or `stomp+tls://` over TLS.
    Stomp,
    /// `tcp://`, or `ssl://` over TLS.
    OpenWire,
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::Stomp, Self::OpenWire];

    /// The `source.url` of a broker, or of a proxy to it, that listens at `addr`.
    pub fn url(self, addr: SocketAddr) -> String {
        let scheme = match self {
            Self::Stomp => "stomp",
            Self::OpenWire => "tcp",
        };
        format!("{scheme}://{addr}")
    }

    /// Like [`url`](Self::url) over TLS, with the host name that is in the certificate.
    pub fn tls_url(self, addr: SocketAddr) -> String {
        let scheme = match self {
            Self::Stomp => "stomp+tls",
            Self::OpenWire => "ssl",
        };
        format!("{scheme}://localhost:{}", addr.port())
    }

    /// `name` with the protocol appended, for namespaces and ids that a test uses once per protocol.
    pub fn named(self, name: &str) -> String {
        match self {
            Self::Stomp => format!("{name}-stomp"),
            Self::OpenWire => format!("{name}-openwire"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the journal is synced to the disk, as at AtData. Without it, publishing many events is faster,
    /// and killing the process still loses nothing.
    pub sync: bool,
    /// Whether a client without a login has the rights of a customer.
    pub anonymous: bool,
    /// The strategy for slow consumers: an element of ActiveMQ's configuration, such as [`SLOW_ACKS`].
    pub slow_consumers: Option<&'static str>,
    /// Host names and addresses in the TLS certificate.
    pub certificate_names: Vec<String>,
    /// Whether a TLS client must present a certificate. The broker trusts none.
    pub wants_certificates: bool,
    /// How much the broker stores; nobody can publish while that is full.
    pub store: &'static str,
}

/// Removes a consumer that acknowledges nothing for a second.
pub const SLOW_ACKS: &str =
    r#"<abortSlowAckConsumerStrategy checkPeriod="200" maxTimeSinceLastAck="1000" maxSlowDuration="500"/>"#;

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: true,
            anonymous: false,
            slow_consumers: None,
            certificate_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            wants_certificates: false,
            store: "4 gb",
        }
    }
}

/// The exact counts of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages in the queue: not yet acknowledged, whether sent to a consumer or not.
    pub messages: u64,
    /// Messages sent to a consumer and not yet acknowledged.
    pub in_flight: u64,
    /// Messages received since the broker started.
    pub enqueued: u64,
    /// Messages acknowledged, since the broker started.
    pub dequeued: u64,
    /// Current consumers.
    pub consumers: u64,
}

/// A broker on free loopback ports with its own directory. It ends when dropped or when the test process ends
/// in any way.
pub struct Broker {
    version: Version,
    options: Options,
    ports: Ports,
    certificates: Certificates,
    server: Server,
}

#[derive(Clone, Copy)]
struct Ports {
    stomp: u16,
    stomp_tls: u16,
    openwire: u16,
    openwire_tls: u16,
}

/// The broker of this version that tests share. Each test uses its own namespaces. The first call starts it.
/// A test that stops, kills or freezes its broker must start its own.
pub fn shared(version: Version) -> &'static Broker {
    slot(version).get_or_init(|| Broker::start(version, Options::default()))
}

/// Like [`shared`], but returns `None` if there is no broker, and prints that `test` did not run.
pub fn shared_if_available(version: Version, test: &str) -> Option<&'static Broker> {
    super::available(version, test).then(|| shared(version))
}

/// The shared broker, if a test has started it.
pub fn shared_if_started(version: Version) -> Option<&'static Broker> {
    slot(version).get()
}

fn slot(version: Version) -> &'static OnceLock<Broker> {
    static SLOTS: [OnceLock<Broker>; 2] = [OnceLock::new(), OnceLock::new()];
    match version {
        Version::V5 => &SLOTS[0],
        Version::V6 => &SLOTS[1],
    }
}

impl Broker {
    /// Starts a broker and waits until it is ready.
    pub fn start(version: Version, options: Options) -> Self {
        let server = Server::new(&format!("v{}", version.number()));
        let certificates = Certificates::make(server.directory(), &options.certificate_names);
        let command = |ports| command(version, &options, ports, &certificates, &server);
        let ports = server.launch_on(Ports::free, command);
        Self { version, options, ports, certificates, server }
    }

    /// The address for STOMP.
    pub fn addr(&self) -> SocketAddr {
        loopback(self.ports.stomp)
    }

    /// The address for `protocol`.
    pub fn addr_of(&self, protocol: Protocol) -> SocketAddr {
        loopback(match protocol {
            Protocol::Stomp => self.ports.stomp,
            Protocol::OpenWire => self.ports.openwire,
        })
    }

    /// The address for `protocol` over TLS.
    pub fn tls_addr_of(&self, protocol: Protocol) -> SocketAddr {
        loopback(match protocol {
            Protocol::Stomp => self.ports.stomp_tls,
            Protocol::OpenWire => self.ports.openwire_tls,
        })
    }

    /// The CA certificate that a TLS client must trust.
    pub fn ca_file(&self) -> &Path {
        &self.certificates.authority
    }

    /// Replaces the certificate and its authority, in the same files. A broker reads them when it starts.
    pub fn renew_certificates(&self) {
        Certificates::make(self.server.directory(), &self.options.certificate_names);
    }

    /// The `source.url` of a bridge that uses `protocol`.
    pub fn url_of(&self, protocol: Protocol) -> String {
        protocol.url(self.addr_of(protocol))
    }

    /// Like [`url_of`](Self::url_of), over TLS.
    pub fn tls_url_of(&self, protocol: Protocol) -> String {
        protocol.tls_url(self.tls_addr_of(protocol))
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Stops the broker cleanly, as an operator does.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Kills the broker at once (SIGKILL). Data that it has not written is lost.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Kills the broker if it runs, and starts it on the same ports with the same store.
    pub fn restart(&self) {
        self.kill();
        let command = command(self.version, &self.options, self.ports, &self.certificates, &self.server);
        self.server.launch(command).unwrap_or_else(|reason| panic!("{reason}\n{}", self.log_tail()));
    }

    /// Stops the process (SIGSTOP): connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// The number of messages in `queue`, whether sent to a consumer or not.
    pub fn depth(&self, queue: &str) -> u64 {
        self.queue(queue).unwrap_or_else(|| panic!("there is no queue {queue}")).messages
    }

    /// The counts of `queue`; `None` if it does not exist.
    pub fn queue(&self, queue: &str) -> Option<QueueCounts> {
        loop {
            let answer = self.server.ask(&format!("queue {queue}"));
            let counts = answer.strip_prefix("queue ")?;
            // ActiveMQ counts without a lock, so a count can be negative for a moment. Ask again then.
            let counts: Result<Vec<u64>, _> = counts.split(' ').map(str::parse).collect();
            match counts.as_deref() {
                Ok(&[messages, in_flight, enqueued, dequeued, consumers]) => {
                    return Some(QueueCounts { messages, in_flight, enqueued, dequeued, consumers });
                }
                _ => assert!(answer.contains(" -"), "the broker answered {answer:?}"),
            }
        }
    }

    pub fn processor_time(&self) -> Duration {
        self.server.processor_time()
    }

    pub fn log(&self) -> String {
        self.server.log()
    }

    /// The end of the log, with its path, for messages of failed tests.
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }
}

impl Ports {
    fn free() -> Self {
        Self { stomp: free_port(), stomp_tls: free_port(), openwire: free_port(), openwire_tls: free_port() }
    }
}

fn command(
    version: Version,
    options: &Options,
    ports: Ports,
    certificates: &Certificates,
    server: &Server,
) -> Command {
    let home = version.directory().unwrap_or_else(|reason| panic!("{reason}"));
    let mut command = Command::new("java");
    command
        // Small and quick to start, because two brokers share two cores with the tests.
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"])
        .arg(format!("-Dtest.data={}", server.directory().display()))
        .arg(format!("-Dtest.sync={}", if options.sync { "always" } else { "never" }))
        .arg(format!("-Dtest.stomp={}", ports.stomp))
        .arg(format!("-Dtest.stomp_tls={}", ports.stomp_tls))
        .arg(format!("-Dtest.openwire={}", ports.openwire))
        .arg(format!("-Dtest.openwire_tls={}", ports.openwire_tls))
        .arg("-cp")
        .arg(format!("{0}/classes:{0}/lib/*", home.display()))
        .arg("TestBroker")
        .arg(format!("xbean:file:{}", configuration(options, server.directory()).display()))
        .args([&certificates.server, &certificates.key]);
    command
}

/// Writes the configuration. Values that differ between brokers are system properties, except those that the
/// XML schema checks before the properties are inserted.
fn configuration(options: &Options, directory: &Path) -> PathBuf {
    let template = support_directory("activemq").join("activemq.xml");
    let mut text = fs::read_to_string(template).expect("read activemq.xml");
    if options.anonymous {
        text = text.replace(r#"anonymousAccessAllowed="false""#, r#"anonymousAccessAllowed="true""#);
    }
    if options.wants_certificates {
        let protocols = "transport.enabledProtocols=TLSv1.2,TLSv1.3";
        text = text.replace(protocols, &format!("{protocols}&amp;transport.needClientAuth=true"));
    }
    text =
        text.replace(r#"<storeUsage limit="4 gb"/>"#, &format!(r#"<storeUsage limit="{}"/>"#, options.store));
    if let Some(strategy) = options.slow_consumers {
        let strategy =
            format!("</deadLetterStrategy><slowConsumerStrategy>{strategy}</slowConsumerStrategy>");
        text = text.replace("</deadLetterStrategy>", &strategy);
    }
    let path = directory.join("activemq.xml");
    fs::write(&path, text).expect("write activemq.xml");
    path
}
