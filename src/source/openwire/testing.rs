//! Provides a broker for the tests of the session: it sends commands and reads the answers.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use tokio::time::Instant;

use super::session::OpenWireSession;
use super::wire::ack::{AckType, MessageAck};
use super::wire::command::{Command, Received, decode};
use super::wire::control::Thrown;
use super::wire::framing::{OpenWireDecoder, OpenWireLimits};
use super::wire::ids::{ConsumerId, Destination, MessageId, ProducerId};
use super::wire::message::{Dispatch, MessageKind, WireMessage};
use super::wire::wire_format::WireFormatInfo;
use crate::budget::Budget;
use crate::source::config::SourceSettings;
use crate::source::error::SourceError;
use crate::source::protocol::java_text::java_bytes;
use crate::source::protocol::session::{Session, SessionMode, SessionProgress};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) struct OpenWirePeer {
    pub(super) session: OpenWireSession,
    decoder: OpenWireDecoder,
    pub(super) now: Instant,
    pub(super) progress: SessionProgress,
}

impl OpenWirePeer {
    pub(super) fn begin(settings: SourceSettings) -> Self {
        Self::in_mode(SessionMode::Subscribe, settings)
    }

    pub(super) fn in_mode(mode: SessionMode, settings: SourceSettings) -> Self {
        Self::with_budget(Budget::new(1 << 20), mode, settings)
    }

    pub(super) fn with_budget(budget: Budget, mode: SessionMode, settings: SourceSettings) -> Self {
        let now = Instant::now();
        let session = OpenWireSession::new(Arc::new(settings), mode, budget.clone(), now);
        let decoder = OpenWireDecoder::new(OpenWireLimits::with_body(1000), budget);
        Self { session, decoder, now, progress: SessionProgress::default() }
    }

    pub(super) fn greeted(settings: SourceSettings) -> Self {
        let mut talk = Self::begin(settings);
        talk.hear(&[offer(30 * SECOND)]).unwrap();
        talk
    }

    pub(super) fn subscribed(settings: SourceSettings) -> Self {
        let mut talk = Self::greeted(settings);
        talk.hear(&[response(1), response(3)]).unwrap();
        assert!(talk.progress.subscribed);
        talk.said();
        talk
    }

    pub(super) fn hear(&mut self, commands: &[Command]) -> Result<(), SourceError> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| command.encode(0, false, &mut bytes));
        self.hear_bytes(&bytes)
    }

    pub(super) fn hear_bytes(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.session.input().extend_from_slice(bytes);
        self.session.advance(self.now, &mut self.progress)
    }

    pub(super) fn said(&mut self) -> Vec<Received> {
        self.session.take_output(self.decoder.buffer());
        let mut frames = Vec::new();
        self.decoder.decode(&mut frames).unwrap();
        frames.iter().map(|frame| decode(frame).unwrap()).collect()
    }

    /// Returns the acknowledgements that the session sent: their type, last message and count. Those of
    /// ranges name the first message, too.
    pub(super) fn acks(&mut self) -> Vec<(AckType, i64, i32)> {
        let ack = |received: Received| match received {
            Received { response_required: false, command: Command::MessageAck(ack), .. } => {
                let MessageAck { destination, consumer, kind, first, last, count } = ack;
                assert_eq!((destination, consumer.value), (Destination::queue("d1.RTO.acme"), 1));
                let number = |raw: Bytes| MessageId::from_raw(&raw).unwrap().producer_sequence;
                let last = number(last);
                let expected = (kind == AckType::Standard).then(|| last + 1 - i64::from(count));
                assert_eq!(first.map(number), expected);
                (kind, last, count)
            }
            other => panic!("{other:?}"),
        };
        self.said().into_iter().map(ack).collect()
    }

    pub(super) fn later(&mut self, by: Duration) -> Result<(), SourceError> {
        self.now += by;
        self.session.tick(self.now)?;
        assert!(self.session.deadline() > self.now, "it would spin");
        Ok(())
    }
}

pub(super) fn offer(inactivity: Duration) -> Command {
    Command::WireFormatInfo(WireFormatInfo::offer(inactivity, inactivity, i64::MAX))
}

pub(super) fn response(correlation_id: i32) -> Command {
    Command::Response { correlation_id }
}

pub(super) fn thrown(class: &str, message: &str) -> Thrown {
    Thrown { class: class.to_owned(), message: message.to_owned() }
}

/// Encodes a text as the content of an uncompressed message.
pub(super) fn text_content(text: &str) -> Bytes {
    let text = java_bytes(text);
    [&i32::try_from(text.len()).unwrap().to_be_bytes(), &text[..]].concat().into()
}

/// Reads hex digits, with white space anywhere between them.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

pub(super) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn message(n: i64) -> WireMessage {
    let id = MessageId {
        text_view: None,
        producer: ProducerId { connection: Bytes::from_static(b"ID:producer-1"), session: 2, value: 3 },
        producer_sequence: n,
        broker_sequence: 1000 + n,
    };
    let mut message = WireMessage::new(MessageKind::Text, id);
    message.destination = Some(Destination::queue("d1.RTO.acme"));
    message.timestamp = 1_700_000_000_000 + n;
    message.content = Some(text_content(&format!("{{\"n\":{n}}}")));
    message
}

pub(super) fn dispatch_of(message: WireMessage, redelivery_counter: i32) -> Command {
    Command::MessageDispatch(Dispatch {
        consumer: ConsumerId::default(),
        destination: None,
        message: Some(message),
        redelivery_counter,
    })
}

pub(super) fn dispatch(n: i64) -> Command {
    dispatch_of(message(n), 0)
}

pub(super) fn dispatches(numbers: impl IntoIterator<Item = i64>) -> Vec<Command> {
    numbers.into_iter().map(dispatch).collect()
}
