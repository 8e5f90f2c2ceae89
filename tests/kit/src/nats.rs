//! Real NATS servers, each one process of the tests' own.

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

/// Where the server is, or why there is none.
pub fn directory() -> Result<PathBuf, String> {
    provisioned("nats", "2")
}

/// Whether `test` can have a server; tells when not.
pub fn available(test: &str) -> bool {
    let Err(reason) = directory() else { return true };
    super::did_not_run(test, &reason);
    false
}

/// Makes of each `async fn name()` one test, `name::v2`. Where there is no server, the test says by name that it
/// did not run, and why; with `REQUIRE_BROKERS=1` it fails.
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

/// A server with JetStream on a free loopback port, with a directory of its own; ends when dropped, or with
/// the tests' process, however that ends.
pub struct NatsServer {
    config: Mutex<String>,
    port: u16,
    server: Server,
}

static SHARED: OnceLock<NatsServer> = OnceLock::new();

/// The server that tests share, each with streams and subjects of its own. A test that stops, kills or
/// freezes its server must start one for itself.
pub fn shared() -> &'static NatsServer {
    SHARED.get_or_init(|| NatsServer::start(""))
}

/// Shows the end of the shared server's log when its test fails; other servers show their own.
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
    /// Starts a server, `config` added to its configuration, and waits until it serves. A `jetstream` block of its own
    /// stands instead of the usual one; `STORE` in it is where it may write.
    pub fn start(config: &str) -> Self {
        let server = Server::new("nats");
        let port = server.launch_on(free_port, |port| command(&server, port, config));
        Self { config: Mutex::new(config.to_owned()), port, server }
    }

    /// The same, serving TLS with these certificates; `options` are more lines of its `tls` block.
    pub fn with_tls(certificates: &Certificates, options: &str) -> Self {
        let (certificate, key) = (certificates.server.display(), certificates.key.display());
        let ca = certificates.authority.display();
        Self::start(&format!(
            "tls {{\n cert_file: \"{certificate}\"\n key_file: \"{key}\"\n ca_file: \"{ca}\"\n {options}\n}}\n"
        ))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// What the bridge's `url` must be.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Kills it if it runs, and starts it on the same port with the same store.
    pub fn restart(&self) {
        self.kill();
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let started = self.server.launch(command(&self.server, self.port, &config));
        started.unwrap_or_else(|reason| panic!("{reason}\n{}", self.server.log_tail()));
    }

    /// The same with `config` instead of what it was started with.
    pub fn restart_with(&self, config: &str) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config.to_owned();
        self.restart();
    }

    /// Gives it `config` instead while it runs: connections stay.
    pub fn reload_with(&self, config: &str) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config.to_owned();
        // Writes the file.
        drop(command(&self.server, self.port, config));
        self.server.hang_up();
    }

    /// Stops its clock (SIGSTOP): connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// JetStream, as a client that needs no login sees it.
    pub async fn jetstream(&self) -> jetstream::Context {
        self.jetstream_as(async_nats::ConnectOptions::new()).await
    }

    /// JetStream, as a client with these options sees it.
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
    command.arg(support_directory("nats").join("run.sh")).arg(server.log_file());
    command.arg(program).arg("--config").arg(path);
    command
}

/// Makes a stream in files for `subjects`.
pub async fn make_stream(jetstream: &jetstream::Context, name: &str, subjects: &[&str]) -> stream::Stream {
    let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
    let config = stream::Config { name: name.to_owned(), subjects, ..stream::Config::default() };
    jetstream.create_stream(config).await.expect("make a stream")
}

/// Everything that the stream holds now, in its order; nothing if there is no such stream.
pub async fn read_stream(jetstream: &jetstream::Context, name: &str) -> Vec<Message> {
    let Ok(stream) = jetstream.get_stream(name).await else { return Vec::new() };
    let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let mut consumer: PullConsumer = stream.create_consumer(config).await.expect("make a consumer");
    let pending = consumer.info().await.expect("look at the consumer").num_pending;
    let mut messages = Vec::new();
    while (messages.len() as u64) < pending {
        let mut batch = consumer.fetch().max_messages(1000).messages().await.expect("fetch");
        while let Some(message) = batch.next().await {
            messages.push(message.expect("a message"));
        }
    }
    messages
}
