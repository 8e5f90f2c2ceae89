//! Runs the rivals: programs that carry events from a queue to a sink as a user without the bridge would write
//! them. Benchmarks compare the bridge with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::SOON;
use super::bridge::Bridge;
use super::broker::{Broker, Protocol};
use super::process::scratch;
use super::provision::provisioned;
use super::stomp::Login;

/// A rival, by its language. The programs are in `tests/kit/rivals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// Reads STOMP by itself.
    Go,
    /// Uses ActiveMQ's own client, which talks OpenWire.
    Java,
    /// Uses a client of STOMP.
    Python,
}

/// Where a rival carries the events.
#[derive(Clone, Debug)]
pub enum RivalSink {
    /// A topic, with the MD5 as the key of each record.
    Kafka {
        /// The value of `bootstrap.servers`.
        bootstrap: String,
        topic: String,
        /// Sends each record at once, instead of waiting as long as the client does by default.
        at_once: bool,
    },
    /// A stream, with the broker's message id as `Nats-Msg-Id`.
    JetStream {
        url: String,
        /// The MD5 of each event is appended if it ends with a dot.
        subject: String,
    },
    /// A file, with a line for each event.
    File(PathBuf),
}

impl Rival {
    pub const ALL: [Self; 3] = [Self::Go, Self::Java, Self::Python];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "a page of Go (franz-go, nats.go)",
            Self::Java => "Java (activemq-client, kafka-clients, jnats)",
            Self::Python => "Python (stomp.py, confluent-kafka, nats-py)",
        }
    }

    /// The versions of its libraries, as its build names them.
    pub fn versions(self) -> String {
        let (file, names) = match self {
            Self::Go => (include_str!("../rivals/go/go.mod"), ["franz-go", "nats.go"].as_slice()),
            Self::Java => {
                let names = ["activemq-client", "kafka-clients", "jnats"].as_slice();
                (include_str!("../rivals/java/pom.xml"), names)
            }
            Self::Python => {
                let names = ["stomp.py", "confluent-kafka", "nats-py"].as_slice();
                (include_str!("../rivals/python/requirements.txt"), names)
            }
        };
        let version = |name: &&str| {
            let (_, rest) = file.split_once(*name).expect("a dependency");
            let rest = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
            let version = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next();
            format!("{name} {}", version.unwrap_or_default())
        };
        names.iter().map(version).collect::<Vec<_>>().join(", ")
    }

    /// The directory of the program, or the reason why it is not available.
    pub fn available(self) -> Result<PathBuf, String> {
        provisioned("rivals", self.language())
    }

    fn language(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Java => "java",
            Self::Python => "python",
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Go | Self::Python => Protocol::Stomp,
            Self::Java => Protocol::OpenWire,
        }
    }

    /// Starts the program as a consumer of `queue`. The broker sends it at most `prefetch` events before it
    /// acknowledges some.
    pub fn start(self, broker: &Broker, queue: &str, prefetch: u32, sink: RivalSink) -> RunningRival {
        let home = self.available().unwrap_or_else(|reason| panic!("{reason}"));
        let login = Login::customer();
        let mut command = self.command(&home);
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME"))
            .env("RIVAL_BROKER", broker.addr_of(self.protocol()).to_string())
            .env("RIVAL_USERNAME", login.username)
            .env("RIVAL_PASSWORD", login.password)
            .env("RIVAL_CLIENT_ID", format!("rival-{queue}"))
            .env("RIVAL_QUEUE", queue)
            .env("RIVAL_PREFETCH", prefetch.to_string());
        match sink {
            RivalSink::Kafka { bootstrap, topic, at_once } => {
                // The clients of the others wait for nothing, because they are flushed.
                command.envs(at_once.then_some(("RIVAL_LINGER", "0s")));
                command.env("RIVAL_KAFKA", bootstrap).env("RIVAL_TOPIC", topic)
            }
            RivalSink::JetStream { url, subject } => {
                command.env("RIVAL_NATS", url).env("RIVAL_SUBJECT", subject)
            }
            RivalSink::File(path) => command.env("RIVAL_FILE", path),
        };
        let logs = tempfile::tempdir_in(scratch()).expect("make a directory for a rival's log");
        let process = Bridge::spawn(command, logs.path().join("rival.log"), false);
        RunningRival { process, _logs: logs }
    }

    fn command(self, home: &Path) -> Command {
        match self {
            Self::Go => Command::new(home.join("rival")),
            Self::Java => {
                let mut command = Command::new("java");
                command.args(["-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
                command.arg(format!("{0}/classes:{0}/lib/*", home.display())).arg("Rival");
                command
            }
            Self::Python => {
                let mut command = Command::new(home.join("venv/bin/python"));
                command.arg(home.join("rival.py"));
                command
            }
        }
    }
}

/// The process of a rival; killed when dropped.
pub struct RunningRival {
    process: Bridge,
    _logs: TempDir,
}

impl RunningRival {
    /// The processor time used, in user and kernel mode.
    pub fn processor_time(&self) -> Duration {
        self.process.processor_time()
    }

    /// The peak memory (resident set), in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.process.peak_memory()
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.status().is_some()
    }

    /// Panics with the end of its log if the process has ended.
    pub fn assert_running(&mut self) {
        let status = self.process.status();
        assert_eq!(status, None, "the rival has ended: {}", self.process.log());
    }

    /// Kills the process at once (SIGKILL).
    pub fn kill(self) {
        self.process.kill();
    }

    /// Stops the process (SIGTERM). It must settle the events that it has taken, and end with 0.
    pub async fn stop(mut self) {
        self.process.terminate();
        let status = self.process.ended(SOON).await;
        assert_eq!(status.code(), Some(0), "{status}: {}", self.process.log());
    }
}
