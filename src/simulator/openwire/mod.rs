//! Answers OpenWire clients as ActiveMQ does: version 12, loose encoding, no cache (`protocols.md §3.6` to
//! 3.8).

mod acks;
mod error_texts;
mod message;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::source::openwire::wire::ack::MessageAck;
use crate::source::openwire::wire::command::{Command, Received, decode};
use crate::source::openwire::wire::control::ConsumerControl;
use crate::source::openwire::wire::framing::{OpenWireDecoder, OpenWireFrame, OpenWireLimits};
use crate::source::openwire::wire::ids::{ConsumerId, DestinationKind};
use crate::source::openwire::wire::info::{
    BrokerInfo, ConnectionInfo, ConsumerInfo, RemoveInfo, Removed, SessionInfo,
};
use crate::source::openwire::wire::properties::Value;
use crate::source::openwire::wire::types;
use crate::source::openwire::wire::wire_format::WireFormatInfo;

use self::error_texts::{name, text_of, thrown, unregistered};
use self::message::{OpenWireMessageWriter, SimulatedIds};
use super::exception::{CommandError, JavaException};
use super::heart_beat::ServerHeartBeat;
use super::in_flight::DeliveredMessages;
use super::protocol::{Flow, ServerProtocol};
use super::queue::{self, AckMode, LastDelivered, Wish};
use super::session::{ClientSession, SimulatedSubscription};
use super::state::{NAME, SimulatorState};

/// The limits on a frame from a client.
const LIMITS: OpenWireLimits = OpenWireLimits::with_body(1 << 20);

/// The `MaxInactivityDuration` that the broker offers.
const INACTIVITY: Duration = Duration::from_secs(30);

/// The `MaxInactivityDurationInitalDelay` that the broker offers.
const INITIAL_DELAY: Duration = Duration::from_secs(10);

/// The oldest version that has all fields of the version used here.
const OLDEST_VERSION: i32 = 10;

/// The session that every connection has. Java's client consumes advisory topics in it.
const CONNECTIONS_OWN: i64 = -1;

const JMS: &str = "javax.jms.JMSException";

#[derive(Debug)]
struct OpenWireConsumer {
    /// The id that the client chose.
    id: ConsumerId,
    consumer: queue::ConsumerNumber,
    writer: OpenWireMessageWriter,
}

impl SimulatedSubscription for OpenWireConsumer {
    fn consumer(&self) -> queue::ConsumerNumber {
        self.consumer
    }

    fn write(&mut self, delivered: &DeliveredMessages, out: &mut Vec<u8>) {
        self.writer.write(delivered, out);
    }
}

/// The broker's side of a connection over OpenWire.
#[derive(Debug)]
pub(crate) struct OpenWire {
    session: ClientSession<OpenWireConsumer>,
    ids: SimulatedIds,
    decoder: OpenWireDecoder,
    frames: Vec<OpenWireFrame>,
    heart_beat: ServerHeartBeat,
    /// Whether the client has sent its wire format.
    negotiated: bool,
    /// The numbers of the sessions that the client opened.
    sessions: BTreeSet<i64>,
    /// Consumers of advisory topics, which never get a message, and browsers, which got all messages at once.
    watchers: Vec<ConsumerId>,
}

impl ServerProtocol for OpenWire {
    fn input(&mut self) -> &mut Vec<u8> {
        self.decoder.buffer()
    }

    /// Bytes that are no frame or no command end the connection without a reply.
    fn answer(&mut self, now: Instant, out: &mut Vec<u8>) -> Flow {
        let decoded = self.decoder.decode(&mut self.frames);
        self.heart_beat.received(!self.frames.is_empty());
        for frame in std::mem::take(&mut self.frames) {
            let handled = decode(&frame).map(|received| self.handle(received, now, out));
            if handled.unwrap_or(Flow::Close) == Flow::Close {
                return Flow::Close;
            }
        }
        if decoded.is_ok() { Flow::Continue } else { Flow::Close }
    }

    fn fill(&mut self, limit: u64, size: usize, out: &mut Vec<u8>) -> u64 {
        self.session.fill(limit, size, out)
    }

    fn complain(&mut self, message: &str, out: &mut Vec<u8>) {
        let exception = thrown(JavaException::new(JMS, message));
        say(&Command::ConnectionError { exception }, out);
    }

    /// ActiveMQ sends the same command when a consumer is too slow.
    fn close_consumers(&mut self, out: &mut Vec<u8>) {
        for subscription in self.session.close_consumers() {
            let control =
                ConsumerControl { close: true, consumer: Some(subscription.id), ..Default::default() };
            say(&Command::ConsumerControl(control), out);
        }
    }

    fn heart_beat(&mut self) -> &mut ServerHeartBeat {
        &mut self.heart_beat
    }

    fn beat(&self, out: &mut Vec<u8>) {
        say(&Command::KeepAliveInfo, out);
    }
}

impl OpenWire {
    pub(crate) fn new(shared: Arc<SimulatorState>, peer: SocketAddr) -> Self {
        Self {
            ids: SimulatedIds::new(shared.id()),
            session: ClientSession::new(shared, peer),
            decoder: OpenWireDecoder::new(LIMITS, Budget::new(LIMITS.frame())),
            frames: Vec::new(),
            heart_beat: ServerHeartBeat::off(Instant::now()),
            negotiated: false,
            sessions: BTreeSet::new(),
            watchers: Vec::new(),
        }
    }

    fn handle(&mut self, received: Received, now: Instant, out: &mut Vec<u8>) -> Flow {
        let Received { command_id, response_required, command } = received;
        match command {
            Command::WireFormatInfo(info) => return self.negotiate(&info, now, out),
            _ if !self.negotiated => return Flow::Close,
            Command::ShutdownInfo => return Flow::Close,
            // The reply to a keep-alive is a keep-alive with the same command number.
            Command::KeepAliveInfo => {
                if response_required {
                    Command::KeepAliveInfo.encode(command_id, false, out);
                }
                return Flow::Continue;
            }
            _ => {}
        }
        match self.obey(command, now, out) {
            Ok(()) => {
                if response_required {
                    say(&Command::Response { correlation_id: command_id }, out);
                }
                Flow::Continue
            }
            Err(CommandError { exception, flow }) => {
                let exception = thrown(exception);
                let told = match response_required {
                    true => Command::ExceptionResponse { correlation_id: command_id, exception },
                    false => Command::ConnectionError { exception },
                };
                say(&told, out);
                flow
            }
        }
    }

    /// A real broker sends this when it accepts a connection. Here it waits for the client's wire format,
    /// because the first bytes decide the protocol.
    fn negotiate(&mut self, theirs: &WireFormatInfo, now: Instant, out: &mut Vec<u8>) -> Flow {
        if self.negotiated || theirs.version < OLDEST_VERSION {
            return Flow::Close;
        }
        let mut offer = WireFormatInfo::offer(INACTIVITY, INITIAL_DELAY, i64::MAX);
        let text = |name: &str, value: &str| (name.to_owned(), Value::Text(value.to_owned()));
        offer.properties.push(text("ProviderName", "ActiveMQ"));
        offer.properties.push(text("ProviderVersion", "5.17.2-simulator"));
        say(&Command::WireFormatInfo(offer), out);
        let shared = self.session.shared();
        let info = BrokerInfo { id: shared.id().to_owned(), url: None, name: NAME.to_owned() };
        say(&Command::BrokerInfo(info), out);
        self.negotiated = true;
        let inactivity = theirs.inactivity().min(INACTIVITY);
        let delay = theirs.initial_delay().min(INITIAL_DELAY);
        self.heart_beat = ServerHeartBeat::new(inactivity, inactivity / 3, delay, now);
        Flow::Continue
    }

    fn obey(&mut self, command: Command, now: Instant, out: &mut Vec<u8>) -> Result<(), CommandError> {
        match command {
            Command::ConnectionInfo(info) => return self.connect(&info, now),
            Command::SessionInfo(SessionInfo { connection, value }) => {
                if !self.session.is_logged_in() {
                    let connection = String::from_utf8_lossy(&connection);
                    return Err(unregistered("Cannot add a session to a connection", &connection).into());
                }
                self.sessions.insert(value);
            }
            Command::ConsumerInfo(info) => self.consume(info, out)?,
            Command::ConsumerControl(control) => self.resize(&control),
            Command::RemoveInfo(info) => self.remove(&info, now)?,
            Command::MessageAck(ack) => self.acknowledge(&ack)?,
            Command::Message(message) => {
                let destination = message.destination.as_ref().map(name).unwrap_or_default();
                return Err(self.session.unauthorized("write to", &destination).into());
            }
            Command::Other(types::TRANSACTION_INFO) => {
                return Err(JavaException::new(JMS, "Transactions are not simulated").into());
            }
            // Producers, temporary destinations and durable subscriptions have no effect here.
            _ => {}
        }
        Ok(())
    }

    fn connect(&mut self, info: &ConnectionInfo, now: Instant) -> Result<(), CommandError> {
        // A repeated ConnectionInfo has no effect.
        if self.session.is_logged_in() {
            return Ok(());
        }
        let password = info.password.as_ref().map_or("", |password| password.reveal());
        let client_id = info.client_id.as_deref().ok_or_else(|| {
            let message = "No clientID specified for connection request";
            JavaException::new("javax.jms.InvalidClientIDException", message)
        });
        let logged_in =
            client_id.and_then(|id| self.session.log_in(info.user_name.as_deref(), password, Some(id), now));
        logged_in.map(drop).map_err(|exception| CommandError::from(exception).fatal())
    }

    /// The messages for a browser come before the response, which the protocol allows.
    fn consume(&mut self, info: ConsumerInfo, out: &mut Vec<u8>) -> Result<(), JavaException> {
        let ConsumerInfo { consumer: id, destination, .. } = info;
        if id.session != CONNECTIONS_OWN && !self.sessions.contains(&id.session) {
            let session = format!("{}:{}", String::from_utf8_lossy(&id.connection), id.session);
            return Err(unregistered(&format!("{NAME} Cannot add a consumer to a session"), &session));
        }
        if self.watchers.contains(&id) || self.find(&id).is_some() {
            return Ok(());
        }
        if destination.kind == DestinationKind::Topic && destination.name.starts_with(b"ActiveMQ.Advisory.") {
            self.watchers.push(id);
            return Ok(());
        }
        if info.selector.is_some() {
            return Err(JavaException::new(JMS, "Selectors are not simulated"));
        }
        if info.browser {
            let prefetch = u64::try_from(info.prefetch).unwrap_or(0);
            let browsed = self.session.browse(&name(&destination), prefetch)?;
            let mut writer = OpenWireMessageWriter::new(self.ids.clone(), &browsed.queue, id.clone());
            browsed.messages.iter().for_each(|delivered| writer.write(delivered, out));
            if browsed.is_all {
                writer.write_end(out);
            }
            self.watchers.push(id);
            return Ok(());
        }
        let wish = Wish {
            mode: AckMode::Client,
            prefetch: u64::try_from(info.prefetch).unwrap_or(0),
            exclusive: info.exclusive,
            priority: info.priority.min(127),
        };
        let (consumer, queue) = self.session.consume(&name(&destination), wish)?;
        let writer = OpenWireMessageWriter::new(self.ids.clone(), &queue, id.clone());
        self.session.subscriptions.push(OpenWireConsumer { id, consumer, writer });
        Ok(())
    }

    fn find(&self, id: &ConsumerId) -> Option<usize> {
        self.session.subscriptions.iter().position(|subscription| subscription.id == *id)
    }

    fn resize(&mut self, control: &ConsumerControl) {
        let found = control.consumer.as_ref().and_then(|id| self.find(id));
        let Some(subscription) = found.and_then(|at| self.session.subscriptions.get(at)) else { return };
        let (consumer, prefetch) = (subscription.consumer, u64::try_from(control.prefetch).unwrap_or(0));
        self.session.shared().change(|broker| {
            if let Some(queue) = broker.queue_of(consumer) {
                queue.resize(consumer, prefetch);
            }
        });
    }

    fn remove(&mut self, info: &RemoveInfo, now: Instant) -> Result<(), JavaException> {
        let delivered = match info.last_delivered {
            -2 => LastDelivered::Unknown,
            sequence => LastDelivered::Sequence(u64::try_from(sequence).unwrap_or(0)),
        };
        match &info.object {
            Removed::Consumer(id) => {
                let watchers = self.watchers.len();
                self.watchers.retain(|watcher| watcher != id);
                let removed = self.session.remove(delivered, |subscription| subscription.id == *id);
                if removed == 0 && self.watchers.len() == watchers {
                    return Err(unregistered("Cannot remove a consumer", &text_of(id)));
                }
            }
            Removed::Session(SessionInfo { value, .. }) => {
                self.session.remove(delivered, |subscription| subscription.id.session == *value);
                self.sessions.remove(value);
            }
            Removed::Connection(_) => {
                self.session.remove(delivered, |_| true);
                self.session.leave(true, now);
                self.sessions.clear();
            }
            Removed::Producer(_) => {}
        }
        Ok(())
    }

    /// Acknowledgements of an unknown consumer have no effect.
    fn acknowledge(&mut self, ack: &MessageAck) -> Result<(), JavaException> {
        let found = self.find(&ack.consumer).and_then(|at| self.session.subscriptions.get(at));
        let Some(consumer) = found.map(|subscription| subscription.consumer) else { return Ok(()) };
        self.session.shared().change(|broker| {
            let queue = broker.queue_of(consumer);
            queue.map_or(Ok(()), |queue| acks::acknowledge(queue, consumer, ack, &self.ids))
        })
    }
}

/// Sends a command to the client. Commands from the broker have the number 0.
fn say(command: &Command, out: &mut Vec<u8>) {
    command.encode(0, false, out);
}
