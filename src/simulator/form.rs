//! Says in what sort of message a body is sent, and writes its numbers.

/// In what sort of message a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A text.
    Text,
    /// A text that its producer compressed; over STOMP it is like any other.
    Compressed,
    /// Bytes.
    Bytes,
    /// A map; the body is what OpenWire has on the wire. Over STOMP nothing of it comes.
    Map,
}

/// A number's decimal digits; an order of magnitude cheaper than formatting.
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
