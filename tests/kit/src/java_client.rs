//! Runs ActiveMQ's own Java client as a process.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::broker::Version;
use super::process::Server;

/// A received message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    pub timestamp: u64,
    pub redeliveries: u32,
    pub body: String,
}

pub struct JavaClient(pub Server);

impl JavaClient {
    /// Starts the client of ActiveMQ `version`, not connected yet. `url` may contain options of the client.
    pub fn new(version: Version, url: &str, username: &str, password: &str, client_id: &str) -> Self {
        let home = version.directory().unwrap_or_else(|reason| panic!("{reason}"));
        let mut command = Command::new("java");
        command.args(["-Xmx128m", "-XX:+UseSerialGC"]);
        command.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", home.display()));
        command.args(["TestClient", url, username, password, client_id]);
        let server = Server::new("java-client");
        server.launch(command).unwrap_or_else(|reason| panic!("{reason}"));
        Self(server)
    }

    /// Returns "connected", or the error.
    pub fn connect(&self) -> String {
        self.0.ask("connect")
    }

    /// Returns "consuming", or the error. `mode` is auto or client.
    pub fn consume(&self, mode: &str, queue: &str) -> String {
        self.0.ask(&format!("consume {mode} {queue}"))
    }

    /// Publishes a persistent message with a property of every type and a group, and waits until the broker
    /// has confirmed it. `kind` is the name in Java in lower case, optionally with `compressed-` before it.
    pub fn publish(&self, kind: &str, topic: &str, body: &str) {
        let body = STANDARD.encode(body);
        assert_eq!(self.0.ask(&format!("publish {kind} {topic} {body}")), "published");
    }

    pub fn next(&self) -> Message {
        let answer = self.0.ask("next");
        let fields: Vec<_> = answer.splitn(5, ' ').collect();
        let ["message", id, timestamp, redeliveries, body] = fields[..] else { panic!("{answer}") };
        let (timestamp, redeliveries) = (timestamp.parse().unwrap(), redeliveries.parse().unwrap());
        Message { id: id.to_owned(), timestamp, redeliveries, body: body.to_owned() }
    }

    pub fn messages(&self, count: usize) -> Vec<Message> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Acknowledges all received messages.
    pub fn acknowledge(&self) {
        assert_eq!(self.0.ask("acknowledge"), "acknowledged");
    }
}
