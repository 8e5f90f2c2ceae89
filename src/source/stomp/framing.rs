//! Finds where STOMP frames begin and end, and refuses invalid or too large ones.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr;

use super::frame::{Escapes, HeaderLines, StompCommand, StompFrame, unescape};
use crate::budget::Budget;
use crate::source::config::SourceSettings;
use crate::source::protocol::framing::{self, FrameError, RAISE_MAX_BODY, Scan};

/// Splits a stream of bytes into STOMP frames.
pub type StompDecoder = framing::FrameDecoder<StompScanner>;

/// The reason why bytes are no STOMP frame.
pub type StompDecodeError = framing::DecodeError<StompErrorKind>;

/// The limits above which a frame is refused. ActiveMQ limits only what it reads, not what it sends
/// (`protocols.md §1.7`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StompLimits {
    /// The most bytes in one line of the head.
    pub line: usize,
    /// The most headers in one frame.
    pub headers: usize,
    /// The most bytes in one body.
    pub body: usize,
}

impl StompLimits {
    /// Allows bodies up to `body` bytes, lines up to 64 KiB and 1000 headers.
    pub const fn with_body(body: usize) -> Self {
        Self { line: 64 << 10, headers: 1000, body }
    }

    /// Takes the limits from the settings of a source.
    pub fn of(settings: &SourceSettings) -> Self {
        let SourceSettings { max_header_size: line, max_headers: headers, max_body: body, .. } = *settings;
        Self { line, headers, body }
    }
}

/// The rule that a frame breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StompErrorKind {
    #[error("not a STOMP frame: the command line reads {0:?}")]
    UnknownCommand(String),
    #[error("a header line is longer than {0} bytes")]
    LineTooLong(usize),
    #[error("a frame has more than {0} headers")]
    TooManyHeaders(usize),
    #[error("content-length is not a number: {0:?}")]
    BadContentLength(String),
    #[error("no NUL after the announced content-length")]
    NoNulAfterBody,
    #[error("a text body holds a NUL, which STOMP can't carry")]
    NulInBody,
    #[error("a body of {}{size} bytes is larger than the {limit} allowed", if *.at_least { "at least " } else { "" })]
    BodyTooLarge { size: usize, at_least: bool, limit: usize },
}

impl FrameError for StompErrorKind {
    fn is_too_large(&self) -> bool {
        matches!(self, Self::BodyTooLarge { .. })
    }

    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::BodyTooLarge { .. } => Some(RAISE_MAX_BODY),
            Self::LineTooLong(_) => Some(
                "raise source.max_header_size, or consume over OpenWire (tcp://… in source.url), which reads it",
            ),
            Self::TooManyHeaders(_) => Some(
                "raise source.max_headers, or consume over OpenWire (tcp://… in source.url), which reads it",
            ),
            Self::NulInBody => Some("consume over OpenWire (tcp://… in source.url), which reads it"),
            Self::UnknownCommand(_) | Self::BadContentLength(_) | Self::NoNulAfterBody => None,
        }
    }
}

/// Finds STOMP frames; positions are offsets into the bytes.
#[derive(Debug)]
pub struct StompScanner {
    limits: StompLimits,
    /// Where the first frame that is not complete begins, or where the next one may begin.
    start: usize,
    stage: ScanStage,
}

/// How far the frame at `start` has been read.
#[derive(Clone, Copy, Debug)]
enum ScanStage {
    /// Line feeds (heart-beats) between frames.
    Between,
    Command {
        scanned: usize,
    },
    Head(Head),
    Body(BodyBounds),
}

/// Position within the headers.
#[derive(Clone, Copy, Debug)]
struct Head {
    command: StompCommand,
    start: usize,
    /// Start of the line that is being read.
    line: usize,
    scanned: usize,
    headers: usize,
    /// The value of `content-length`.
    length: Option<usize>,
}

/// Position within the body.
#[derive(Clone, Copy, Debug)]
struct BodyBounds {
    command: StompCommand,
    /// From the first header line to the empty line.
    head: (usize, usize),
    start: usize,
    scanned: usize,
    /// The value of `content-length`.
    length: Option<usize>,
}

/// The offsets of the parts of a frame.
#[derive(Debug)]
pub struct Layout {
    command: StompCommand,
    head: Range<usize>,
    body: Range<usize>,
}

/// Whether the scanner can continue with the bytes it has.
enum ScanStep {
    Next(ScanStage),
    Starved(ScanStage),
}

impl StompDecoder {
    /// Refuses frames beyond `limits` and charges the others to `budget`.
    pub fn new(limits: StompLimits, budget: Budget) -> Self {
        Self::scanning(StompScanner { limits, start: 0, stage: ScanStage::Between }, budget)
    }
}

impl Scan for StompScanner {
    type Frame = StompFrame;
    type Layout = Layout;
    type Fault = StompErrorKind;

    fn scan(&mut self, bytes: &[u8], complete: &mut Vec<Layout>) -> Result<(), StompDecodeError> {
        loop {
            let step = match self.stage {
                ScanStage::Between => self.between(bytes),
                ScanStage::Command { scanned } => self.command(bytes, scanned)?,
                ScanStage::Head(head) => self.head(bytes, head)?,
                ScanStage::Body(body) => self.body(bytes, body, complete)?,
            };
            match step {
                ScanStep::Next(stage) => self.stage = stage,
                ScanStep::Starved(stage) => {
                    self.stage = stage;
                    return Ok(());
                }
            }
        }
    }

    fn done(&self) -> usize {
        self.start
    }

    fn rebase(&mut self) {
        let gone = std::mem::take(&mut self.start);
        match &mut self.stage {
            ScanStage::Between => {}
            ScanStage::Command { scanned } => *scanned -= gone,
            ScanStage::Head(head) => {
                head.start -= gone;
                head.line -= gone;
                head.scanned -= gone;
            }
            ScanStage::Body(body) => {
                body.head.0 -= gone;
                body.head.1 -= gone;
                body.start -= gone;
                body.scanned -= gone;
            }
        }
    }

    fn frame(layout: Layout, bytes: &Bytes) -> StompFrame {
        StompFrame {
            command: layout.command,
            head: trim_line_end(bytes.slice(layout.head)),
            body: bytes.slice(layout.body),
        }
    }
}

impl StompScanner {
    fn between(&mut self, bytes: &[u8]) -> ScanStep {
        let rest = &bytes[self.start..];
        match rest.iter().position(|byte| !matches!(byte, b'\n' | b'\r')) {
            Some(skip) => {
                self.start += skip;
                ScanStep::Next(ScanStage::Command { scanned: self.start })
            }
            None => {
                self.start = bytes.len();
                ScanStep::Starved(ScanStage::Between)
            }
        }
    }

    fn command(&self, bytes: &[u8], scanned: usize) -> Result<ScanStep, StompDecodeError> {
        const LONGEST: usize = "UNSUBSCRIBE\r".len();
        let unknown = |line: &[u8]| {
            let shown = String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned();
            StompDecodeError { kind: StompErrorKind::UnknownCommand(shown), message_id: None }
        };
        let Some(end) = memchr(b'\n', &bytes[scanned..]).map(|at| scanned + at) else {
            let line = &bytes[self.start..];
            if line.len() > LONGEST {
                return Err(unknown(line));
            }
            return Ok(ScanStep::Starved(ScanStage::Command { scanned: bytes.len() }));
        };
        let line = &bytes[self.start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let command = StompCommand::parse(line).ok_or_else(|| unknown(line))?;
        let start = end + 1;
        let head = Head { command, start, line: start, scanned: start, headers: 0, length: None };
        Ok(ScanStep::Next(ScanStage::Head(head)))
    }

    fn head(&self, bytes: &[u8], mut head: Head) -> Result<ScanStep, StompDecodeError> {
        let fail = |kind, line| StompDecodeError { kind, message_id: message_id(&bytes[head.start..line]) };
        while let Some(end) = memchr(b'\n', &bytes[head.scanned..]).map(|at| head.scanned + at) {
            let Head { command, start, line, length, .. } = head;
            let text = &bytes[line..end];
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.is_empty() {
                self.check_length(length).map_err(|kind| fail(kind, line))?;
                let body = end + 1;
                let body = BodyBounds { command, head: (start, line), start: body, scanned: body, length };
                return Ok(ScanStep::Next(ScanStage::Body(body)));
            }
            if text.len() > self.limits.line {
                return Err(fail(StompErrorKind::LineTooLong(self.limits.line), line));
            }
            head.headers += 1;
            if head.headers > self.limits.headers {
                return Err(fail(StompErrorKind::TooManyHeaders(self.limits.headers), line));
            }
            if let Some(value) = text.strip_prefix(b"content-length:").filter(|_| length.is_none()) {
                head.length = Some(parse_length(value).map_err(|kind| fail(kind, line))?);
            }
            head.line = end + 1;
            head.scanned = head.line;
        }
        let text = &bytes[head.line..];
        // The carriage return may belong to a line end whose line feed has not come yet.
        if text.strip_suffix(b"\r").unwrap_or(text).len() > self.limits.line {
            return Err(fail(StompErrorKind::LineTooLong(self.limits.line), head.line));
        }
        head.scanned = bytes.len();
        Ok(ScanStep::Starved(ScanStage::Head(head)))
    }

    fn check_length(&self, length: Option<usize>) -> Result<(), StompErrorKind> {
        let limit = self.limits.body;
        match length {
            Some(size) if size > limit => Err(StompErrorKind::BodyTooLarge { size, at_least: false, limit }),
            _ => Ok(()),
        }
    }

    fn body(
        &mut self,
        bytes: &[u8],
        body: BodyBounds,
        complete: &mut Vec<Layout>,
    ) -> Result<ScanStep, StompDecodeError> {
        let BodyBounds { command, head, start, scanned, length } = body;
        let fail = |kind| StompDecodeError { kind, message_id: message_id(&bytes[head.0..head.1]) };
        let starved_at = |scanned| Ok(ScanStep::Starved(ScanStage::Body(BodyBounds { scanned, ..body })));
        let end = match length {
            Some(length) => match bytes.get(start + length) {
                Some(0) => start + length,
                Some(_) => return Err(fail(StompErrorKind::NoNulAfterBody)),
                None => return starved_at(bytes.len()),
            },
            None => match memchr(0, &bytes[scanned..]).map(|at| scanned + at) {
                Some(end) => end,
                None => {
                    self.check_growth(bytes.len() - start).map_err(fail)?;
                    return starved_at(bytes.len());
                }
            },
        };
        self.check_growth(end - start).map_err(fail)?;
        if length.is_none() && command == StompCommand::Message {
            // ActiveMQ ends every frame with NUL and LF, but passes on a NUL inside a text unchanged. Only
            // the next byte distinguishes the two, so a message is complete with the byte after its NUL.
            match bytes.get(end + 1) {
                Some(b'\n' | b'\r') => {}
                Some(_) => return Err(fail(StompErrorKind::NulInBody)),
                None => return starved_at(end),
            }
        }
        complete.push(Layout { command, head: head.0..head.1, body: start..end });
        self.start = end + 1;
        Ok(ScanStep::Next(ScanStage::Between))
    }

    fn check_growth(&self, size: usize) -> Result<(), StompErrorKind> {
        let limit = self.limits.body;
        if size > limit {
            return Err(StompErrorKind::BodyTooLarge { size, at_least: true, limit });
        }
        Ok(())
    }
}

fn message_id(head: &[u8]) -> Option<String> {
    let (_, id) = HeaderLines(head).find(|(name, _)| *name == b"message-id".as_slice())?;
    Some(String::from_utf8_lossy(&unescape(id, Escapes::V1_2)).into_owned())
}

fn parse_length(value: &[u8]) -> Result<usize, StompErrorKind> {
    let text = std::str::from_utf8(value).unwrap_or_default().trim();
    text.parse().map_err(|_| {
        let shown = &value[..value.len().min(40)];
        StompErrorKind::BadContentLength(String::from_utf8_lossy(shown).into_owned())
    })
}

fn trim_line_end(head: Bytes) -> Bytes {
    let end = head.strip_suffix(b"\n").map_or(head.len(), <[u8]>::len);
    head.slice(..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::Encoder;
    use super::*;
    use crate::source::protocol::read_buffer::CHUNK;

    const LIMITS: StompLimits = StompLimits { line: 100, headers: 5, body: 50 };

    type Plain = (StompCommand, Vec<u8>, Vec<u8>);

    fn decode(pieces: &[&[u8]]) -> (Vec<Plain>, Option<StompDecodeError>) {
        let mut decoder = StompDecoder::new(LIMITS, Budget::new(1 << 20));
        let mut frames = Vec::new();
        let mut failure = None;
        for piece in pieces {
            decoder.buffer().extend_from_slice(piece);
            if let Err(error) = decoder.decode(&mut frames) {
                failure = Some(error);
                break;
            }
        }
        let plain = |frame: StompFrame| (frame.command, frame.head.to_vec(), frame.body.to_vec());
        (frames.into_iter().map(plain).collect(), failure)
    }

    fn failure(bytes: &[u8]) -> StompDecodeError {
        decode(&[bytes]).1.expect("refused")
    }

    #[test]
    fn a_message_as_activemq_writes_it() {
        let wire = b"\n\nMESSAGE\nack:ID\\chost\nmessage-id:ID\\c1\n\n{\"md5\":1}\0\n\n";
        let (frames, failure) = decode(&[wire]);
        assert_eq!(failure, None);
        let head = b"ack:ID\\chost\nmessage-id:ID\\c1".to_vec();
        assert_eq!(frames, [(StompCommand::Message, head, b"{\"md5\":1}".to_vec())]);
    }

    #[test]
    fn a_body_with_a_length_may_hold_anything() {
        let (frames, failure) = decode(&[b"MESSAGE\r\ncontent-length:5\r\n\r\na\0\nb\0\0RECEIPT\n\n\0"]);
        assert_eq!(failure, None);
        assert_eq!(frames[0].2, b"a\0\nb\0");
        assert_eq!((frames[1].0, frames[1].1.len()), (StompCommand::Receipt, 0));
    }

    #[test]
    fn the_longest_line_may_be_cut_between_carriage_return_and_line_feed() {
        let line = "a".repeat(LIMITS.line);
        let (frames, failure) = decode(&[format!("RECEIPT\n{line}\r").as_bytes(), b"\n\n\0"]);
        assert_eq!((frames.len(), failure), (1, None));
    }

    #[test]
    fn a_message_waits_for_the_byte_after_its_nul() {
        let mut decoder = StompDecoder::new(LIMITS, Budget::new(1 << 20));
        let mut frames = Vec::new();
        decoder.buffer().extend_from_slice(b"MESSAGE\nmessage-id:1\n\nx\0");
        decoder.decode(&mut frames).unwrap();
        assert!(frames.is_empty());
        decoder.buffer().extend_from_slice(b"\n");
        decoder.decode(&mut frames).unwrap();
        assert_eq!(frames.len(), 1);
    }

    #[test]
    fn what_is_no_frame_is_refused_and_named() {
        assert_eq!(failure(b"HTTP/1.1 400 Bad Request\r\n").kind, {
            StompErrorKind::UnknownCommand("HTTP/1.1 400 Bad Request".into())
        });
        assert!(matches!(failure(&[b'A'; 13]).kind, StompErrorKind::UnknownCommand(_)));
        assert_eq!(
            failure(&[b"ERROR\n".as_slice(), &[b'h'; 101]].concat()).kind,
            StompErrorKind::LineTooLong(100)
        );
        assert_eq!(failure(b"ERROR\n1:\n2:\n3:\n4:\n5:\n6:\n").kind, StompErrorKind::TooManyHeaders(5));
        let bad = failure(b"MESSAGE\nmessage-id:a\\cb\ncontent-length:-1\n");
        assert_eq!(bad.kind, StompErrorKind::BadContentLength("-1".into()));
        assert_eq!(bad.message_id.as_deref(), Some("a:b"));
        assert_eq!(failure(b"ERROR\ncontent-length:1\n\nab").kind, StompErrorKind::NoNulAfterBody);
        let inside = failure(b"MESSAGE\nmessage-id:7\n\na\0b\0\n");
        assert_eq!((inside.kind, inside.message_id.as_deref()), (StompErrorKind::NulInBody, Some("7")));
    }

    #[test]
    fn a_body_too_large_is_refused_before_it_is_read() {
        let announced = failure(b"MESSAGE\nmessage-id:7\ncontent-length:4000000000\n\n");
        let kind = StompErrorKind::BodyTooLarge { size: 4_000_000_000, at_least: false, limit: 50 };
        assert_eq!((announced.kind, announced.message_id.as_deref()), (kind, Some("7")));
        let growing = failure(&[b"MESSAGE\n\n".as_slice(), &[b'x'; 51]].concat());
        assert_eq!(growing.kind, StompErrorKind::BodyTooLarge { size: 51, at_least: true, limit: 50 });
    }

    #[test]
    fn good_frames_before_a_bad_one_are_not_lost() {
        let (frames, failure) = decode(&[b"RECEIPT\nreceipt-id:1\n\n\0\nMESSAGE\n\nok\0\nnonsense\n"]);
        assert_eq!(frames.len(), 2);
        assert!(matches!(failure.unwrap().kind, StompErrorKind::UnknownCommand(_)));
    }

    #[test]
    fn a_trickle_pins_no_large_buffers_and_a_flood_is_not_copied() {
        let budget = Budget::new(1 << 20);
        let mut decoder = StompDecoder::new(StompLimits::with_body(1 << 20), budget.clone());
        let mut frames = Vec::new();
        decoder.buffer().extend_from_slice(b"MESSAGE\n\nsmall\0\n");
        decoder.decode(&mut frames).unwrap();
        assert!(budget.used() < 100, "{}", budget.used());
        frames.clear();
        let mut flood = Vec::new();
        while flood.len() < CHUNK - 100 {
            Encoder::begin(&mut flood, StompCommand::Message, Escapes::V1_2).end(&[b'x'; 50]);
        }
        decoder.buffer().extend_from_slice(&flood);
        let read_at = decoder.buffer().as_ptr() as usize;
        decoder.decode(&mut frames).unwrap();
        assert_eq!(frames[0].body.as_ptr() as usize - read_at, "MESSAGE\n\n".len());
        assert_eq!(budget.used(), CHUNK);
        frames.clear();
        assert_eq!(budget.used(), 0);
    }

    fn wire_frame() -> impl Strategy<Value = Vec<u8>> {
        let body = proptest::collection::vec(any::<u8>(), 0..50);
        let headers = proptest::collection::vec(("[a-z]{1,8}", "[ -~\r\n:\\\\]{0,20}"), 0..4);
        let command =
            prop_oneof![Just(StompCommand::Message), Just(StompCommand::Error), Just(StompCommand::Send)];
        (command, headers, body, any::<bool>(), "\n{0,3}").prop_map(
            |(command, headers, mut body, sized, beats)| {
                let mut wire = Vec::new();
                let mut frame = Encoder::begin(&mut wire, command, Escapes::V1_2);
                for (name, value) in &headers {
                    frame = frame.header(name, value);
                }
                if sized {
                    frame = frame.header("content-length", body.len().to_string());
                } else {
                    body.retain(|byte| *byte != 0);
                }
                frame.end(&body);
                wire.extend_from_slice(beats.as_bytes());
                wire
            },
        )
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            wire in proptest::collection::vec(wire_frame(), 1..6),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let frames = wire.len();
            let wire = wire.concat();
            let whole = decode(&[&wire]);
            prop_assert_eq!(whole.0.len(), frames);
            prop_assert_eq!(&whole.1, &None);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&pieces), whole.clone());
            let bytes: Vec<_> = wire.chunks(1).collect();
            prop_assert_eq!(decode(&bytes), whole);
        }

        #[test]
        fn any_bytes_give_the_same_frames_and_the_same_verdict_however_split(
            wire in proptest::collection::vec(prop_oneof![
                Just(b"MESSAGE\n".to_vec()), Just(b"ERROR\n\n".to_vec()), Just(b"\n\n".to_vec()), Just(b"\0\n".to_vec()),
                Just(b"content-length:3\n".to_vec()), Just(b"message-id:1\r\n".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..60),
            ], 0..12),
        ) {
            let wire = wire.concat();
            let whole = decode(&[&wire]);
            let bytes: Vec<_> = wire.chunks(1).collect();
            let split = decode(&bytes);
            prop_assert_eq!(&split.0, &whole.0);
            prop_assert_eq!(split.1.is_some(), whole.1.is_some());
        }
    }
}
