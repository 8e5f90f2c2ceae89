//! An OpenWire client that uses the bridge's codec. `simulator/java.rs` tests the same bytes with Java's own
//! client.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use atdata_bridge::budget::Budget;
use atdata_bridge::secret::Secret;
use atdata_bridge::simulator::Simulator;
use atdata_bridge::source::openwire::wire::ack::{AckType, MessageAck};
use atdata_bridge::source::openwire::wire::command::{Command, Received, decode};
use atdata_bridge::source::openwire::wire::framing::{OpenWireDecoder, OpenWireLimits};
use atdata_bridge::source::openwire::wire::ids::{ConsumerId, Destination};
use atdata_bridge::source::openwire::wire::info::{
    ConnectionInfo, ConsumerInfo, RemoveInfo, Removed, SessionInfo,
};
use atdata_bridge::source::openwire::wire::message::Dispatch;
use atdata_bridge::source::openwire::wire::wire_format::WireFormatInfo;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::PATIENCE;

/// Returns a new connection id for each client: a broker would treat a second client with the same id as its
/// successor.
fn connection_id() -> Bytes {
    format!("ID:tests-{:032x}", fastrand::u128(..)).into()
}

pub(super) struct Client {
    socket: TcpStream,
    decoder: OpenWireDecoder,
    received: VecDeque<Received>,
    connection: Bytes,
    last_command: i32,
}

impl Client {
    /// Connects and exchanges handshakes. Checks the broker's WireFormatInfo and BrokerInfo.
    pub(super) async fn open(address: SocketAddr, inactivity: Duration) -> Self {
        let mut client = Self {
            socket: TcpStream::connect(address).await.unwrap(),
            decoder: OpenWireDecoder::new(OpenWireLimits::with_body(4 << 20), Budget::new(64 << 20)),
            received: VecDeque::new(),
            connection: connection_id(),
            last_command: 0,
        };
        let offer = WireFormatInfo::offer(inactivity, inactivity, 100 << 20);
        client.send(Command::WireFormatInfo(offer), false).await;
        let first = client.receive().await.unwrap().command;
        assert!(matches!(first, Command::WireFormatInfo(_)), "{first:?}");
        let second = client.receive().await.unwrap().command;
        assert_eq!(second, Command::Other(2));
        client
    }

    /// Logs in with the default login, opens session 1 and consumes a queue of `acme`.
    pub(super) async fn consuming(simulator: &Simulator, destination_id: &str, prefetch: i32) -> Self {
        let mut client = Self::open(simulator.address(), Duration::ZERO).await;
        assert_eq!(client.log_in("12345", Some("acme-d1")).await, "done");
        assert_eq!(client.open_session().await, "done");
        assert_eq!(client.consume(1, &format!("{destination_id}.RTO.acme"), prefetch).await, "done");
        client
    }

    /// Sends without reporting errors: a closed connection is noticed at the next read.
    pub(super) async fn send(&mut self, command: Command, response_required: bool) -> i32 {
        self.last_command += 1;
        let mut out = Vec::new();
        command.encode(self.last_command, response_required, &mut out);
        self.socket.write_all(&out).await.ok();
        self.last_command
    }

    /// Returns the next command, or `None` if the connection ends, even inside a frame.
    pub(super) async fn receive(&mut self) -> Option<Received> {
        while self.received.is_empty() {
            let read = self.socket.read_buf(self.decoder.buffer());
            let count = timeout(PATIENCE, read).await.expect("a frame in time").unwrap_or(0);
            if count == 0 {
                return None;
            }
            let mut frames = Vec::new();
            self.decoder.decode(&mut frames).unwrap();
            self.received.extend(frames.iter().map(|frame| decode(frame).unwrap()));
        }
        self.received.pop_front()
    }

    /// Sends a command and waits for its response. Keeps the commands before it for `receive`. Returns "done"
    /// or the exception.
    pub(super) async fn request(&mut self, command: Command) -> String {
        let id = self.send(command, true).await;
        let mut before = VecDeque::new();
        let answer = loop {
            let received = self.receive().await.expect("an answer, not the end");
            match received.command {
                Command::Response { correlation_id } if correlation_id == id => break "done".to_owned(),
                Command::ExceptionResponse { correlation_id, exception } if correlation_id == id => {
                    break exception.to_string();
                }
                command => before.push_back(Received { command, ..received }),
            }
        };
        before.append(&mut self.received);
        self.received = before;
        answer
    }

    pub(super) async fn log_in(&mut self, user_name: &str, client_id: Option<&str>) -> String {
        self.request(Command::ConnectionInfo(ConnectionInfo {
            connection: self.connection.clone(),
            client_id: client_id.map(str::to_owned),
            password: Some(Secret::new("0123456789abcdef0123456789abcdef")),
            user_name: Some(user_name.to_owned()),
        }))
        .await
    }

    pub(super) fn session(&self) -> SessionInfo {
        SessionInfo { connection: self.connection.clone(), value: 1 }
    }

    pub(super) async fn open_session(&mut self) -> String {
        self.request(Command::SessionInfo(self.session())).await
    }

    pub(super) fn consumer(&self, value: i64) -> ConsumerId {
        ConsumerId { connection: self.connection.clone(), session: 1, value }
    }

    pub(super) async fn consume(&mut self, value: i64, queue: &str, prefetch: i32) -> String {
        let destination = Destination::queue(queue.to_owned());
        let info = ConsumerInfo::new(self.consumer(value), destination, prefetch);
        self.request(Command::ConsumerInfo(info)).await
    }

    pub(super) async fn remove(&mut self, object: Removed, last_delivered: i64) -> String {
        self.request(Command::RemoveInfo(RemoveInfo { object, last_delivered })).await
    }

    pub(super) fn ack(
        &self,
        kind: AckType,
        first: Option<&Dispatch>,
        last: &Dispatch,
        count: i32,
    ) -> Command {
        let id = |dispatch: &Dispatch| dispatch.message.as_ref().unwrap().raw_id.clone();
        let (first, last_id) = (first.map(id), id(last));
        let destination = last.destination.clone().unwrap();
        let consumer = last.consumer.clone();
        Command::MessageAck(MessageAck { destination, consumer, kind, first, last: last_id, count })
    }

    pub(super) async fn dispatch(&mut self) -> Dispatch {
        match self.receive().await.expect("a message, not the end").command {
            Command::MessageDispatch(dispatch) => dispatch,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn dispatches(&mut self, count: usize) -> Vec<Dispatch> {
        let mut dispatches = Vec::new();
        while dispatches.len() < count {
            dispatches.push(self.dispatch().await);
        }
        dispatches
    }

    /// Checks that everything sent before has been answered, and that nothing else was received.
    pub(super) async fn assert_nothing_more(&mut self) {
        assert_eq!(self.open_session().await, "done");
        assert!(self.received.is_empty(), "{:?}", self.received);
    }
}
