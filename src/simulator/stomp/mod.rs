//! Answers clients of STOMP 1.0, 1.1 and 1.2 as ActiveMQ does.

mod acks;
mod message;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::source::stomp::frame::{Encoder, Escapes, StompCommand, StompFrame};
use crate::source::stomp::framing::{StompDecoder, StompLimits};

use self::message::StompMessageWriter;
use super::exception::{CommandError, JavaException, SECURITY};
use super::heart_beat::ServerHeartBeat;
use super::in_flight::DeliveredMessages;
use super::protocol::{Flow, ServerProtocol};
use super::queue::{AckMode, ConsumerNumber, Wish};
use super::session::{ClientSession, SimulatedSubscription};
use super::state::SimulatorState;

/// ActiveMQ's default prefetch for a queue.
const DEFAULT_PREFETCH: u64 = 1000;

/// The limits on a frame from a client.
const LIMITS: StompLimits = StompLimits { line: 10 << 10, headers: 1000, body: 1 << 20 };

#[derive(Debug)]
struct StompSubscription {
    /// The id that the client chose; version 1.0 needs none.
    id: Option<String>,
    queue: String,
    consumer: ConsumerNumber,
    writer: StompMessageWriter,
}

impl SimulatedSubscription for StompSubscription {
    fn consumer(&self) -> ConsumerNumber {
        self.consumer
    }

    fn write(&mut self, delivered: &DeliveredMessages, out: &mut Vec<u8>) {
        self.writer.write(delivered, out);
    }
}

/// The version agreed with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    V1_0,
    V1_1,
    V1_2,
}

/// The newest version comes first.
const VERSIONS: [(&str, Version); 3] =
    [("1.2", Version::V1_2), ("1.1", Version::V1_1), ("1.0", Version::V1_0)];

impl Version {
    /// The escapes of frames that the broker writes.
    fn escapes(self) -> Escapes {
        match self {
            Self::V1_0 => Escapes::None,
            Self::V1_1 => Escapes::V1_1,
            Self::V1_2 => Escapes::V1_2,
        }
    }

    /// The escapes of frames that the broker reads.
    fn unescapes(self) -> Escapes {
        if self == Self::V1_2 { Escapes::V1_2 } else { Escapes::V1_1 }
    }
}

/// The broker's side of a connection over STOMP.
#[derive(Debug)]
pub(crate) struct Stomp {
    session: ClientSession<StompSubscription>,
    decoder: StompDecoder,
    frames: Vec<StompFrame>,
    heart_beat: ServerHeartBeat,
    version: Version,
}

impl ServerProtocol for Stomp {
    fn input(&mut self) -> &mut Vec<u8> {
        self.decoder.buffer()
    }

    fn answer(&mut self, now: Instant, out: &mut Vec<u8>) -> Flow {
        let decoded = self.decoder.decode(&mut self.frames);
        self.heart_beat.received(!self.frames.is_empty());
        for frame in std::mem::take(&mut self.frames) {
            if self.handle(&frame, now, out) == Flow::Close {
                return Flow::Close;
            }
        }
        if let Err(error) = decoded {
            self.complain(&error.to_string(), out);
            return Flow::Close;
        }
        Flow::Continue
    }

    fn fill(&mut self, limit: u64, size: usize, out: &mut Vec<u8>) -> u64 {
        self.session.fill(limit, size, out)
    }

    fn complain(&mut self, message: &str, out: &mut Vec<u8>) {
        write_error(&protocol_error(message), None, self.escapes(), out);
    }

    /// STOMP has no frame that tells the client.
    fn close_consumers(&mut self, _: &mut Vec<u8>) {
        self.session.close_consumers();
    }

    fn heart_beat(&mut self) -> &mut ServerHeartBeat {
        &mut self.heart_beat
    }

    fn beat(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
    }
}

impl Stomp {
    pub(crate) fn new(shared: Arc<SimulatorState>, peer: SocketAddr) -> Self {
        Self {
            session: ClientSession::new(shared, peer),
            decoder: StompDecoder::new(LIMITS, Budget::new(LIMITS.body)),
            frames: Vec::new(),
            heart_beat: ServerHeartBeat::off(Instant::now()),
            version: Version::V1_2,
        }
    }

    fn handle(&mut self, frame: &StompFrame, now: Instant, out: &mut Vec<u8>) -> Flow {
        let escapes = self.escapes();
        match self.dispatch(frame, now, out) {
            Ok(flow) => flow,
            Err(error) => {
                let receipt = frame.header("receipt", self.version.unescapes());
                write_error(&error, receipt.as_deref(), escapes, out);
                error.flow
            }
        }
    }

    /// CONNECTED is written without escapes, and so is an ERROR that answers CONNECT.
    fn escapes(&self) -> Escapes {
        if self.session.is_logged_in() { self.version.escapes() } else { Escapes::None }
    }

    fn dispatch(
        &mut self,
        frame: &StompFrame,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Flow, CommandError> {
        if matches!(frame.command, StompCommand::Connect | StompCommand::Stomp) {
            self.connect(frame, now, out).map_err(CommandError::fatal)?;
            return Ok(Flow::Continue);
        }
        if !self.session.is_logged_in() {
            return Err(protocol_error("Not connected.").fatal());
        }
        match frame.command {
            StompCommand::Subscribe => return self.subscribe(frame, out).map(|()| Flow::Continue),
            StompCommand::Unsubscribe => self.unsubscribe(frame)?,
            StompCommand::Ack => self.acknowledge(frame, "ACK")?,
            StompCommand::Nack => self.acknowledge(frame, "NACK")?,
            StompCommand::Send => {
                return Err(self.session.unauthorized("write to", &self.destination(frame)).into());
            }
            StompCommand::Begin | StompCommand::Commit | StompCommand::Abort => {
                return Err(protocol_error("Transactions are not simulated"));
            }
            StompCommand::Disconnect => {
                let escapes = self.escapes();
                self.session.leave(true, now);
                self.write_receipt(frame, escapes, out);
                return Ok(Flow::Close);
            }
            other => {
                return Err(protocol_error(format!("Unknown STOMP action: {}", other.name())).fatal());
            }
        }
        self.write_receipt(frame, self.escapes(), out);
        Ok(Flow::Continue)
    }

    fn text(&self, frame: &StompFrame, name: &str) -> Option<String> {
        frame.text(name, self.version.unescapes())
    }

    /// Returns the `destination` of a frame in ActiveMQ's form. A name without a prefix is a queue.
    fn destination(&self, frame: &StompFrame) -> String {
        let written = self.text(frame, "destination").unwrap_or_default();
        match written.strip_prefix("/topic/") {
            Some(topic) => format!("topic://{topic}"),
            None => format!("queue://{}", written.strip_prefix("/queue/").unwrap_or(&written)),
        }
    }

    fn write_receipt(&self, frame: &StompFrame, escapes: Escapes, out: &mut Vec<u8>) {
        if let Some(receipt) = frame.header("receipt", self.version.unescapes()) {
            Encoder::begin(out, StompCommand::Receipt, escapes).header("receipt-id", receipt).end(b"");
        }
    }

    fn connect(&mut self, frame: &StompFrame, now: Instant, out: &mut Vec<u8>) -> Result<(), CommandError> {
        if self.session.is_logged_in() {
            return Err(protocol_error("Already connected."));
        }
        let header = |name| frame.text(name, Escapes::V1_1);
        let versions = header("accept-version").unwrap_or_else(|| "1.0".to_owned());
        let shared = VERSIONS.iter().find(|(name, _)| versions.split(',').any(|other| other.trim() == *name));
        let (version, agreed) = *shared.ok_or_else(|| {
            let message =
                format!("Invalid Protocol version[{versions}], supported versions are: [1.2, 1.1, 1.0]");
            protocol_error(message)
        })?;
        let beats = header("heart-beat").unwrap_or_else(|| "0,0".to_owned());
        let (sends, wants) = parse_heart_beat(&beats)
            .ok_or_else(|| protocol_error(format!("Invalid heart-beat header:{beats}")))?;
        let (username, password) =
            (header("login").unwrap_or_default(), header("passcode").unwrap_or_default());
        let client_id = header("client-id");
        let id = self.session.log_in(Some(&username), &password, client_id.as_deref(), now)?;
        let client_id = client_id.unwrap_or_else(|| format!("{}-2:{}", self.session.shared().id(), id.0));
        let mut reply = Encoder::begin(out, StompCommand::Connected, Escapes::None)
            .header("server", "ActiveMQ/5.17.2-simulator")
            .header("heart-beat", format!("{},{}", wants.as_millis(), sends.as_millis()))
            .header("session", client_id)
            .header("version", version);
        if let Some(receipt) = header("receipt") {
            reply = reply.header("receipt-id", receipt);
        }
        reply.end(b"");
        self.version = agreed;
        self.heart_beat = ServerHeartBeat::new(sends, wants, sends.min(wants), now);
        Ok(())
    }

    fn subscribe(&mut self, frame: &StompFrame, out: &mut Vec<u8>) -> Result<(), CommandError> {
        let id = self.text(frame, "id");
        if id.is_none() && self.version > Version::V1_0 {
            return Err(protocol_error("SUBSCRIBE received without a subscription id!"));
        }
        let (wish, destination) = (wish(frame), self.destination(frame));
        if self.version > Version::V1_0 && self.text(frame, "browser").as_deref() == Some("true") {
            return self.browse(frame, &destination, id.as_deref(), wish, out);
        }
        let (consumer, queue) = self.session.consume(&destination, wish)?;
        // The messages come when the buffer is filled the next time, so that none overtakes the receipt.
        self.write_receipt(frame, self.escapes(), out);
        let scope = format!("{}-{}", self.session.shared().id(), consumer.0);
        let writer = self.writer(&queue, id.as_deref(), wish.mode, &scope);
        self.session.subscriptions.push(StompSubscription { id, queue, consumer, writer });
        Ok(())
    }

    fn writer(&self, queue: &str, id: Option<&str>, mode: AckMode, scope: &str) -> StompMessageWriter {
        let scope = (mode != AckMode::Auto && self.version == Version::V1_2).then_some(scope);
        StompMessageWriter::new(self.session.shared().id(), queue, id, scope, self.escapes())
    }

    /// Sends all messages to the browser at once. Its acknowledgements have no effect.
    fn browse(
        &mut self,
        frame: &StompFrame,
        destination: &str,
        id: Option<&str>,
        wish: Wish,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let browsed = self.session.browse(destination, wish.prefetch)?;
        self.write_receipt(frame, self.escapes(), out);
        let scope = format!("{}-browser", self.session.shared().id());
        let writer = self.writer(&browsed.queue, id, wish.mode, &scope);
        browsed.messages.iter().for_each(|delivered| writer.write(delivered, out));
        if browsed.is_all {
            writer.write_end(&browsed.queue, id, out);
        }
        Ok(())
    }

    fn unsubscribe(&mut self, frame: &StompFrame) -> Result<(), CommandError> {
        let (id, destination) = (self.text(frame, "id"), self.text(frame, "destination"));
        if id.is_none() && self.version > Version::V1_0 {
            return Err(protocol_error("UNSUBSCRIBE received without a subscription id!"));
        }
        if id.is_none() && destination.is_none() {
            let message = "Must specify the subscriptionId or the destination you are unsubscribing from";
            return Err(protocol_error(message));
        }
        let named = self.destination(frame);
        let subscriptions = &mut self.session.subscriptions;
        // If an id was used twice, it names the newer subscription.
        let at = subscriptions.iter().rposition(|subscription| match &id {
            Some(id) => subscription.id.as_ref() == Some(id),
            None => named.strip_prefix("queue://") == Some(&subscription.queue),
        });
        let at = at.ok_or_else(|| protocol_error("No subscription matched."))?;
        let found = subscriptions.remove(at);
        self.session.shared().change(|broker| broker.unsubscribe(found.consumer));
        Ok(())
    }
}

/// Creates an error after which the connection continues.
fn protocol_error(message: impl Into<String>) -> CommandError {
    JavaException::new("org.apache.activemq.transport.stomp.ProtocolException", message).into()
}

fn wish(frame: &StompFrame) -> Wish {
    let header = |name| frame.text(name, Escapes::V1_2);
    let mode = match header("ack").as_deref() {
        Some("client") => AckMode::Client,
        Some("client-individual") => AckMode::ClientIndividual,
        _ => AckMode::Auto,
    };
    let number = |name| header(name).and_then(|text| text.parse().ok());
    Wish {
        mode,
        prefetch: number("activemq.prefetchSize").unwrap_or(DEFAULT_PREFETCH),
        exclusive: header("activemq.exclusive").is_some_and(|text| text == "true"),
        priority: number("activemq.priority").unwrap_or(0).min(127) as u8,
    }
}

fn parse_heart_beat(text: &str) -> Option<(Duration, Duration)> {
    let (sends, wants) = text.split_once(',')?;
    let millis = |text: &str| text.trim().parse().ok().map(Duration::from_millis);
    Some((millis(sends)?, millis(wants)?))
}

/// Writes an ERROR. That of a security exception has no stack trace.
fn write_error(refused: &CommandError, receipt: Option<&[u8]>, escapes: Escapes, out: &mut Vec<u8>) {
    let JavaException { class, message } = &refused.exception;
    let mut error = Encoder::begin(out, StompCommand::Error, escapes)
        .header("content-type", "text/plain")
        .header("message", message);
    if let Some(receipt) = receipt {
        error = error.header("receipt-id", receipt);
    }
    let body = match *class {
        SECURITY => message.clone(),
        class => format!(
            "{class}: {message}\n\tat org.apache.activemq.transport.stomp.ProtocolConverter.onStompCommand\
             (ProtocolConverter.java:268)\n"
        ),
    };
    error.end(body.as_bytes());
}
