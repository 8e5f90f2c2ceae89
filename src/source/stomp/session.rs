//! Runs one STOMP session without I/O: CONNECT, SUBSCRIBE with a receipt, messages and cumulative
//! acknowledgements, heart-beats, DISCONNECT with a receipt (D2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::frame::{Encoder, Escapes, StompCommand, StompFrame, decode_headers, unescape_into};
use super::framing::{StompDecoder, StompLimits};
use crate::budget::Budget;
use crate::event::{Headers, Message};
use crate::source::config::{Ordering, SourceSettings};
use crate::source::error::SourceError;
use crate::source::protocol::heart_beat::HeartBeat;
use crate::source::protocol::java_text::repair_cesu8;
use crate::source::protocol::late_acks::LateAcks;
use crate::source::protocol::message_batch::MessageBatch;
use crate::source::protocol::session::{Session, SessionMode, SessionProgress};
use crate::source::protocol::timers::Timers;
use crate::source::protocol::unacked::Unacked;

const SUBSCRIBED: &str = "subscribed";
const DISCONNECTED: &str = "goodbye";
const UNSUBSCRIBED: &str = "unsubscribed";

/// The id of the session's only subscription.
const SUBSCRIPTION: &str = "0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StompStage {
    LoggingIn,
    Subscribing,
    Active,
    /// Asks whether the broker still has the consumer; a new session follows.
    Asking,
    Closing,
}

/// The protocol state of one STOMP connection.
pub struct StompSession {
    settings: Arc<SourceSettings>,
    mode: SessionMode,
    budget: Budget,
    decoder: StompDecoder,
    frames: Vec<StompFrame>,
    output: Vec<u8>,
    stage: StompStage,
    timers: Timers,
    /// The `ack` ids of the unacknowledged messages. They stay escaped, since they are sent back unchanged.
    unacked: Unacked<Bytes>,
    late_acks: LateAcks,
    browsed: u32,
}

impl StompSession {
    /// Starts the session with CONNECT.
    pub fn new(settings: Arc<SourceSettings>, mode: SessionMode, budget: Budget, now: Instant) -> Self {
        let mut session = Self {
            decoder: StompDecoder::new(StompLimits::of(&settings), budget.clone()),
            mode,
            budget,
            frames: Vec::new(),
            output: Vec::new(),
            stage: StompStage::LoggingIn,
            timers: Timers::new(&settings, mode, "the login", now),
            unacked: Unacked::default(),
            late_acks: LateAcks::new(settings.prefetch, now),
            browsed: 0,
            settings,
        };
        session.connect();
        session
    }

    fn connect(&mut self) {
        let beat = self.settings.heart_beat.unwrap_or_default().as_millis();
        let first = || self.settings.endpoints.first().map_or("", |endpoint| endpoint.host.as_str());
        let host = self.settings.virtual_host.as_deref().unwrap_or_else(first);
        // The specification forbids escapes in CONNECT; the configuration refuses control characters.
        Encoder::begin(&mut self.output, StompCommand::Connect, Escapes::None)
            .header("accept-version", "1.2")
            .header("host", host)
            .header("login", &self.settings.username)
            .header("passcode", self.settings.password.current().reveal())
            .header("client-id", &self.settings.connection_id)
            .header("heart-beat", format!("{beat},{beat}"))
            .end(b"");
    }

    fn subscribe(&mut self, now: Instant) {
        let frame = Encoder::begin(&mut self.output, StompCommand::Subscribe, Escapes::V1_2)
            .header("id", SUBSCRIPTION)
            .header("destination", format!("/queue/{}", self.settings.queue()))
            .header("ack", "client")
            .header("receipt", SUBSCRIBED)
            .header("activemq.prefetchSize", self.settings.prefetch.to_string());
        match (self.mode, self.settings.ordering) {
            (SessionMode::Browse, _) => frame.header("browser", "true"),
            (_, Ordering::Shared) => frame,
            (_, Ordering::Strict) => frame.header("activemq.exclusive", "true"),
        }
        .end(b"");
        self.stage = StompStage::Subscribing;
        self.timers.ask("the subscription", now);
    }

    /// Only the removal of a consumer shows whether the broker still has it. After that the session ends: a
    /// new one follows, or none.
    fn unsubscribe(&mut self, now: Instant) {
        self.timers.heart.sent(now);
        Encoder::begin(&mut self.output, StompCommand::Unsubscribe, Escapes::V1_2)
            .header("id", SUBSCRIPTION)
            .header("receipt", UNSUBSCRIBED)
            .end(b"");
    }

    fn activate(&mut self, now: Instant, progress: &mut SessionProgress) {
        progress.subscribed = true;
        self.stage = StompStage::Active;
        self.timers.subscribed(now);
    }

    fn on_frame(
        &mut self,
        frame: &StompFrame,
        now: Instant,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), SourceError> {
        match (frame.command, self.stage) {
            (StompCommand::Message, _) if self.mode == SessionMode::Browse && is_end_of_browsing(frame) => {
                self.close(now, 0);
                Ok(())
            }
            (StompCommand::Message, StompStage::Active) => self.on_message(frame, now, batch),
            (StompCommand::Error, StompStage::Asking | StompStage::Closing)
                if is_receipt(frame, UNSUBSCRIBED) =>
            {
                Err(SourceError::ConsumerClosed)
            }
            (StompCommand::Error, _) => Err(self.broker_error(frame)),
            (StompCommand::Receipt, StompStage::Asking | StompStage::Closing)
                if is_receipt(frame, UNSUBSCRIBED) =>
            {
                self.late_acks.is_settled();
                if self.stage == StompStage::Asking { Err(SourceError::Renewal) } else { Ok(()) }
            }
            (StompCommand::Connected, StompStage::LoggingIn) => {
                self.timers.heart = self.agreed_heart_beat(frame, now);
                match self.mode {
                    SessionMode::Login => self.activate(now, batch.progress),
                    SessionMode::Browse | SessionMode::Subscribe => self.subscribe(now),
                }
                Ok(())
            }
            (StompCommand::Receipt, StompStage::Subscribing) if is_receipt(frame, SUBSCRIBED) => {
                self.activate(now, batch.progress);
                Ok(())
            }
            (StompCommand::Receipt, StompStage::Closing) => {
                batch.progress.closed |= is_receipt(frame, DISCONNECTED);
                Ok(())
            }
            (StompCommand::Message, StompStage::Asking | StompStage::Closing) => Ok(()),
            (command, stage) => {
                let detail = format!("an unexpected {} frame while {stage:?}", command.name());
                Err(SourceError::protocol(detail))
            }
        }
    }

    /// Returns the agreed heart-beat. In each direction it uses the slower of what one side offers and the
    /// other wants.
    fn agreed_heart_beat(&self, connected: &StompFrame, now: Instant) -> HeartBeat {
        let ours = self.settings.heart_beat.unwrap_or_default();
        let answer = connected.text("heart-beat", Escapes::None).unwrap_or_default();
        let mut numbers = answer.split(',').map(|number| number.trim().parse::<u64>().unwrap_or(0));
        let offers = Duration::from_millis(numbers.next().unwrap_or(0));
        let wants = Duration::from_millis(numbers.next().unwrap_or(0));
        let agree =
            |one: Duration, other: Duration| (!one.is_zero() && !other.is_zero()).then(|| one.max(other));
        HeartBeat::with_intervals(now, agree(ours, wants), agree(ours, offers))
    }

    fn broker_error(&self, frame: &StompFrame) -> SourceError {
        let escapes = if self.stage == StompStage::LoggingIn { Escapes::None } else { Escapes::V1_2 };
        let message = frame.text("message", escapes).unwrap_or_default();
        let detail = first_line(&frame.body);
        // ActiveMQ repeats the message in the first line of a stack trace; RabbitMQ tells the cause only in
        // the body.
        let words = match (message.is_empty(), detail.is_empty() || detail.contains(&message)) {
            (true, _) => detail,
            (false, true) => message,
            (false, false) => format!("{message}: {detail}"),
        };
        SourceError::from_broker(&words, self.stage == StompStage::LoggingIn)
    }

    fn on_message(
        &mut self,
        frame: &StompFrame,
        now: Instant,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), SourceError> {
        let head = MessageHead::read(frame)?;
        let repaired = if head.is_text { repair_cesu8(&frame.body) } else { None };
        batch.progress.repaired += u64::from(repaired.is_some());
        let message = Message {
            id: Bytes::new(),
            body: repaired.map_or_else(|| frame.body.clone(), |body| self.budget.freeze(body)),
            timestamp: head.timestamp,
            redelivered: head.redelivered,
            headers: Headers::new(frame.head.clone(), decode_headers),
            unreadable: None,
        };
        batch.push(message, |ids| unescape_into(head.id, Escapes::V1_2, ids));
        self.timers.touch(now);
        if self.mode == SessionMode::Browse {
            self.browsed += 1;
            if self.browsed >= self.settings.prefetch {
                self.close(now, 0);
            }
        } else {
            self.late_acks.came(1, now);
            self.unacked.push(head.ack);
        }
        Ok(())
    }

    fn read_frames(
        &mut self,
        frames: &[StompFrame],
        now: Instant,
        progress: &mut SessionProgress,
    ) -> Result<(), SourceError> {
        let mut batch = MessageBatch::new(frames.len(), progress);
        let outcome = frames.iter().try_for_each(|frame| self.on_frame(frame, now, &mut batch));
        batch.finish(&self.budget);
        outcome
    }
}

/// The values that a session needs from the head of a MESSAGE frame. Both ids are still escaped.
struct MessageHead<'a> {
    id: &'a [u8],
    ack: Bytes,
    timestamp: Option<i64>,
    redelivered: bool,
    is_text: bool,
}

impl<'a> MessageHead<'a> {
    fn read(frame: &'a StompFrame) -> Result<Self, SourceError> {
        let mut ack = None;
        let mut parts =
            Self { id: &[], ack: Bytes::new(), timestamp: None, redelivered: false, is_text: true };
        for (name, value) in frame.headers() {
            match name {
                b"message-id" if parts.id.is_empty() => parts.id = value,
                b"ack" if ack.is_none() => ack = Some(frame.head.slice_ref(value)),
                b"timestamp" => {
                    parts.timestamp = std::str::from_utf8(value).ok().and_then(|n| n.parse().ok())
                }
                b"redelivered" => parts.redelivered = value == b"true",
                b"content-length" => parts.is_text = false,
                _ => {}
            }
        }
        match ack {
            Some(ack) if !parts.id.is_empty() => Ok(Self { ack, ..parts }),
            _ => Err(SourceError::protocol("a MESSAGE frame without message-id or ack header")),
        }
    }
}

impl Session for StompSession {
    fn input(&mut self) -> &mut Vec<u8> {
        self.decoder.buffer()
    }

    fn advance(&mut self, now: Instant, progress: &mut SessionProgress) -> Result<(), SourceError> {
        self.timers.heart.heard(now);
        let mut frames = std::mem::take(&mut self.frames);
        let decoded = self.decoder.decode(&mut frames);
        let read = self.read_frames(&frames, now, progress);
        frames.clear();
        self.frames = frames;
        read?;
        let expected = (self.stage == StompStage::LoggingIn).then_some("STOMP");
        decoded.map_err(|error| error.into_source_error(expected))
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
    }

    fn ack(&mut self, now: Instant, through: u64) {
        if let Some(settled) = self.unacked.settle(through) {
            self.timers.heart.sent(now);
            self.timers.touch(now);
            self.late_acks.acknowledge(settled.count, now);
            let ack = Encoder::begin(&mut self.output, StompCommand::Ack, Escapes::V1_2);
            ack.raw_header("id", &settled.newest).end(b"");
        }
    }

    fn known(&self) -> u64 {
        self.late_acks.known()
    }

    fn silence(&self) -> Option<Duration> {
        self.timers.heart.silence()
    }

    fn outstanding(&self) -> usize {
        self.unacked.len()
    }

    fn close(&mut self, now: Instant, _taken: u64) {
        if self.stage != StompStage::Closing {
            if self.stage == StompStage::Active && self.late_acks.is_open() {
                self.unsubscribe(now);
            }
            self.stage = StompStage::Closing;
            self.timers.ask("the disconnect", now);
            self.timers.heart.sent(now);
            Encoder::begin(&mut self.output, StompCommand::Disconnect, Escapes::V1_2)
                .header("receipt", DISCONNECTED)
                .end(b"");
        }
    }

    fn reading(&mut self, now: Instant, reading: bool) {
        self.timers.heart.reading(now, reading);
    }

    fn deadline(&self) -> Instant {
        let late_acks = self.late_acks.deadline().filter(|_| self.stage == StompStage::Active);
        self.timers.deadline(self.unacked.is_empty(), late_acks)
    }

    fn tick(&mut self, now: Instant) -> Result<(), SourceError> {
        if self.stage == StompStage::Active && self.late_acks.asks(now) {
            self.stage = StompStage::Asking;
            self.unsubscribe(now);
            self.timers.ask("whether it still has the subscription", now);
        }
        if self.timers.tick(now, self.unacked.is_empty())? {
            self.output.push(b'\n');
            self.timers.heart.sent(now);
        }
        Ok(())
    }
}

fn is_receipt(frame: &StompFrame, expected: &str) -> bool {
    frame.header("receipt-id", Escapes::V1_2).as_deref() == Some(expected.as_bytes())
}

/// Whether the frame tells that no more messages wait.
fn is_end_of_browsing(frame: &StompFrame) -> bool {
    frame.header("browser", Escapes::V1_2).as_deref() == Some(b"end")
}

fn first_line(body: &[u8]) -> String {
    String::from_utf8_lossy(body).lines().next().unwrap_or_default().trim().to_owned()
}
