//! Fuzzes the OpenWire decoder with any bytes, split anywhere. The result must be the same as without splits,
//! and frames, bodies and headers must be decoded or refused without a panic. The first byte of the input
//! chooses the splits.

#![no_main]

use atdata_bridge::budget::Budget;
use atdata_bridge::source::openwire::wire::body::body;
use atdata_bridge::source::openwire::wire::command::{Command, decode as read};
use atdata_bridge::source::openwire::wire::framing::{OpenWireDecoder, OpenWireFrame, OpenWireLimits};
use atdata_bridge::source::openwire::wire::headers::decode_headers;
use atdata_bridge::source::openwire::wire::ids::MessageId;
use atdata_bridge::source::openwire::wire::message::{MessageKind, WireMessage};
use libfuzzer_sys::fuzz_target;

/// A small limit, so that short inputs reach it.
const LIMITS: OpenWireLimits = OpenWireLimits::with_body(64);

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<OpenWireFrame>, bool) {
    let mut decoder = OpenWireDecoder::new(LIMITS, Budget::new(usize::MAX));
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.buffer().extend_from_slice(piece);
        if decoder.decode(&mut frames).is_err() {
            return (frames, false);
        }
    }
    (frames, true)
}

fn read_body(message: &WireMessage) {
    let budget = Budget::new(1);
    if let Ok(body) = body(message, LIMITS.body, &budget) {
        assert!(body.bytes.len() <= LIMITS.body);
        assert!(budget.used() <= LIMITS.body);
    }
    assert_eq!(budget.used(), 0);
}

fuzz_target!(|input: &[u8]| {
    let Some((split, bytes)) = input.split_first() else { return };
    let (whole, good) = decode(std::iter::once(bytes));
    let (pieces, good_in_pieces) = decode(bytes.chunks(usize::from(*split % 32) + 1));
    assert_eq!(good, good_in_pieces);
    assert_eq!(whole, pieces);
    for frame in &whole {
        let Ok(received) = read(frame) else { continue };
        if let Command::MessageDispatch(dispatch) = received.command
            && let Some(message) = dispatch.message
        {
            read_body(&message);
            assert!(!decode_headers(&frame.fields).is_empty());
        }
    }
    // The fuzzer would hardly find compressed bodies inside a frame.
    for (kind, compressed) in
        [(MessageKind::Text, false), (MessageKind::Text, true), (MessageKind::Bytes, true)]
    {
        let content = Some(bytes.to_vec().into());
        read_body(&WireMessage { content, compressed, ..WireMessage::new(kind, MessageId::default()) });
    }
});
