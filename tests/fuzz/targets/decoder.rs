//! Fuzzes the STOMP decoder with any bytes, split anywhere. The result must be the same as without splits,
//! and the frames must be readable. The first byte of the input chooses the splits.

#![no_main]

use atdata_bridge::budget::Budget;
use atdata_bridge::source::stomp::frame::{StompFrame, decode_headers};
use atdata_bridge::source::stomp::framing::{StompDecoder, StompLimits};
use libfuzzer_sys::fuzz_target;

/// Small limits, so that short inputs reach them.
const LIMITS: StompLimits = StompLimits { line: 48, headers: 6, body: 64 };

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<StompFrame>, bool) {
    let mut decoder = StompDecoder::new(LIMITS, Budget::new(usize::MAX));
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.buffer().extend_from_slice(piece);
        if decoder.decode(&mut frames).is_err() {
            return (frames, false);
        }
    }
    (frames, true)
}

fuzz_target!(|input: &[u8]| {
    let Some((split, bytes)) = input.split_first() else { return };
    let (whole, good) = decode(std::iter::once(bytes));
    let (pieces, good_in_pieces) = decode(bytes.chunks(usize::from(*split % 32) + 1));
    assert_eq!(good, good_in_pieces);
    assert_eq!(whole.len(), pieces.len());
    for (one, other) in whole.iter().zip(&pieces) {
        assert_eq!((one.command, &one.head, &one.body), (other.command, &other.head, &other.body));
        assert!(one.body.len() <= LIMITS.body);
        let headers = decode_headers(&one.head);
        assert!(headers.len() <= LIMITS.headers);
    }
});
