//! A STOMP client that shares no code with the crate: it only splits the stream at NUL.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use atdata_bridge::simulator::Simulator;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything takes over loopback.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) command: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Frame {
    fn parse(bytes: &[u8]) -> Self {
        let at = bytes.windows(2).position(|pair| pair == b"\n\n").expect("an empty line after the head");
        let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
        let mut lines = head.lines();
        let command = lines.next().unwrap().to_owned();
        let headers = lines.map(|line| line.split_once(':').unwrap());
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { command, headers, body: bytes[at + 2..].to_vec() }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl std::ops::Index<&str> for Frame {
    type Output = str;

    fn index(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub(super) struct Client {
    socket: BufReader<TcpStream>,
}

impl Client {
    pub(super) async fn open(address: SocketAddr) -> Self {
        Self { socket: BufReader::new(TcpStream::connect(address).await.unwrap()) }
    }

    /// Logs in with the default login, and returns the client and the answer.
    pub(super) async fn log_in(simulator: &Simulator, headers: &str) -> (Self, Option<Frame>) {
        let mut client = Self::open(simulator.address()).await;
        client.connect("12345", headers).await;
        let answer = client.frame().await;
        (client, answer)
    }

    pub(super) async fn connect(&mut self, username: &str, headers: &str) {
        let password = "0123456789abcdef0123456789abcdef";
        let login = format!("accept-version:1.2\nhost:h\nlogin:{username}\npasscode:{password}\n");
        self.send(&format!("CONNECT\n{login}{headers}\n")).await;
    }

    /// Logs in and subscribes `0` to a queue of `acme`. Reads the RECEIPT.
    pub(super) async fn subscribed(simulator: &Simulator, destination_id: &str, headers: &str) -> Self {
        let (mut client, connected) = Self::log_in(simulator, "").await;
        assert_eq!(connected.unwrap().command, "CONNECTED");
        client.subscribe(destination_id, headers).await;
        client
    }

    pub(super) async fn subscribe(&mut self, destination_id: &str, headers: &str) {
        let destination = format!("destination:/queue/{destination_id}.RTO.acme\nreceipt:s\nid:0\n");
        self.send(&format!("SUBSCRIBE\n{destination}{headers}\n")).await;
        let receipt = self.frame().await.unwrap();
        assert_eq!((receipt.command.as_str(), &receipt["receipt-id"]), ("RECEIPT", "s"));
    }

    /// Sends without reporting errors: a closed connection is noticed at the next read.
    pub(super) async fn send(&mut self, frame: &str) {
        self.socket.get_mut().write_all(format!("{frame}\0").as_bytes()).await.ok();
    }

    pub(super) async fn ack(&mut self, message: &Frame) {
        self.send(&format!("ACK\nid:{}\n\n", &message["ack"])).await;
    }

    /// Returns the next frame, or `None` if the connection ends, even inside a frame.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        let mut bytes = Vec::new();
        let read = timeout(PATIENCE, self.socket.read_until(0, &mut bytes)).await.expect("a frame in time");
        read.ok().filter(|_| bytes.pop() == Some(0))?;
        let start = bytes.iter().position(|byte| *byte != b'\n')?;
        Some(Frame::parse(&bytes[start..]))
    }

    pub(super) async fn message(&mut self) -> Frame {
        let frame = self.frame().await.expect("a message, not the end");
        assert_eq!(frame.command, "MESSAGE", "{frame:?}");
        frame
    }

    pub(super) async fn messages(&mut self, count: usize) -> Vec<Frame> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.push(self.message().await);
        }
        messages
    }

    /// Returns the next byte of any kind, or `None` at the end.
    pub(super) async fn byte(&mut self) -> Option<u8> {
        timeout(PATIENCE, self.socket.read_u8()).await.expect("a byte in time").ok()
    }

    pub(super) fn local_address(&self) -> SocketAddr {
        self.socket.get_ref().local_addr().unwrap()
    }

    /// Checks that everything sent before has been answered, and that nothing else was received.
    pub(super) async fn assert_nothing_more(&mut self) {
        self.send("UNSUBSCRIBE\nid:0\nreceipt:quiet\n\n").await;
        let receipt = self.frame().await.unwrap();
        assert_eq!(&receipt["receipt-id"], "quiet", "{receipt:?}");
    }
}
