//! What one connection says and is told: frames in, replies out. No I/O; the broker is asked under its lock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::source::stomp::frame::{Command, Encoder, Escapes, Frame};

use super::broker::SessionId;
use super::heart_beat::HeartBeat;
use super::message::MessageWriter;
use super::queue::{AckMode, ConsumerId, Wish};
use super::server::{Login, Shared};

/// ActiveMQ's default prefetch for a queue.
const DEFAULT_PREFETCH: u64 = 1000;

/// Messages taken from the broker under one lock.
const TAKE: u64 = 64;

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It does.
    Continue,
    /// It ends once everything has been written.
    Close,
}

#[derive(Debug)]
struct Subscription {
    /// Chosen by the client.
    id: String,
    consumer: ConsumerId,
    writer: MessageWriter,
}

#[derive(Debug)]
struct LoggedIn {
    id: SessionId,
    login: Login,
    subscriptions: Vec<Subscription>,
}

/// The broker's side of one connection. Dropping it is the loss of a consumer.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    peer: SocketAddr,
    logged_in: Option<LoggedIn>,
    heart_beat: HeartBeat,
    /// Whose turn it is to be written.
    turn: usize,
}

/// Refuses a frame: an ERROR, and perhaps the end.
struct Refusal {
    message: String,
    /// Java's exception class; a security exception has no stack trace in its body.
    class: &'static str,
    flow: Flow,
}

impl Refusal {
    /// The connection goes on.
    fn protocol(message: impl Into<String>) -> Self {
        let class = "org.apache.activemq.transport.stomp.ProtocolException";
        Self { message: message.into(), class, flow: Flow::Continue }
    }

    fn security(message: impl Into<String>) -> Self {
        Self { message: message.into(), class: SECURITY, flow: Flow::Continue }
    }

    /// The connection ends.
    fn fatal(self) -> Self {
        Self { flow: Flow::Close, ..self }
    }

    fn body(&self) -> String {
        match self.class {
            SECURITY => self.message.clone(),
            class => format!(
                "{class}: {}\n\tat org.apache.activemq.transport.stomp.ProtocolConverter.onStompCommand\
                 (ProtocolConverter.java:268)\n",
                self.message
            ),
        }
    }
}

const SECURITY: &str = "java.lang.SecurityException";

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, peer: SocketAddr) -> Self {
        Self { shared, peer, logged_in: None, heart_beat: HeartBeat::off(Instant::now()), turn: 0 }
    }

    /// The heart-beats that were agreed on.
    pub(crate) fn heart_beat(&mut self) -> &mut HeartBeat {
        &mut self.heart_beat
    }

    /// Answers one frame.
    pub(crate) fn handle(&mut self, frame: &Frame, now: Instant, out: &mut Vec<u8>) -> Flow {
        let escapes = self.escapes();
        match self.answer(frame, now, out) {
            Ok(flow) => flow,
            Err(refusal) => {
                let receipt = frame.header("receipt", Escapes::V1_2);
                write_error(&refusal, receipt.as_deref(), escapes, out);
                refusal.flow
            }
        }
    }

    /// Tells the client that what it sent is no frame.
    pub(crate) fn reject(&self, reason: &str, out: &mut Vec<u8>) {
        write_error(&Refusal::protocol(reason), None, self.escapes(), out);
    }

    /// Appends waiting messages, at most `limit` and until the buffer has `size` bytes; how many.
    pub(crate) fn fill(&mut self, limit: u64, size: usize, out: &mut Vec<u8>) -> u64 {
        let Some(LoggedIn { subscriptions, .. }) = &self.logged_in else { return 0 };
        let (mut written, mut idle) = (0, 0);
        while written < limit && out.len() < size && idle < subscriptions.len() {
            self.turn = (self.turn + 1) % subscriptions.len();
            let Some(subscription) = subscriptions.get(self.turn) else { break };
            let flight = self.shared.broker().take(subscription.consumer, TAKE.min(limit - written));
            match flight {
                None => idle += 1,
                Some(flight) => {
                    subscription.writer.write(&flight, out);
                    written += flight.run.count;
                    idle = 0;
                }
            }
        }
        written
    }

    /// CONNECTED is written un-escaped, and so is an ERROR that answers CONNECT.
    fn escapes(&self) -> Escapes {
        if self.logged_in.is_some() { Escapes::V1_2 } else { Escapes::None }
    }

    fn answer(&mut self, frame: &Frame, now: Instant, out: &mut Vec<u8>) -> Result<Flow, Refusal> {
        if matches!(frame.command, Command::Connect | Command::Stomp) {
            self.connect(frame, now, out).map_err(Refusal::fatal)?;
            return Ok(Flow::Continue);
        }
        if self.logged_in.is_none() {
            return Err(Refusal::protocol("Not connected.").fatal());
        }
        match frame.command {
            Command::Subscribe => return self.subscribe(frame, out).map(|()| Flow::Continue),
            Command::Unsubscribe => self.unsubscribe(frame)?,
            Command::Ack => self.acknowledge(frame, "ACK")?,
            Command::Nack => self.acknowledge(frame, "NACK")?,
            Command::Send => return Err(self.unauthorized("write to", &destination(frame))),
            Command::Begin | Command::Commit | Command::Abort => {
                return Err(Refusal::protocol("Transactions are not simulated"));
            }
            Command::Disconnect => {
                self.leave(true, now);
                write_receipt(frame, out);
                return Ok(Flow::Close);
            }
            other => return Err(Refusal::protocol(format!("Unknown STOMP action: {}", other.name())).fatal()),
        }
        write_receipt(frame, out);
        Ok(Flow::Continue)
    }

    fn connect(&mut self, frame: &Frame, now: Instant, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.logged_in.is_some() {
            return Err(Refusal::protocol("Already connected."));
        }
        let header = |name| frame.text(name, Escapes::V1_1);
        let versions = header("accept-version").unwrap_or_else(|| "1.0".to_owned());
        if !versions.split(',').any(|version| version.trim() == "1.2") {
            let message = format!("Invalid Protocol version[{versions}], supported versions are: [1.2]");
            return Err(Refusal::protocol(message));
        }
        let beats = header("heart-beat").unwrap_or_else(|| "0,0".to_owned());
        let (sends, wants) = parse_heart_beat(&beats)
            .ok_or_else(|| Refusal::protocol(format!("Invalid heart-beat header:{beats}")))?;
        let username = header("login").unwrap_or_default();
        let login = self.shared.login(&username, &header("passcode").unwrap_or_default()).cloned();
        let login = login
            .ok_or_else(|| Refusal::security(format!("User name [{username}] or password is invalid.")))?;
        let client_id = header("client-id");
        let id = self.shared.connect(client_id.as_deref(), self.peer, now).map_err(|held| Refusal {
            message: format!(
                "Broker: {} - Client: {} already connected from tcp://{}",
                self.shared.name(),
                client_id.as_deref().unwrap_or_default(),
                held.peer
            ),
            class: "javax.jms.InvalidClientIDException",
            flow: Flow::Close,
        })?;
        let client_id = client_id.unwrap_or_else(|| format!("{}-2:{}", self.shared.id(), id.0));
        let mut reply = Encoder::begin(out, Command::Connected, Escapes::None)
            .header("server", "ActiveMQ/5.17.2-simulator")
            .header("heart-beat", format!("{},{}", wants.as_millis(), sends.as_millis()))
            .header("session", client_id)
            .header("version", "1.2");
        if let Some(receipt) = header("receipt") {
            reply = reply.header("receipt-id", receipt);
        }
        reply.end(b"");
        self.heart_beat = HeartBeat::new(sends, wants, now);
        self.logged_in = Some(LoggedIn { id, login, subscriptions: Vec::new() });
        Ok(())
    }

    fn subscribe(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let header = |name| frame.text(name, Escapes::V1_2);
        let id =
            header("id").ok_or_else(|| Refusal::protocol("SUBSCRIBE received without a subscription id!"))?;
        let destination = destination(frame);
        let Some(queue) = self.readable(&destination) else {
            return Err(self.unauthorized("read from", &destination));
        };
        let wish = wish(frame);
        // Messages are taken when the buffer is filled the next time, so that none overtakes the receipt.
        write_receipt(frame, out);
        let Some(logged_in) = &mut self.logged_in else { return Ok(()) };
        let consumer = self.shared.change(|broker| broker.subscribe(logged_in.id, queue, wish));
        let scope = format!("{}-{}", self.shared.id(), consumer.0);
        let scope = (wish.mode != AckMode::Auto).then_some(scope.as_str());
        let writer = MessageWriter::new(self.shared.id(), queue, &id, scope);
        logged_in.subscriptions.push(Subscription { id, consumer, writer });
        Ok(())
    }

    /// The name of a queue that this login may consume.
    fn readable<'a>(&self, destination: &'a str) -> Option<&'a str> {
        let namespace = &self.logged_in.as_ref()?.login.namespace;
        let queue = destination.strip_prefix("queue://")?;
        let destination_id = queue.strip_suffix(namespace.as_str())?.strip_suffix(".RTO.")?;
        let plain = |character| !matches!(character, '.' | '*' | '>' | ',' | '/');
        (!destination_id.is_empty() && destination_id.chars().all(plain)).then_some(queue)
    }

    fn unauthorized(&self, verb: &str, destination: &str) -> Refusal {
        let user = self.logged_in.as_ref().map_or("", |logged_in| &logged_in.login.username);
        Refusal::security(format!("User {user} is not authorized to {verb}: {destination}"))
    }

    fn unsubscribe(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.text("id", Escapes::V1_2).unwrap_or_default();
        let subscriptions = self.logged_in.as_mut().map(|logged_in| &mut logged_in.subscriptions);
        let found = subscriptions.and_then(|all| {
            // An id that was used twice names the newer one.
            let at = all.iter().rposition(|subscription| subscription.id == id)?;
            Some(all.remove(at))
        });
        let found = found.ok_or_else(|| Refusal::protocol("No subscription matched."))?;
        self.shared.change(|broker| broker.unsubscribe(found.consumer));
        Ok(())
    }

    fn acknowledge(&mut self, frame: &Frame, verb: &str) -> Result<(), Refusal> {
        if frame.header("transaction", Escapes::V1_2).is_some() {
            return Err(Refusal::protocol("Transactions are not simulated"));
        }
        let id = frame.text("id", Escapes::V1_2);
        let id = id.ok_or_else(|| Refusal::protocol(format!("{verb} received without an ack id")))?;
        let found = self.delivery(&id).is_some_and(|(consumer, number)| {
            self.shared.change(|broker| match verb {
                "NACK" => broker.nack(consumer, number),
                _ => broker.ack(consumer, number),
            })
        });
        if found {
            return Ok(());
        }
        // ActiveMQ names the message id, which a frame of version 1.2 does not have.
        Err(Refusal::protocol(format!("Unexpected {verb} received for message-id [null]")))
    }

    /// The consumer of this session and the delivery number that an ack id names.
    fn delivery(&self, ack_id: &str) -> Option<(ConsumerId, u64)> {
        let scoped = ack_id.strip_prefix(self.shared.id())?.strip_prefix('-')?;
        let (consumer, number) = scoped.split_once(':')?;
        let consumer = ConsumerId(consumer.parse().ok()?);
        let subscriptions = &self.logged_in.as_ref()?.subscriptions;
        let own = subscriptions.iter().any(|subscription| subscription.consumer == consumer);
        Some((consumer, number.parse().ok()?)).filter(|_| own)
    }

    fn leave(&mut self, clean: bool, now: Instant) {
        if let Some(logged_in) = &mut self.logged_in {
            logged_in.subscriptions.clear();
            let id = logged_in.id;
            self.shared.change(|broker| broker.leave(id, clean, now));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave(false, Instant::now());
    }
}

/// The `destination` of a frame as ActiveMQ names it; without a prefix it is a queue.
fn destination(frame: &Frame) -> String {
    let written = frame.text("destination", Escapes::V1_2).unwrap_or_default();
    match written.strip_prefix("/topic/") {
        Some(topic) => format!("topic://{topic}"),
        None => format!("queue://{}", written.strip_prefix("/queue/").unwrap_or(&written)),
    }
}

fn wish(frame: &Frame) -> Wish {
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

fn write_receipt(frame: &Frame, out: &mut Vec<u8>) {
    if let Some(receipt) = frame.header("receipt", Escapes::V1_2) {
        Encoder::begin(out, Command::Receipt, Escapes::V1_2).header("receipt-id", receipt).end(b"");
    }
}

fn write_error(refusal: &Refusal, receipt: Option<&[u8]>, escapes: Escapes, out: &mut Vec<u8>) {
    let mut error = Encoder::begin(out, Command::Error, escapes)
        .header("content-type", "text/plain")
        .header("message", &refusal.message);
    if let Some(receipt) = receipt {
        error = error.header("receipt-id", receipt);
    }
    error.end(refusal.body().as_bytes());
}
