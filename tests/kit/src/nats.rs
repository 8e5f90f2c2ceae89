//! Runs real NATS servers, each as a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, Message, stream};
use futures_util::StreamExt;

use super::certificates::Certificates;
use super::ports::{free_port, loopback};
use super::process::Server;
use super::provision::{provisioned, support_directory};

/// The directory of the server, or the reason why it is not available.
pub fn directory() -> Result<PathBuf, String> {
    provisioned("nats", "2")
}

/// Whether a server is available. If not, prints that `test` did not run.
pub fn available(test: &str) -> bool {
    let Err(reason) = directory() else { return true };
    super::did_not_run(test, &reason);
    false
}

/// Turns each `async fn name()` into one test, `name::v2`. If there is no server, the test prints its name
/// and the reason why it did not run; with `REQUIRE_BROKERS=1` it fails.
#[macro_export]
macro_rules! on_nats {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn v2() {
                if $crate::nats::available(concat!(module_path!(), "::v2")) {
                    let _log = $crate::nats::ShownOnFailure;
                    super::$name().await;
                }
            }
        }
    )+};
}
pub use crate::on_nats;

/// A server with JetStream on a free loopback port, with its own directory. It ends when dropped or when the
/// test process ends in any way.
pub struct NatsServer {
    config: Mutex<String>,
    port: u16,
    server: Server,
}

static SHARED: OnceLock<NatsServer> = OnceLock::new();

/// The server that tests share. Each test uses its own streams and subjects. A test that stops, kills or
/// freezes its server must start its own.
pub fn shared() -> &'static NatsServer {
    SHARED.get_or_init(|| NatsServer::start(""))
}

/// Prints the end of the shared server's log when its test fails. A test's own server prints its log itself.
pub struct ShownOnFailure;

impl Drop for ShownOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(server) = SHARED.get()
        {
            eprintln!("{}", server.server.log_tail());
        }
    }
}

impl NatsServer {
    /// Starts a server with `config` added to its configuration, and waits until it is ready. A `jetstream`
    /// block in `config` replaces the usual one; in it, `STORE` stands for the directory of the store.
    pub fn start(config: &str) -> Self {
        let server = Server::new("nats");
        let port = server.launch_on(free_port, |port| command(&server, port, config));
        Self { config: Mutex::new(config.to_owned()), port, server }
    }

    /// Starts three servers that are one cluster. They name no other server's address to a client.
    pub fn start_three() -> [Self; 3] {
        let ports = [(); 3].map(|()| free_port());
        let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        ports.map(|port| {
            Self::start(&format!(
                "server_name: n{port}\ncluster {{ name: tests, listen: \"127.0.0.1:{port}\", no_advertise: true, \
                 routes: [{routes}] }}\n"
            ))
        })
    }

    /// Like [`start`](Self::start), over TLS with these certificates. `options` are additional lines of the
    /// `tls` block.
    pub fn with_tls(certificates: &Certificates, options: &str) -> Self {
        let (certificate, key) = (certificates.server.display(), certificates.key.display());
        let ca = certificates.authority.display();
        Self::start(&format!(
            "tls {{\n cert_file: \"{certificate}\"\n key_file: \"{key}\"\n ca_file: \"{ca}\"\n {options}\n}}\n"
        ))
    }

    pub fn addr(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The value of the sink's `url`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// Stops the server cleanly, as an operator does.
    pub fn stop(&self) {
        self.server.terminate();
    }

    /// Kills the server at once (SIGKILL).
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Kills the server if it runs, and starts it on the same port with the same store.
    pub fn restart(&self) {
        self.kill();
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let started = self.server.launch(command(&self.server, self.port, &config));
        started.unwrap_or_else(|reason| panic!("{reason}\n{}", self.server.log_tail()));
    }

    /// Like [`restart`](Self::restart), with `config` instead of the earlier configuration.
    pub fn restart_with(&self, config: &str) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config.to_owned();
        self.restart();
    }

    /// Replaces the configuration while the server runs. Connections stay open.
    pub fn reload_with(&self, config: &str) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config.to_owned();
        // `command` writes the configuration file.
        drop(command(&self.server, self.port, config));
        self.server.hang_up();
    }

    /// Stops the process (SIGSTOP): connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// The end of the log, with its path.
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }

    /// JetStream for a client without a login.
    pub async fn jetstream(&self) -> jetstream::Context {
        self.jetstream_as(async_nats::ConnectOptions::new()).await
    }

    /// JetStream for a client with these options.
    pub async fn jetstream_as(&self, options: async_nats::ConnectOptions) -> jetstream::Context {
        jetstream::new(options.connect(self.url()).await.expect("connect to the NATS server"))
    }
}

fn command(server: &Server, port: u16, config: &str) -> Command {
    let program = directory().unwrap_or_else(|reason| panic!("{reason}")).join("nats-server");
    let store = server.directory().join("store");
    let usual = if config.contains("jetstream") { "" } else { "jetstream { store_dir: \"STORE\" }\n" };
    let text = format!("listen: \"{}\"\n{usual}{config}", loopback(port));
    let text = text.replace("STORE", &store.display().to_string());
    let path = server.directory().join("server.conf");
    fs::write(&path, text).expect("write the server's configuration");
    let mut command = Command::new("sh");
    command.arg(support_directory("run.sh")).arg(server.log_file());
    command.arg(program).arg("--config").arg(path);
    command
}

/// Makes a file-based stream for `subjects`.
pub async fn make_stream(jetstream: &jetstream::Context, name: &str, subjects: &[&str]) -> stream::Stream {
    let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
    let config = stream::Config { name: name.to_owned(), subjects, ..stream::Config::default() };
    jetstream.create_stream(config).await.expect("make a stream")
}

/// Returns all messages that the stream has now, in order; none if there is no such stream.
pub async fn read_stream(jetstream: &jetstream::Context, name: &str) -> Vec<Message> {
    let Ok(stream) = jetstream.get_stream(name).await else { return Vec::new() };
    let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let mut consumer: PullConsumer = stream.create_consumer(config).await.expect("make a consumer");
    let pending = consumer.info().await.expect("read the consumer's state").num_pending;
    let mut messages = Vec::new();
    while (messages.len() as u64) < pending {
        let mut batch = consumer.fetch().max_messages(1000).messages().await.expect("fetch");
        while let Some(message) = batch.next().await {
            messages.push(message.expect("a message"));
        }
    }
    messages
}
