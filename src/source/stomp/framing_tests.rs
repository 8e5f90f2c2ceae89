//! Tests that bytes are cut into frames, however they are split, and that what is no frame is refused.

use proptest::prelude::*;

use super::frame::{Encoder, Escapes, StompCommand, StompFrame};
use super::framing::{StompDecodeError, StompDecoder, StompFrameError, StompLimits};
use crate::budget::Budget;
use crate::source::protocol::read_buffer::CHUNK;
use crate::source::testing::{cut, decode_pieces};

const LIMITS: StompLimits = StompLimits { line: 100, headers: 5, body: 50 };

type Plain = (StompCommand, Vec<u8>, Vec<u8>);

fn decode(pieces: &[&[u8]]) -> (Vec<Plain>, Option<StompDecodeError>) {
    let (frames, failure) = decode_pieces(StompDecoder::new(LIMITS, Budget::new(1 << 20)), pieces);
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
        StompFrameError::UnknownCommand("HTTP/1.1 400 Bad Request".into())
    });
    assert!(matches!(failure(&[b'A'; 13]).kind, StompFrameError::UnknownCommand(_)));
    assert_eq!(
        failure(&[b"ERROR\n".as_slice(), &[b'h'; 101]].concat()).kind,
        StompFrameError::LineTooLong(100)
    );
    assert_eq!(failure(b"ERROR\n1:\n2:\n3:\n4:\n5:\n6:\n").kind, StompFrameError::TooManyHeaders(5));
    let bad = failure(b"MESSAGE\nmessage-id:a\\cb\ncontent-length:-1\n");
    assert_eq!(bad.kind, StompFrameError::BadContentLength("-1".into()));
    assert_eq!(bad.message_id.as_deref(), Some("a:b"));
    assert_eq!(failure(b"ERROR\ncontent-length:1\n\nab").kind, StompFrameError::NoNulAfterBody);
    let inside = failure(b"MESSAGE\nmessage-id:7\n\na\0b\0\n");
    assert_eq!((inside.kind, inside.message_id.as_deref()), (StompFrameError::NulInBody, Some("7")));
}

#[test]
fn a_body_too_large_is_refused_before_it_is_read() {
    let announced = failure(b"MESSAGE\nmessage-id:7\ncontent-length:4000000000\n\n");
    let kind = StompFrameError::BodyTooLarge { size: 4_000_000_000, at_least: false, limit: 50 };
    assert_eq!((announced.kind, announced.message_id.as_deref()), (kind, Some("7")));
    let growing = failure(&[b"MESSAGE\n\n".as_slice(), &[b'x'; 51]].concat());
    assert_eq!(growing.kind, StompFrameError::BodyTooLarge { size: 51, at_least: true, limit: 50 });
}

#[test]
fn good_frames_before_a_bad_one_are_not_lost() {
    let (frames, failure) = decode(&[b"RECEIPT\nreceipt-id:1\n\n\0\nMESSAGE\n\nok\0\nnonsense\n"]);
    assert_eq!(frames.len(), 2);
    assert_eq!(failure.unwrap().kind, StompFrameError::NoFrameFollows);
}

/// A text with a NUL and a line feed looks like the end of a frame. What follows is the rest of the body (D14).
#[test]
fn no_part_of_a_body_is_shown() {
    let key = "9e107d9d372bb6826bd81d3542a419d6";
    let (_, failure) = decode(&[format!("MESSAGE\nmessage-id:7\n\na\0\n{key}\"}}\0\n").as_bytes()]);
    let failure = failure.unwrap();
    let shown = format!("{failure} {}", failure.clone().into_source_error(None));
    assert!(failure.kind == StompFrameError::NoFrameFollows && !shown.contains(key), "{shown}");
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
        prop_assert_eq!(decode(&cut(&wire, &cuts)), whole.clone());
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
