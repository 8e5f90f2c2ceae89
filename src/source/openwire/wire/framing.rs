//! Finds where OpenWire frames begin and end, and refuses invalid or too large ones.

use bytes::Bytes;

use super::{message, types};
use crate::budget::Budget;
use crate::source::config::SourceSettings;
use crate::source::protocol::framing::{self, FrameError, RAISE_MAX_BODY, Scan, Scanned};

/// Splits a stream of bytes into OpenWire frames.
pub type OpenWireDecoder = framing::FrameDecoder<OpenWireScanner>;

/// The reason why bytes are no OpenWire frame.
pub type OpenWireDecodeError = framing::DecodeError<OpenWireFrameError>;

/// The default limit of a frame without its body: ids, properties, names. The first bytes of a frame, up to
/// this many, contain the id of the message, and mostly the size of its body.
const BESIDES_BODY: usize = 64 << 10;

/// The limits above which a frame is refused. ActiveMQ ignores the frame size that was negotiated
/// (`protocols.md §3.6`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenWireLimits {
    /// The most bytes in one body.
    pub body: usize,
    /// The most bytes in a frame besides its body.
    pub besides_body: usize,
}

impl OpenWireLimits {
    /// Allows bodies up to `body` bytes, and frames up to 64 KiB more.
    pub const fn with_body(body: usize) -> Self {
        Self { body, besides_body: BESIDES_BODY }
    }

    /// Takes the limits from the settings of a source.
    pub fn of(settings: &SourceSettings) -> Self {
        Self { body: settings.max_body, besides_body: settings.max_header_size }
    }

    /// Returns the most bytes in one frame, without the four of its size prefix.
    pub const fn frame(self) -> usize {
        self.body.saturating_add(self.besides_body)
    }
}

/// One frame as it was read; the slice shares the read buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWireFrame {
    /// The type of its command (`protocols.md §3.3`); 0 for none.
    pub kind: u8,
    /// The fields of its command: everything after the type.
    pub fields: Bytes,
}

/// The rule that a frame breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenWireFrameError {
    #[error("not an OpenWire frame: the bytes read {0:?}")]
    NotOpenWire(String),
    #[error("a frame can't have {0} bytes")]
    BadSize(i32),
    #[error("a frame of {size} bytes is larger than the {limit} allowed")]
    FrameTooLarge { size: usize, limit: usize },
    #[error("a body of {size} bytes is larger than the {limit} allowed")]
    BodyTooLarge { size: usize, limit: usize },
}

impl FrameError for OpenWireFrameError {
    fn is_too_large(&self) -> bool {
        matches!(self, Self::BodyTooLarge { .. } | Self::FrameTooLarge { .. })
    }

    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::BodyTooLarge { .. } => Some(RAISE_MAX_BODY),
            Self::FrameTooLarge { .. } => {
                Some("raise source.max_header_size (what is besides the body), or source.max_body")
            }
            Self::NotOpenWire(_) | Self::BadSize(_) => None,
        }
    }
}

/// The size of the prefix before each frame, in bytes.
const PREFIX: usize = 4;

/// Finds OpenWire frames by their size prefixes.
#[derive(Debug)]
pub struct OpenWireScanner {
    limits: OpenWireLimits,
}

impl OpenWireDecoder {
    /// Refuses frames beyond `limits` and charges the others to `budget`.
    pub fn new(limits: OpenWireLimits, budget: Budget) -> Self {
        Self::scanning(OpenWireScanner { limits }, budget)
    }
}

impl Scan for OpenWireScanner {
    type Frame = OpenWireFrame;
    type Layout = ();
    type Error = OpenWireFrameError;

    fn scan(&mut self, bytes: &[u8]) -> Result<Scanned<()>, OpenWireDecodeError> {
        let Some((prefix, frame)) = bytes.split_first_chunk::<PREFIX>() else {
            return Ok(Scanned::Incomplete);
        };
        let announced = i32::from_be_bytes(*prefix);
        let size = match usize::try_from(announced) {
            Ok(size) if size > 0 => size,
            _ => {
                let kind = OpenWireFrameError::BadSize(announced);
                return Err(OpenWireDecodeError { kind, message_id: None });
            }
        };
        if size > self.limits.frame() {
            self.refuse_too_large(size, frame, bytes)?;
        }
        Ok(if size > frame.len() { Scanned::Incomplete } else { Scanned::Frame((), PREFIX + size) })
    }

    fn frame((): (), bytes: &Bytes) -> OpenWireFrame {
        OpenWireFrame { kind: bytes[PREFIX], fields: bytes.slice(PREFIX + 1..) }
    }
}

impl OpenWireScanner {
    /// Reports which part is too large as soon as the beginning of the frame is there. It is safe to wait for
    /// the beginning: a frame that is too large has at least as many bytes.
    fn refuse_too_large(&self, size: usize, frame: &[u8], bytes: &[u8]) -> Result<(), OpenWireDecodeError> {
        let limit = self.limits.frame();
        let refused = |kind, message_id| Err(OpenWireDecodeError { kind, message_id });
        match *frame {
            [] => Ok(()),
            [types::MESSAGE_DISPATCH, ref fields @ ..] => {
                let enough = self.limits.besides_body.min(BESIDES_BODY) - 1;
                let Some(beginning) = fields.get(..enough) else { return Ok(()) };
                let Some((id, body)) = message::beginning(&Bytes::copy_from_slice(beginning)) else {
                    return refused(OpenWireFrameError::FrameTooLarge { size, limit }, None);
                };
                let kind = match body {
                    Some(size) if size > self.limits.body => {
                        OpenWireFrameError::BodyTooLarge { size, limit: self.limits.body }
                    }
                    _ => OpenWireFrameError::FrameTooLarge { size, limit },
                };
                refused(kind, Some(id.text()))
            }
            [kind, ..] if kind == 0 || types::is_command(kind) => {
                refused(OpenWireFrameError::FrameTooLarge { size, limit }, None)
            }
            _ => {
                let shown = String::from_utf8_lossy(&bytes[..PREFIX + 1]).into_owned();
                refused(OpenWireFrameError::NotOpenWire(shown), None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::command::Command;
    use super::super::ids::{ConsumerId, Destination, MessageId, ProducerId};
    use super::super::message::{Dispatch, MessageKind, WireMessage};
    use super::*;
    use crate::source::protocol::read_buffer::CHUNK;
    use crate::source::testing::{cut, decode_pieces};

    const LIMITS: OpenWireLimits = OpenWireLimits::with_body(50);

    fn decode(pieces: &[&[u8]]) -> (Vec<OpenWireFrame>, Option<OpenWireDecodeError>) {
        decode_pieces(OpenWireDecoder::new(LIMITS, Budget::new(1 << 20)), pieces)
    }

    fn failure(bytes: &[u8]) -> OpenWireDecodeError {
        decode(&[bytes]).1.expect("refused")
    }

    fn wire(kind: u8, fields: &[u8]) -> Vec<u8> {
        let size = u32::try_from(fields.len() + 1).unwrap();
        [&size.to_be_bytes()[..], &[kind], fields].concat()
    }

    fn dispatch(body: usize, group: usize) -> Vec<u8> {
        let producer = ProducerId { connection: "ID:host-1".into(), session: 1, value: 2 };
        let id = MessageId { text_view: None, producer, producer_sequence: 3, broker_sequence: 4 };
        let mut message = WireMessage::new(MessageKind::Bytes, id);
        message.content = Some(vec![b'x'; body].into());
        message.user_id = Some(vec![b'u'; group].into());
        let dispatch = Dispatch {
            consumer: ConsumerId::default(),
            destination: Some(Destination::queue("q")),
            message: Some(message),
            redelivery_counter: 0,
        };
        let mut out = Vec::new();
        Command::MessageDispatch(dispatch).encode(0, false, &mut out);
        out
    }

    #[test]
    fn frames_are_cut_where_their_sizes_say() {
        let bytes = [wire(10, &[0, 0, 0, 7, 0]), wire(0, b""), wire(250, b"abc")].concat();
        let (frames, failure) = decode(&[&bytes]);
        assert_eq!(failure, None);
        let frames: Vec<_> = frames.iter().map(|frame| (frame.kind, &frame.fields[..])).collect();
        assert_eq!(frames, [(10, &[0, 0, 0, 7, 0][..]), (0, b""), (250, b"abc")]);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(failure(&[0; 4]).kind, OpenWireFrameError::BadSize(0));
        assert_eq!(failure(&[0xFF, 0xFF, 0xFF, 0xFE]).kind, OpenWireFrameError::BadSize(-2));
        let http = failure(b"HTTP/1.1 400 Bad Request\r\n").kind;
        assert_eq!(http, OpenWireFrameError::NotOpenWire("HTTP/".into()));
        let info = failure(&[0x7F, 0xFF, 0xFF, 0xFF, 1]).kind;
        assert_eq!(info, OpenWireFrameError::FrameTooLarge { size: 0x7FFF_FFFF, limit: LIMITS.frame() });
    }

    #[test]
    fn a_message_too_large_is_named_before_it_is_all_there() {
        let body = failure(&dispatch(1 << 20, 0)[..BESIDES_BODY + 4]);
        let kind = OpenWireFrameError::BodyTooLarge { size: 1 << 20, limit: 50 };
        assert_eq!((body.kind, body.message_id.as_deref()), (kind, Some("ID:host-1:1:2:3")));
        let besides = failure(&dispatch(50, 0xFFFF));
        assert!(matches!(besides.kind, OpenWireFrameError::FrameTooLarge { limit: 65586, .. }), "{besides}");
        assert_eq!(besides.message_id.as_deref(), Some("ID:host-1:1:2:3"));
        assert_eq!(decode(&[&dispatch(1 << 20, 0)[..BESIDES_BODY + 3]]), (vec![], None));
        let nonsense = failure(&wire(21, &[1; 70_000]));
        assert_eq!(nonsense.message_id, None);
    }

    #[test]
    fn good_frames_before_a_bad_one_are_not_lost() {
        let (frames, failure) = decode(&[&[wire(10, b"ok"), wire(11, b""), vec![0; 4]].concat()]);
        assert_eq!(frames.len(), 2);
        assert_eq!(failure.unwrap().kind, OpenWireFrameError::BadSize(0));
    }

    #[test]
    fn a_trickle_pins_no_large_buffers_and_a_flood_is_not_copied() {
        let budget = Budget::new(1 << 20);
        let mut decoder = OpenWireDecoder::new(OpenWireLimits::with_body(1 << 20), budget.clone());
        let mut frames = Vec::new();
        decoder.buffer().extend_from_slice(&wire(10, b"small"));
        decoder.decode(&mut frames).unwrap();
        assert!(budget.used() < 100, "{}", budget.used());
        frames.clear();
        let flood = wire(10, &[b'x'; 50]).repeat(CHUNK / 55);
        decoder.buffer().extend_from_slice(&flood);
        let read_at = decoder.buffer().as_ptr() as usize;
        decoder.decode(&mut frames).unwrap();
        assert_eq!(frames[0].fields.as_ptr() as usize - read_at, PREFIX + 1);
        assert_eq!(budget.used(), CHUNK);
        frames.clear();
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames_and_the_same_verdict(
            frames in proptest::collection::vec(
                prop_oneof![
                    8 => (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..60))
                        .prop_map(|(kind, fields)| wire(kind, &fields)),
                    1 => (0usize..200, 0usize..70_000).prop_map(|(body, group)| dispatch(body, group)),
                    1 => proptest::collection::vec(any::<u8>(), 0..60),
                ],
                0..8,
            ),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let wire = frames.concat();
            let whole = decode(&[&wire]);
            prop_assert_eq!(decode(&cut(&wire, &cuts)), whole.clone());
            let bytes: Vec<_> = wire.chunks(1).collect();
            prop_assert_eq!(decode(&bytes), whole);
        }
    }
}
