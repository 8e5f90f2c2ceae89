//! Finds where STOMP frames begin and end, and refuses invalid or too large ones.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr;

use super::frame::{Escapes, HeaderLines, StompCommand, StompFrame, unescape};
use crate::budget::Budget;
use crate::source::config::SourceSettings;
use crate::source::protocol::framing::{self, FrameError, RAISE_MAX_BODY, Scan, Scanned};

/// Splits a stream of bytes into STOMP frames.
pub type StompDecoder = framing::FrameDecoder<StompScanner>;

/// The reason why bytes are no STOMP frame.
pub type StompDecodeError = framing::DecodeError<StompFrameError>;

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
pub enum StompFrameError {
    #[error("not a STOMP frame: the command line reads {0:?}")]
    UnknownCommand(String),
    /// The bytes may be the rest of a body, so they are not shown (D14).
    #[error("what follows the last frame is not a STOMP frame")]
    NoFrameFollows,
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

impl FrameError for StompFrameError {
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
            Self::UnknownCommand(_)
            | Self::NoFrameFollows
            | Self::BadContentLength(_)
            | Self::NoNulAfterBody => None,
        }
    }
}

/// Finds STOMP frames. Positions are offsets from the first byte of the frame.
#[derive(Debug)]
pub struct StompScanner {
    limits: StompLimits,
    stage: ScanStage,
    /// Whether a whole frame was found before.
    has_found: bool,
}

/// How far a frame has been read.
#[derive(Clone, Copy, Debug)]
enum ScanStage {
    /// Line feeds (heart-beats) between frames.
    Between,
    Command {
        scanned: usize,
    },
    Head(Head),
    Body(Body),
}

#[derive(Clone, Copy, Debug)]
struct Head {
    command: StompCommand,
    start: usize,
    /// Start of the line that is being read.
    line: usize,
    scanned: usize,
    headers: usize,
    content_length: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    command: StompCommand,
    /// The header lines, without the line end of the last one.
    head: (usize, usize),
    start: usize,
    scanned: usize,
    content_length: Option<usize>,
}

/// Where the parts of a frame stand in it.
#[derive(Debug)]
pub struct Layout {
    command: StompCommand,
    head: Range<usize>,
    body: Range<usize>,
}

/// The next stage, and what was found if the bytes are used up or the frame is complete.
type Step = (ScanStage, Option<Scanned<Layout>>);

impl StompDecoder {
    /// Refuses frames beyond `limits` and charges the others to `budget`.
    pub fn new(limits: StompLimits, budget: Budget) -> Self {
        Self::scanning(StompScanner { limits, stage: ScanStage::Between, has_found: false }, budget)
    }
}

impl Scan for StompScanner {
    type Frame = StompFrame;
    type Layout = Layout;
    type Error = StompFrameError;

    fn scan(&mut self, bytes: &[u8]) -> Result<Scanned<Layout>, StompDecodeError> {
        loop {
            let (stage, found) = match self.stage {
                ScanStage::Between => between(bytes),
                ScanStage::Command { scanned } => {
                    command(bytes, scanned).map_err(|line| self.no_command(line))?
                }
                ScanStage::Head(head) => self.head(bytes, head)?,
                ScanStage::Body(body) => self.body(bytes, body)?,
            };
            self.stage = stage;
            if let Some(found) = found {
                self.has_found |= matches!(found, Scanned::Frame(..));
                return Ok(found);
            }
        }
    }

    fn frame(Layout { command, head, body }: Layout, bytes: &Bytes) -> StompFrame {
        StompFrame { command, head: bytes.slice(head), body: bytes.slice(body) }
    }
}

fn between(bytes: &[u8]) -> Step {
    match bytes.iter().position(|byte| !matches!(byte, b'\n' | b'\r')) {
        Some(0) => (ScanStage::Command { scanned: 0 }, None),
        None if bytes.is_empty() => (ScanStage::Between, Some(Scanned::Incomplete)),
        next => (ScanStage::Between, Some(Scanned::Between(next.unwrap_or(bytes.len())))),
    }
}

/// Fails with the line that is no command.
fn command(bytes: &[u8], scanned: usize) -> Result<Step, &[u8]> {
    const LONGEST: usize = "UNSUBSCRIBE\r".len();
    let Some(end) = memchr(b'\n', &bytes[scanned..]).map(|at| scanned + at) else {
        if bytes.len() > LONGEST {
            return Err(bytes);
        }
        return Ok((ScanStage::Command { scanned: bytes.len() }, Some(Scanned::Incomplete)));
    };
    let line = without_return(&bytes[..end]);
    let command = StompCommand::parse(line).ok_or(line)?;
    let start = end + 1;
    let head = Head { command, start, line: start, scanned: start, headers: 0, content_length: None };
    Ok((ScanStage::Head(head), None))
}

impl StompScanner {
    fn no_command(&self, line: &[u8]) -> StompDecodeError {
        let shown = || String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned();
        let kind = match self.has_found {
            true => StompFrameError::NoFrameFollows,
            false => StompFrameError::UnknownCommand(shown()),
        };
        StompDecodeError { kind, message_id: None }
    }

    fn head(&self, bytes: &[u8], mut head: Head) -> Result<Step, StompDecodeError> {
        let fail = |kind, line| StompDecodeError { kind, message_id: message_id(&bytes[head.start..line]) };
        while let Some(end) = memchr(b'\n', &bytes[head.scanned..]).map(|at| head.scanned + at) {
            let Head { command, start, line, content_length, .. } = head;
            let text = without_return(&bytes[line..end]);
            if text.is_empty() {
                self.check_body(content_length.unwrap_or(0), false).map_err(|kind| fail(kind, line))?;
                let (head, body) = ((start, start.max(line - 1)), end + 1);
                let body = Body { command, head, start: body, scanned: body, content_length };
                return Ok((ScanStage::Body(body), None));
            }
            if text.len() > self.limits.line {
                return Err(fail(StompFrameError::LineTooLong(self.limits.line), line));
            }
            head.headers += 1;
            if head.headers > self.limits.headers {
                return Err(fail(StompFrameError::TooManyHeaders(self.limits.headers), line));
            }
            if let Some(value) = text.strip_prefix(b"content-length:").filter(|_| content_length.is_none()) {
                head.content_length = Some(parse_length(value).map_err(|kind| fail(kind, line))?);
            }
            head.line = end + 1;
            head.scanned = head.line;
        }
        // The carriage return may belong to a line end whose line feed has not come yet.
        if without_return(&bytes[head.line..]).len() > self.limits.line {
            return Err(fail(StompFrameError::LineTooLong(self.limits.line), head.line));
        }
        head.scanned = bytes.len();
        Ok((ScanStage::Head(head), Some(Scanned::Incomplete)))
    }

    fn body(&self, bytes: &[u8], body: Body) -> Result<Step, StompDecodeError> {
        let Body { command, head, start, scanned, content_length } = body;
        let fail = |kind| StompDecodeError { kind, message_id: message_id(&bytes[head.0..head.1]) };
        let starved_at = |scanned| Ok((ScanStage::Body(Body { scanned, ..body }), Some(Scanned::Incomplete)));
        let end = match content_length {
            Some(length) => match bytes.get(start + length) {
                Some(0) => start + length,
                Some(_) => return Err(fail(StompFrameError::NoNulAfterBody)),
                None => return starved_at(bytes.len()),
            },
            None => {
                let end = memchr(0, &bytes[scanned..]).map(|at| scanned + at);
                self.check_body(end.unwrap_or(bytes.len()) - start, true).map_err(fail)?;
                match end {
                    Some(end) => end,
                    None => return starved_at(bytes.len()),
                }
            }
        };
        if content_length.is_none() && command == StompCommand::Message {
            // ActiveMQ ends every frame with NUL and LF, but passes on a NUL inside a text unchanged. Only
            // the next byte distinguishes the two, so a message is complete with the byte after its NUL.
            match bytes.get(end + 1) {
                Some(b'\n' | b'\r') => {}
                Some(_) => return Err(fail(StompFrameError::NulInBody)),
                None => return starved_at(end),
            }
        }
        let layout = Layout { command, head: head.0..head.1, body: start..end };
        Ok((ScanStage::Between, Some(Scanned::Frame(layout, end + 1))))
    }

    fn check_body(&self, size: usize, at_least: bool) -> Result<(), StompFrameError> {
        let limit = self.limits.body;
        if size > limit { Err(StompFrameError::BodyTooLarge { size, at_least, limit }) } else { Ok(()) }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn message_id(head: &[u8]) -> Option<String> {
    let (_, id) = HeaderLines(head).find(|(name, _)| *name == b"message-id".as_slice())?;
    Some(String::from_utf8_lossy(&unescape(id, Escapes::V1_2)).into_owned())
}

fn parse_length(value: &[u8]) -> Result<usize, StompFrameError> {
    let text = std::str::from_utf8(value).unwrap_or_default().trim();
    text.parse().map_err(|_| {
        let shown = &value[..value.len().min(40)];
        StompFrameError::BadContentLength(String::from_utf8_lossy(shown).into_owned())
    })
}
