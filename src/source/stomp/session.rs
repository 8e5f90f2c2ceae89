//! One STOMP session without I/O: CONNECT, SUBSCRIBE with a receipt, messages and cumulative
//! acknowledgements, heart-beats, DISCONNECT with a receipt (D2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::codec::{Decoder, Limits};
use super::frame::{Command, Encoder, Escapes, Frame, decode_headers, unescape_into};
use crate::budget::Budget;
use crate::event::{Headers, Message};
use crate::source::config::{Ordering, SourceSettings};
use crate::source::doubt::Doubt;
use crate::source::heart_beat::HeartBeat;
use crate::source::message_ids::MessageIds;
use crate::source::session::{Progress, Reach, Session};
use crate::source::text::repair_cesu8;
use crate::source::timers::Timers;
use crate::source::trouble::Trouble;
use crate::source::unacked::Unacked;

const SUBSCRIBED: &str = "subscribed";
const GOODBYE: &str = "goodbye";
const UNSUBSCRIBED: &str = "unsubscribed";

/// The id of the one subscription.
const SUBSCRIPTION: &str = "0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    LoggingIn,
    Subscribing,
    Active,
    /// Asks whether the broker still has the consumer; goes on with a new session.
    Asking,
    Closing,
}

/// See the module text.
pub struct StompSession {
    settings: Arc<SourceSettings>,
    reach: Reach,
    budget: Budget,
    decoder: Decoder,
    frames: Vec<Frame>,
    output: Vec<u8>,
    stage: Stage,
    timers: Timers,
    /// The `ack` ids of the un-acked messages, still escaped, since they go back as they came.
    unacked: Unacked<Bytes>,
    doubt: Doubt,
}

impl StompSession {
    /// Begins with CONNECT.
    pub fn new(settings: Arc<SourceSettings>, reach: Reach, budget: Budget, now: Instant) -> Self {
        let mut session = Self {
            decoder: Decoder::new(Limits::of(&settings), budget.clone()),
            reach,
            budget,
            frames: Vec::new(),
            output: Vec::new(),
            stage: Stage::LoggingIn,
            timers: Timers::new(&settings, reach, "the login", now),
            unacked: Unacked::default(),
            doubt: Doubt::new(settings.prefetch, now),
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
        Encoder::begin(&mut self.output, Command::Connect, Escapes::None)
            .header("accept-version", "1.2")
            .header("host", host)
            .header("login", &self.settings.username)
            .header("passcode", self.settings.password.current().reveal())
            .header("client-id", &self.settings.connection_id)
            .header("heart-beat", format!("{beat},{beat}"))
            .end(b"");
    }

    fn subscribe(&mut self, now: Instant) {
        let frame = Encoder::begin(&mut self.output, Command::Subscribe, Escapes::V1_2)
            .header("id", SUBSCRIPTION)
            .header("destination", format!("/queue/{}", self.settings.queue()))
            .header("ack", "client")
            .header("receipt", SUBSCRIBED)
            .header("activemq.prefetchSize", self.settings.prefetch.to_string());
        match (self.reach, self.settings.ordering) {
            (Reach::Browse, _) => frame.header("browser", "true"),
            (_, Ordering::Shared) => frame,
            (_, Ordering::Strict) => frame.header("activemq.exclusive", "true"),
        }
        .end(b"");
        self.stage = Stage::Subscribing;
        self.timers.ask("the subscription", now);
    }

    /// Only the removal of a consumer tells whether the broker has it. Whoever asks has no use for it any more: a
    /// new session begins, or none.
    fn unsubscribe(&mut self, now: Instant) {
        self.timers.heart.sent(now);
        Encoder::begin(&mut self.output, Command::Unsubscribe, Escapes::V1_2)
            .header("id", SUBSCRIPTION)
            .header("receipt", UNSUBSCRIBED)
            .end(b"");
    }

    fn activate(&mut self, now: Instant, progress: &mut Progress) {
        progress.subscribed = true;
        self.stage = Stage::Active;
        self.timers.answered(now);
        if self.reach == Reach::Browse {
            self.timers.ask("the messages that wait", now);
        }
    }

    fn on_frame(&mut self, frame: &Frame, now: Instant, progress: &mut Progress) -> Result<(), Trouble> {
        match (frame.command, self.stage) {
            (Command::Error, Stage::Asking | Stage::Closing) if is_receipt(frame, UNSUBSCRIBED) => {
                Err(Trouble::ConsumerClosed)
            }
            (Command::Error, _) => Err(self.broker_error(frame)),
            (Command::Receipt, Stage::Asking | Stage::Closing) if is_receipt(frame, UNSUBSCRIBED) => {
                self.doubt.is_settled();
                if self.stage == Stage::Asking { Err(Trouble::Renewal) } else { Ok(()) }
            }
            (Command::Connected, Stage::LoggingIn) => {
                self.timers.heart = self.agreed_heart_beat(frame, now);
                match self.reach {
                    Reach::Login => self.activate(now, progress),
                    Reach::Browse | Reach::Subscribe => self.subscribe(now),
                }
                Ok(())
            }
            (Command::Receipt, Stage::Subscribing) if is_receipt(frame, SUBSCRIBED) => {
                self.activate(now, progress);
                Ok(())
            }
            (Command::Receipt, Stage::Closing) => {
                progress.closed |= is_receipt(frame, GOODBYE);
                Ok(())
            }
            (Command::Message, Stage::Asking | Stage::Closing) => Ok(()),
            (command, stage) => {
                let detail = format!("an unexpected {} frame while {stage:?}", command.name());
                Err(Trouble::protocol(detail, None))
            }
        }
    }

    /// What both sides promised: each direction runs at the slower of what one offers and the other wants.
    fn agreed_heart_beat(&self, connected: &Frame, now: Instant) -> HeartBeat {
        let ours = self.settings.heart_beat.unwrap_or_default();
        let answer = connected.text("heart-beat", Escapes::None).unwrap_or_default();
        let mut numbers = answer.split(',').map(|number| number.trim().parse::<u64>().unwrap_or(0));
        let offers = Duration::from_millis(numbers.next().unwrap_or(0));
        let wants = Duration::from_millis(numbers.next().unwrap_or(0));
        let agree =
            |one: Duration, other: Duration| (!one.is_zero() && !other.is_zero()).then(|| one.max(other));
        HeartBeat::with_intervals(now, agree(ours, wants), agree(ours, offers))
    }

    fn broker_error(&self, frame: &Frame) -> Trouble {
        let escapes = if self.stage == Stage::LoggingIn { Escapes::None } else { Escapes::V1_2 };
        let message = frame.text("message", escapes).unwrap_or_default();
        let detail = first_line(&frame.body);
        // ActiveMQ repeats the message in the first line of a stack trace; RabbitMQ tells the cause only in the body.
        let words = match (message.is_empty(), detail.is_empty() || detail.contains(&message)) {
            (true, _) => detail,
            (false, true) => message,
            (false, false) => format!("{message}: {detail}"),
        };
        Trouble::from_broker(&words, self.stage == Stage::LoggingIn)
    }

    /// Turns consecutive MESSAGE frames into messages.
    fn on_messages(&mut self, frames: &[Frame], progress: &mut Progress) -> Result<(), Trouble> {
        let mut ids = MessageIds::new(frames.len(), progress);
        let mut outcome = Ok(());
        for frame in frames {
            match Parts::read(frame) {
                Ok(parts) => self.on_message(frame, parts, &mut ids, progress),
                Err(trouble) => {
                    outcome = Err(trouble);
                    break;
                }
            }
        }
        ids.finish(&self.budget, progress);
        outcome
    }

    fn on_message(&mut self, frame: &Frame, parts: Parts<'_>, ids: &mut MessageIds, progress: &mut Progress) {
        self.unacked.push(parts.ack);
        ids.add(|ids| unescape_into(parts.id, Escapes::V1_2, ids));
        let repaired = if parts.is_text { repair_cesu8(&frame.body) } else { None };
        progress.repaired += u64::from(repaired.is_some());
        progress.messages.push(Message {
            id: Bytes::new(),
            body: repaired.map_or_else(|| frame.body.clone(), |body| self.budget.freeze(body)),
            timestamp: parts.timestamp,
            redelivered: parts.redelivered,
            headers: Headers::new(frame.head.clone(), decode_headers),
            unreadable: None,
        });
    }

    fn read_frames(
        &mut self,
        frames: &[Frame],
        now: Instant,
        progress: &mut Progress,
    ) -> Result<(), Trouble> {
        let mut rest = frames;
        let browses = self.reach == Reach::Browse;
        while let Some(frame) = rest.first() {
            let run = if browses && is_end_of_browsing(frame) {
                self.close(now, 0);
                1
            } else if frame.command == Command::Message && self.stage == Stage::Active {
                self.timers.stir(now);
                let before = self.unacked.len();
                let is_message = |frame: &&Frame| {
                    frame.command == Command::Message && !(browses && is_end_of_browsing(frame))
                };
                let run = rest.iter().take_while(is_message).count();
                let outcome = self.on_messages(&rest[..run], progress);
                self.doubt.came(self.unacked.len() - before, now);
                outcome?;
                if browses && self.unacked.len() >= self.settings.prefetch as usize {
                    self.close(now, 0);
                }
                run
            } else {
                self.on_frame(frame, now, progress)?;
                1
            };
            rest = &rest[run..];
        }
        Ok(())
    }
}

/// What a MESSAGE frame's head says.
struct Parts<'a> {
    /// Still escaped.
    id: &'a [u8],
    /// Still escaped, since it goes back as it came.
    ack: Bytes,
    timestamp: Option<i64>,
    redelivered: bool,
    is_text: bool,
}

impl<'a> Parts<'a> {
    fn read(frame: &'a Frame) -> Result<Self, Trouble> {
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
            _ => Err(Trouble::protocol("a MESSAGE frame without message-id or ack header", None)),
        }
    }
}

impl Session for StompSession {
    fn input(&mut self) -> &mut Vec<u8> {
        self.decoder.buffer()
    }

    fn advance(&mut self, now: Instant, progress: &mut Progress) -> Result<(), Trouble> {
        self.timers.heart.heard(now);
        let mut frames = std::mem::take(&mut self.frames);
        let decoded = self.decoder.decode(&mut frames);
        let read = self.read_frames(&frames, now, progress);
        frames.clear();
        self.frames = frames;
        read?;
        let expected = (self.stage == Stage::LoggingIn).then_some("STOMP");
        decoded.map_err(|error| error.trouble(expected))
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
    }

    fn ack(&mut self, now: Instant, through: u64) {
        if let Some(settled) = self.unacked.settle(through) {
            self.timers.heart.sent(now);
            self.timers.stir(now);
            self.doubt.acknowledge(settled.count, now);
            let ack = Encoder::begin(&mut self.output, Command::Ack, Escapes::V1_2);
            ack.raw_header("id", &settled.newest).end(b"");
        }
    }

    fn known(&self) -> u64 {
        self.doubt.known()
    }

    fn outstanding(&self) -> usize {
        self.unacked.len()
    }

    fn close(&mut self, now: Instant, _taken: u64) {
        if self.stage != Stage::Closing {
            if self.stage == Stage::Active && self.doubt.is_open() {
                self.unsubscribe(now);
            }
            self.stage = Stage::Closing;
            self.timers.ask("the goodbye", now);
            self.timers.heart.sent(now);
            Encoder::begin(&mut self.output, Command::Disconnect, Escapes::V1_2)
                .header("receipt", GOODBYE)
                .end(b"");
        }
    }

    fn reading(&mut self, now: Instant, reading: bool) {
        self.timers.heart.reading(now, reading);
    }

    fn deadline(&self) -> Instant {
        let timers = self.timers.deadline(self.unacked.is_empty());
        let doubt = self.doubt.deadline().filter(|_| self.stage == Stage::Active);
        doubt.map_or(timers, |doubt| doubt.min(timers))
    }

    fn tick(&mut self, now: Instant) -> Result<(), Trouble> {
        if self.stage == Stage::Active && self.doubt.asks(now) {
            self.stage = Stage::Asking;
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

fn is_receipt(frame: &Frame, expected: &str) -> bool {
    frame.header("receipt-id", Escapes::V1_2).as_deref() == Some(expected.as_bytes())
}

/// By it the broker says that no more messages wait.
fn is_end_of_browsing(frame: &Frame) -> bool {
    frame.command == Command::Message && frame.header("browser", Escapes::V1_2).as_deref() == Some(b"end")
}

fn first_line(body: &[u8]) -> String {
    String::from_utf8_lossy(body).lines().next().unwrap_or_default().trim().to_owned()
}
