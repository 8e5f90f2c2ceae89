//! Runs one OpenWire session without I/O: both sides' wire formats, the login, one consumer, dispatches and
//! acknowledgements of ranges, heart-beats, and a disconnect that the broker confirms (`protocols.md §3.6`).
//! As D2 says of STOMP, an acknowledgement gets no response, and any error ends the session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::batch_builder::BatchBuilder;
use super::handshake;
use super::prefetch_credit::PrefetchCredit;
use super::wire::ack::{AckType, MessageAck};
use super::wire::command::{Command, Received, decode};
use super::wire::control::{ConsumerControl, Thrown};
use super::wire::framing::{OpenWireDecodeError, OpenWireDecoder, OpenWireFrame, OpenWireLimits};
use super::wire::ids::{ConsumerId, Destination};
use super::wire::info::{ConsumerInfo, RemoveInfo, Removed, SessionInfo};
use super::wire::message::Dispatch;
use super::wire::types;
use super::wire::wire_format::WireFormatInfo;
use crate::budget::Budget;
use crate::source::config::{Ordering, SourceSettings};
use crate::source::error::SourceError;
use crate::source::protocol::late_acks::LateAcks;
use crate::source::protocol::session::{Session, SessionMode, SessionProgress};
use crate::source::protocol::timers::Timers;
use crate::source::protocol::unacked::{SettledRange, Unacked};

/// The text asks about the port, since the port of another protocol may stay silent.
const GREETING: &str = "the greeting (is it OpenWire that listens there, as source.url says?)";

/// The session does not answer the broker's heart-beats while this many bytes wait to be sent. If a broker
/// does not read, the answers would fill our memory.
const MOST_UNTAKEN: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenWireStage {
    Greeting,
    LoggingIn,
    Subscribing,
    Active,
    Closing,
}

/// What the session remembers of a message until it is acknowledged.
struct Dispatched {
    /// The id of the message, sent back unchanged.
    raw_id: Bytes,
    broker_sequence: i64,
}

/// The protocol state of one OpenWire connection.
pub struct OpenWireSession {
    settings: Arc<SourceSettings>,
    mode: SessionMode,
    budget: Budget,
    decoder: OpenWireDecoder,
    /// What was read and not yet processed, and the error in the bytes behind it.
    frames: Vec<OpenWireFrame>,
    broken: Option<OpenWireDecodeError>,
    output: Vec<u8>,
    stage: OpenWireStage,
    timers: Timers,
    queue: Destination,
    /// The connection id in it is set at the login.
    consumer: ConsumerId,
    last_command: i32,
    /// The number of the command whose response ends the stage.
    awaited: i32,
    credit: PrefetchCredit,
    unacked: Unacked<Dispatched>,
    late_acks: LateAcks,
    /// The number of the command whose response proves that all acknowledgements before it are processed.
    ordered: Option<i32>,
    browsed: u32,
}

impl OpenWireSession {
    /// Starts the session with WireFormatInfo.
    pub fn new(settings: Arc<SourceSettings>, mode: SessionMode, budget: Budget, now: Instant) -> Self {
        let limits = OpenWireLimits::of(&settings);
        let mut session = Self {
            decoder: OpenWireDecoder::new(limits, budget.clone()),
            mode,
            budget,
            frames: Vec::new(),
            broken: None,
            output: Vec::new(),
            stage: OpenWireStage::Greeting,
            timers: Timers::new(&settings, mode, GREETING, now),
            queue: Destination::queue(settings.queue()),
            consumer: ConsumerId { connection: Bytes::new(), session: 1, value: 1 },
            last_command: 0,
            awaited: 0,
            credit: PrefetchCredit::new(settings.prefetch),
            unacked: Unacked::default(),
            late_acks: LateAcks::new(settings.prefetch, now),
            ordered: None,
            browsed: 0,
            settings,
        };
        let offer = Command::WireFormatInfo(handshake::offer(&session.settings, limits));
        offer.encode(0, false, &mut session.output);
        session
    }

    fn send(&mut self, command: &Command, now: Instant) {
        self.send_numbered(command, false, now);
    }

    /// Returns the number of the command, which a response to it names.
    fn send_numbered(&mut self, command: &Command, response_required: bool, now: Instant) -> i32 {
        self.last_command = self.last_command.wrapping_add(1);
        command.encode(self.last_command, response_required, &mut self.output);
        self.timers.heart.sent(now);
        self.last_command
    }

    /// Sends a command that the broker must answer before the session moves to the next stage.
    fn ask(&mut self, what: &'static str, command: &Command, stage: OpenWireStage, now: Instant) {
        self.awaited = self.send_numbered(command, true, now);
        self.timers.ask(what, now);
        self.stage = stage;
    }

    fn log_in(&mut self, broker: &WireFormatInfo, now: Instant) -> Result<(), SourceError> {
        self.timers.heart = handshake::agree(&self.settings, broker, now)?;
        self.consumer.connection = handshake::random_id(&self.settings)?;
        let login = handshake::login(&self.settings, self.consumer.connection.clone());
        self.ask("the login", &Command::ConnectionInfo(login), OpenWireStage::LoggingIn, now);
        Ok(())
    }

    fn session_info(&self) -> Command {
        let ConsumerId { connection, session, .. } = self.consumer.clone();
        Command::SessionInfo(SessionInfo { connection, value: session })
    }

    /// Late acknowledgements may be for a consumer that the broker has removed. The broker's notice may stand
    /// behind messages that are not read yet. Sending the same SessionInfo again does nothing, and the broker
    /// answers it in order.
    fn ask_for_order(&mut self, now: Instant) {
        self.ordered = Some(self.send_numbered(&self.session_info(), true, now));
    }

    fn subscribe(&mut self, now: Instant) {
        self.send(&self.session_info(), now);
        let prefetch = i32::try_from(self.settings.prefetch).unwrap_or(i32::MAX);
        let mut consumer = ConsumerInfo::new(self.consumer.clone(), self.queue.clone(), prefetch);
        consumer.browser = self.mode == SessionMode::Browse;
        consumer.exclusive = !consumer.browser && self.settings.ordering == Ordering::Strict;
        self.ask("the subscription", &Command::ConsumerInfo(consumer), OpenWireStage::Subscribing, now);
    }

    fn activate(&mut self, now: Instant, progress: &mut SessionProgress) {
        progress.subscribed = true;
        self.stage = OpenWireStage::Active;
        self.timers.subscribed(now);
    }

    /// Returns how many frames were processed. Compressed bodies take their memory only now, so this stops
    /// after the one that uses up the budget (I4).
    fn read_frames(
        &mut self,
        frames: &[OpenWireFrame],
        now: Instant,
        progress: &mut SessionProgress,
    ) -> Result<usize, SourceError> {
        let mut batch = BatchBuilder::new(self.settings.max_body, &self.budget, frames.len(), progress);
        let (mut count, mut outcome) = (0, Ok(()));
        for frame in frames {
            outcome = self.on_frame(frame, now, &mut batch);
            count += 1;
            if outcome.is_err() || (batch.has_inflated() && !self.budget.has_room()) {
                break;
            }
        }
        batch.finish();
        self.extend_credit(now);
        outcome.map(|()| count)
    }

    #[expect(clippy::too_many_lines, reason = "a flat match, with an arm for each command")]
    fn on_frame(
        &mut self,
        frame: &OpenWireFrame,
        now: Instant,
        batch: &mut BatchBuilder<'_>,
    ) -> Result<(), SourceError> {
        let Received { command_id, response_required, command } = match decode(frame) {
            Ok(received) => received,
            Err(malformed) if types::MEANT_FOR_US.contains(&malformed.kind) => {
                return Err(SourceError::protocol(malformed.to_string()));
            }
            Err(_) => return Ok(()),
        };
        match (command, self.stage) {
            (Command::MessageDispatch(_), OpenWireStage::Closing) => Ok(()),
            (Command::MessageDispatch(dispatch), OpenWireStage::Subscribing | OpenWireStage::Active) => {
                // Messages may come before the response, and prove the same (`protocols.md §3.6`).
                if self.stage == OpenWireStage::Subscribing {
                    self.activate(now, batch.progress());
                }
                self.on_dispatch(dispatch, frame, now, batch)
            }
            (Command::MessageDispatch(_), stage) => {
                Err(SourceError::protocol(format!("a message while {stage:?}")))
            }
            (Command::Response { correlation_id }, _) if Some(correlation_id) == self.ordered => {
                self.late_acks.is_settled();
                Ok(())
            }
            (Command::Response { correlation_id }, _) if correlation_id == self.awaited => {
                self.on_response(now, batch.progress());
                Ok(())
            }
            (Command::ExceptionResponse { exception, .. } | Command::ConnectionError { exception }, _) => {
                Err(self.refused(exception))
            }
            (Command::WireFormatInfo(broker), OpenWireStage::Greeting) => self.log_in(&broker, now),
            (Command::KeepAliveInfo, _) if response_required && self.output.len() < MOST_UNTAKEN => {
                Command::KeepAliveInfo.encode(command_id, false, &mut self.output);
                self.timers.heart.sent(now);
                Ok(())
            }
            (
                Command::ConsumerControl(ConsumerControl { close: true, .. }),
                OpenWireStage::Subscribing | OpenWireStage::Active,
            ) => Err(SourceError::ConsumerClosed),
            (Command::ShutdownInfo, _) => Err(SourceError::Closed("the broker shuts down".to_owned())),
            // Other commands, such as the broker's name, its peers or its own prefetch, are not used here.
            _ => Ok(()),
        }
    }

    fn on_response(&mut self, now: Instant, progress: &mut SessionProgress) {
        match (self.stage, self.mode) {
            (OpenWireStage::LoggingIn, SessionMode::Browse | SessionMode::Subscribe) => self.subscribe(now),
            (OpenWireStage::LoggingIn, SessionMode::Login) | (OpenWireStage::Subscribing, _) => {
                self.activate(now, progress)
            }
            (OpenWireStage::Closing, _) => {
                progress.closed = true;
                self.late_acks.is_settled();
                self.send(&Command::ShutdownInfo, now);
            }
            (OpenWireStage::Greeting | OpenWireStage::Active, _) => {}
        }
    }

    fn on_dispatch(
        &mut self,
        dispatch: Dispatch,
        frame: &OpenWireFrame,
        now: Instant,
        batch: &mut BatchBuilder<'_>,
    ) -> Result<(), SourceError> {
        let Some(message) = dispatch.message else {
            // A dispatch without a message tells a browser that no more messages wait.
            if self.mode == SessionMode::Browse {
                self.close(now, 0);
            }
            return Ok(());
        };
        batch.add(&message, dispatch.redelivery_counter > 0, &frame.fields)?;
        self.timers.touch(now);
        if self.mode == SessionMode::Browse {
            self.browsed += 1;
            if self.browsed >= self.settings.prefetch {
                self.close(now, 0);
            }
            return Ok(());
        }
        self.late_acks.came(1, now);
        self.unacked.push(Dispatched { raw_id: message.raw_id, broker_sequence: message.id.broker_sequence });
        Ok(())
    }

    fn refused(&self, exception: Thrown) -> SourceError {
        let logging_in = matches!(self.stage, OpenWireStage::Greeting | OpenWireStage::LoggingIn);
        SourceError::from_broker(&exception.into_words(), logging_in)
    }

    /// Sends an acknowledgement of type `kind` for the oldest `count` messages, from `first` to `last`; ids
    /// as they came. Java's client names the first as well. Without it Artemis acknowledges only the last.
    fn acknowledge(&mut self, kind: AckType, first: Option<Bytes>, last: Bytes, count: usize, now: Instant) {
        let ack = Command::MessageAck(MessageAck {
            destination: self.queue.clone(),
            consumer: self.consumer.clone(),
            kind,
            first,
            last,
            count: i32::try_from(count).unwrap_or(i32::MAX),
        });
        self.send(&ack, now);
    }

    fn extends_credit(&self) -> bool {
        self.stage == OpenWireStage::Active && self.mode == SessionMode::Subscribe
    }

    /// Makes the broker send more messages while earlier ones are being settled (D3).
    fn extend_credit(&mut self, now: Instant) {
        if self.extends_credit()
            && self.credit.is_due(self.unacked.len(), now)
            && let Some(newest) = self.unacked.newest()
        {
            self.acknowledge(AckType::Delivered, None, newest.raw_id.clone(), 0, now);
        }
    }
}

impl Session for OpenWireSession {
    fn input(&mut self) -> &mut Vec<u8> {
        self.decoder.buffer()
    }

    fn advance(&mut self, now: Instant, progress: &mut SessionProgress) -> Result<(), SourceError> {
        let mut frames = std::mem::take(&mut self.frames);
        // While frames are left from the last call, nothing new was read.
        if frames.is_empty() {
            self.timers.heart.heard(now);
            self.broken = self.decoder.decode(&mut frames).err();
        }
        let count = self.read_frames(&frames, now, progress)?;
        frames.drain(..count);
        progress.unread = !frames.is_empty();
        self.frames = frames;
        let expected = (self.stage == OpenWireStage::Greeting).then_some("OpenWire");
        let broken = self.broken.take_if(|_| !progress.unread);
        broken.map_or(Ok(()), |error| Err(error.into_source_error(expected)))
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
    }

    fn ack(&mut self, now: Instant, through: u64) {
        let Some(SettledRange { oldest, newest, count }) = self.unacked.settle(through) else { return };
        self.timers.touch(now);
        self.credit.acknowledged(self.unacked.len());
        let first = oldest.map_or_else(|| newest.raw_id.clone(), |oldest| oldest.raw_id);
        self.acknowledge(AckType::Standard, Some(first), newest.raw_id, count, now);
        if self.late_acks.acknowledge(count, now) {
            self.ask_for_order(now);
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

    fn close(&mut self, now: Instant, taken: u64) {
        if self.stage == OpenWireStage::Closing {
            return;
        }
        let consumes = matches!(self.stage, OpenWireStage::Subscribing | OpenWireStage::Active)
            && self.mode != SessionMode::Login;
        let last_taken = self.unacked.last_up_to(taken).map(|message| message.broker_sequence);
        let last_delivered = last_taken.unwrap_or(RemoveInfo::NONE_DELIVERED);
        let removal = |object| Command::RemoveInfo(RemoveInfo { object, last_delivered });
        if consumes {
            self.send(&removal(Removed::Consumer(self.consumer.clone())), now);
        }
        let disconnect = removal(Removed::Connection(self.consumer.connection.clone()));
        self.ask("the disconnect", &disconnect, OpenWireStage::Closing, now);
    }

    fn reading(&mut self, now: Instant, reading: bool) {
        self.timers.heart.reading(now, reading);
    }

    fn deadline(&self) -> Instant {
        let credit = self.credit.deadline().filter(|_| self.extends_credit());
        self.timers.deadline(self.unacked.is_empty(), credit)
    }

    fn tick(&mut self, now: Instant) -> Result<(), SourceError> {
        self.extend_credit(now);
        if self.timers.tick(now, self.unacked.is_empty())? {
            self.send(&Command::KeepAliveInfo, now);
        }
        Ok(())
    }
}
