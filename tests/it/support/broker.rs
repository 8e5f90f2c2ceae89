//! Real ActiveMQ brokers, each one process of the tests' own.
//!
//! The methods block for as long as the broker takes (a start: about two seconds), so use them from
//! multi-threaded tests, as [`on_each_broker`](super::on_each_broker) makes them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::certificates::Certificates;
use super::output::tail_of;
use super::ports::{free_port, loopback};

/// How long a broker may take to start, stop or answer; with a million events in its store it needs some.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which ActiveMQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 5.17, from Debian: what hosts like AtData's run.
    V5,
    /// The newest 6.
    V6,
}

impl Version {
    /// Where its jars are, or why there are none.
    pub fn directory(self) -> Result<PathBuf, String> {
        let script = support_directory().join("provision.sh");
        let answer = Command::new("sh").arg(script).args(["--where", self.number()]).output();
        let answer = answer.map_err(|error| format!("cannot run sh: {error}"))?;
        if answer.status.success() {
            Ok(String::from_utf8_lossy(&answer.stdout).trim().into())
        } else {
            Err(String::from_utf8_lossy(&answer.stderr).trim().into())
        }
    }

    fn number(self) -> &'static str {
        match self {
            Self::V5 => "5",
            Self::V6 => "6",
        }
    }
}

/// How a broker differs from the usual one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the journal is synced to the disk, as at AtData; without it, a kill of the process still
    /// loses nothing, and long preparations are faster.
    pub sync: bool,
    /// Whether a client that does not log in is a customer.
    pub anonymous: bool,
    /// Names and addresses in the TLS certificate.
    pub certificate_names: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: true,
            anonymous: false,
            certificate_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        }
    }
}

/// What a broker knows about a queue, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages in the queue: not yet acknowledged, on the way to a consumer or not.
    pub messages: u64,
    /// Those on the way to a consumer.
    pub in_flight: u64,
    /// Messages that ever came in, since the broker started.
    pub enqueued: u64,
    /// Messages acknowledged, since the broker started.
    pub dequeued: u64,
    /// Consumers at present.
    pub consumers: u64,
}

/// A broker on free loopback ports with a directory of its own; ends when dropped, or with the tests'
/// process, however that ends.
pub struct Broker {
    version: Version,
    options: Options,
    ports: Ports,
    certificates: Certificates,
    directory: TempDir,
    process: Mutex<Option<Process>>,
}

#[derive(Clone, Copy)]
struct Ports {
    stomp: u16,
    stomp_tls: u16,
    openwire: u16,
}

struct Process {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
}

/// The broker of this version that tests share, each with namespaces of its own; started when first
/// asked for. A test that stops, kills or freezes its broker must start one for itself.
pub fn shared(version: Version) -> &'static Broker {
    slot(version).get_or_init(|| Broker::start(version, Options::default()))
}

/// The same, unless nobody has asked for it.
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
    /// Starts a broker and waits until it serves.
    pub fn start(version: Version, options: Options) -> Self {
        let directory = new_directory(version);
        let certificates = Certificates::make(directory.path(), &options.certificate_names);
        let ports = Ports::free();
        let process = Mutex::new(None);
        let mut broker = Self { version, options, ports, certificates, directory, process };
        while let Err(reason) = broker.launch() {
            // Between looking for a free port and using it somebody else may have taken it.
            assert!(broker.log().contains("Address already in use"), "{reason}\n{}", broker.log_tail());
            broker.ports = Ports::free();
            fs::remove_file(broker.log_file()).expect("remove the broker's log");
        }
        broker
    }

    /// Where it speaks STOMP.
    pub fn addr(&self) -> SocketAddr {
        loopback(self.ports.stomp)
    }

    /// Where it speaks STOMP over TLS.
    pub fn tls_addr(&self) -> SocketAddr {
        loopback(self.ports.stomp_tls)
    }

    /// Where it speaks OpenWire.
    pub fn openwire_addr(&self) -> SocketAddr {
        loopback(self.ports.openwire)
    }

    /// The certificate that a TLS client must trust.
    pub fn ca_file(&self) -> &Path {
        &self.certificates.authority
    }

    /// What the bridge's `source.url` must be.
    pub fn url(&self) -> String {
        format!("stomp://{}", self.addr())
    }

    /// The version it was started as.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Stops it cleanly, as an operator would.
    pub fn stop(&self) {
        let mut process = self.process();
        let mut stopping = process.take().expect("a broker that runs");
        writeln!(stopping.questions, "stop").expect("tell the broker to stop");
        let answer = stopping.answers.recv_timeout(PATIENCE);
        assert_eq!(answer.as_deref(), Ok("stopped"), "{}", self.log_tail());
        stopping.child.wait().expect("wait for the broker");
    }

    /// Kills it at once (SIGKILL): what it had not written is gone.
    pub fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            process.child.kill().expect("kill the broker");
            process.child.wait().expect("wait for the broker");
        }
    }

    /// Kills it if it runs, and starts it on the same ports with the same store.
    pub fn restart(&self) {
        self.kill();
        self.launch().unwrap_or_else(|reason| panic!("{reason}\n{}", self.log_tail()));
    }

    /// Stops its clock (SIGSTOP): connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// How many messages `queue` holds, on the way to a consumer or not.
    pub fn depth(&self, queue: &str) -> u64 {
        self.queue(queue).unwrap_or_else(|| panic!("there is no queue {queue}")).messages
    }

    /// What the broker knows about `queue`; `None` if it does not exist.
    pub fn queue(&self, queue: &str) -> Option<QueueCounts> {
        loop {
            let answer = self.ask(&format!("queue {queue}"));
            let counts = answer.strip_prefix("queue ")?;
            // ActiveMQ counts without a lock: for a moment a count can be below zero. Ask again then.
            let counts: Result<Vec<u64>, _> = counts.split(' ').map(str::parse).collect();
            match counts.as_deref() {
                Ok(&[messages, in_flight, enqueued, dequeued, consumers]) => {
                    return Some(QueueCounts { messages, in_flight, enqueued, dequeued, consumers });
                }
                _ => assert!(answer.contains(" -"), "the broker answered {answer:?}"),
            }
        }
    }

    fn ask(&self, question: &str) -> String {
        let mut process = self.process();
        let process = process.as_mut().expect("a broker that runs");
        writeln!(process.questions, "{question}").expect("ask the broker");
        let answer = process.answers.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.log_tail()))
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The end of what it logged, with its place: for failures.
    pub fn log_tail(&self) -> String {
        tail_of(&self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("broker.log")
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn signal(&self, signal: Signal) {
        let process = self.process();
        let process = process.as_ref().expect("a broker that runs");
        kill_process(Pid::from_child(&process.child), signal).expect("signal the broker");
    }

    fn launch(&self) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(self.log_file());
        let mut child =
            self.command().stderr(log.expect("open the broker's log")).spawn().expect("start java");
        let questions = child.stdin.take().expect("standard input");
        let answers = lines_of(child.stdout.take().expect("standard output"));
        loop {
            match answers.recv_timeout(PATIENCE) {
                Ok(line) if line == "ready" => break,
                Ok(_) => {}
                Err(_) => {
                    child.kill().expect("kill the broker");
                    child.wait().expect("wait for the broker");
                    return Err(format!("ActiveMQ {} did not start", self.version.number()));
                }
            }
        }
        *self.process() = Some(Process { child, questions, answers });
        Ok(())
    }

    /// The configuration: all that differs comes as system properties, but for a value that the schema
    /// checks before they are put in.
    fn configuration(&self) -> PathBuf {
        let template = support_directory().join("activemq.xml");
        let mut text = fs::read_to_string(template).expect("read activemq.xml");
        if self.options.anonymous {
            text = text.replace(r#"anonymousAccessAllowed="false""#, r#"anonymousAccessAllowed="true""#);
        }
        let path = self.directory.path().join("activemq.xml");
        fs::write(&path, text).expect("write activemq.xml");
        path
    }

    fn command(&self) -> Command {
        let home = self.version.directory().unwrap_or_else(|reason| panic!("{reason}"));
        let mut command = Command::new("java");
        command
            // Small and quick to start: two brokers share two cores with the tests.
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"])
            .arg(format!("-Dtest.data={}", self.directory.path().display()))
            .arg(format!("-Dtest.sync={}", if self.options.sync { "always" } else { "never" }))
            .arg(format!("-Dtest.stomp={}", self.ports.stomp))
            .arg(format!("-Dtest.stomp_tls={}", self.ports.stomp_tls))
            .arg(format!("-Dtest.openwire={}", self.ports.openwire))
            .arg("-cp")
            .arg(format!("{0}/classes:{0}/lib/*", home.display()))
            .arg("TestBroker")
            .arg(format!("xbean:file:{}", self.configuration().display()))
            .args([&self.certificates.server, &self.certificates.key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
            self.directory.disable_cleanup(true);
        }
        self.kill();
    }
}

impl Ports {
    fn free() -> Self {
        Self { stomp: free_port(), stomp_tls: free_port(), openwire: free_port() }
    }
}

/// Directories lie in Cargo's own for integration tests and are named after the process, so that a later
/// run removes what an earlier one, killed or failed, has left.
fn new_directory(version: Version) -> TempDir {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("brokers");
    fs::create_dir_all(&parent).expect("make a directory for brokers");
    for entry in fs::read_dir(&parent).expect("list the directory of brokers").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let alive = name.split('-').next().is_some_and(|pid| Path::new("/proc").join(pid).exists());
        if !alive {
            // Another run may be removing it too.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    let prefix = format!("{}-v{}-", std::process::id(), version.number());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).expect("make a broker's directory")
}

fn lines_of(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(16);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn support_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/activemq")
}
