//! Defines the message types in which a body is sent, and writes numbers.

/// The message type in which a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A text, uncompressed, as most producers send it.
    Text,
    /// A text that its producer compressed. Over STOMP it is like any other text.
    Compressed,
    /// A message of raw bytes.
    Bytes,
    /// A map. The body is its encoding in OpenWire. Over STOMP the body is empty.
    Map,
}

/// Appends a number in decimal digits. About ten times faster than formatting.
pub(crate) fn push_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
