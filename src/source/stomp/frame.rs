//! Reads and writes one STOMP frame, its headers and its escapes
//! (<https://stomp.github.io/stomp-specification-1.2.html>).

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memchr;

/// The command in the first line of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StompCommand {
    Connected,
    Message,
    Receipt,
    Error,
    Connect,
    Stomp,
    Send,
    Subscribe,
    Unsubscribe,
    Ack,
    Nack,
    Begin,
    Commit,
    Abort,
    Disconnect,
}

const COMMANDS: [(StompCommand, &str); 15] = [
    (StompCommand::Message, "MESSAGE"),
    (StompCommand::Receipt, "RECEIPT"),
    (StompCommand::Connected, "CONNECTED"),
    (StompCommand::Error, "ERROR"),
    (StompCommand::Ack, "ACK"),
    (StompCommand::Nack, "NACK"),
    (StompCommand::Send, "SEND"),
    (StompCommand::Connect, "CONNECT"),
    (StompCommand::Stomp, "STOMP"),
    (StompCommand::Subscribe, "SUBSCRIBE"),
    (StompCommand::Unsubscribe, "UNSUBSCRIBE"),
    (StompCommand::Begin, "BEGIN"),
    (StompCommand::Commit, "COMMIT"),
    (StompCommand::Abort, "ABORT"),
    (StompCommand::Disconnect, "DISCONNECT"),
];

impl StompCommand {
    /// Parses a command line, which must match exactly.
    pub fn parse(line: &[u8]) -> Option<Self> {
        COMMANDS.iter().find(|(_, name)| name.as_bytes() == line).map(|(command, _)| *command)
    }

    /// Returns the command as it stands on the wire.
    pub fn name(self) -> &'static str {
        COMMANDS.iter().find(|(command, _)| *command == self).map_or("", |(_, name)| name)
    }
}

/// How header values are escaped. ActiveMQ leaves `CONNECTED`, and an `ERROR` that answers `CONNECT`,
/// unescaped in every version (`protocols.md §1.2`): read those with [`Escapes::None`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// No escapes: version 1.0, `CONNECT` and `CONNECTED`.
    None,
    /// Version 1.1: `\\`, `\n` and `\c`.
    V1_1,
    /// Version 1.2: `\\`, `\n`, `\c` and `\r`.
    V1_2,
}

/// A frame as it was read; both slices share the read buffer.
#[derive(Clone, Debug)]
pub struct StompFrame {
    /// The command in its first line.
    pub command: StompCommand,
    /// The header lines as they came, still escaped, without the empty line that ends them.
    pub head: Bytes,
    /// The bytes of the body, without the NUL.
    pub body: Bytes,
}

impl StompFrame {
    /// Returns the headers in the order of the wire, values still escaped. If a name repeats, the first one
    /// counts.
    pub fn headers(&self) -> HeaderLines<'_> {
        HeaderLines(&self.head)
    }

    /// Returns the first value of `name`, unescaped.
    pub fn header(&self, name: &str, escapes: Escapes) -> Option<Cow<'_, [u8]>> {
        let value = self.headers().find(|(found, _)| *found == name.as_bytes())?.1;
        Some(unescape(value, escapes))
    }

    /// Returns the first value of `name`, unescaped, as text for people.
    pub fn text(&self, name: &str, escapes: Escapes) -> Option<String> {
        self.header(name, escapes).map(|value| String::from_utf8_lossy(&value).into_owned())
    }
}

/// Iterates over the lines of a header block.
#[derive(Clone, Debug)]
pub struct HeaderLines<'a>(pub &'a [u8]);

impl<'a> Iterator for HeaderLines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let end = memchr(b'\n', self.0).unwrap_or(self.0.len());
        let line = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = memchr(b':', line).unwrap_or(line.len());
        Some((&line[..colon], line.get(colon + 1..).unwrap_or_default()))
    }
}

/// Decodes all headers of a version 1.2 block, unescaped, for people and dead letters.
pub fn decode_headers(head: &[u8]) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(&unescape(bytes, Escapes::V1_2)).into_owned();
    HeaderLines(head).map(|(name, value)| (text(name), text(value))).collect()
}

/// Resolves the escapes. Like ActiveMQ it leaves unknown ones unchanged. Copies only if there are any.
pub fn unescape(value: &[u8], escapes: Escapes) -> Cow<'_, [u8]> {
    if escapes == Escapes::None || memchr(b'\\', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut plain = Vec::with_capacity(value.len());
    unescape_into(value, escapes, &mut plain);
    Cow::Owned(plain)
}

/// Does the same as [`unescape`], and appends the result to `plain`.
pub fn unescape_into(mut value: &[u8], escapes: Escapes, plain: &mut Vec<u8>) {
    while let Some(at) = memchr(b'\\', value).filter(|_| escapes != Escapes::None) {
        plain.extend_from_slice(&value[..at]);
        let resolved = match value.get(at + 1) {
            Some(b'\\') => Some(b'\\'),
            Some(b'n') => Some(b'\n'),
            Some(b'c') => Some(b':'),
            Some(b'r') if escapes == Escapes::V1_2 => Some(b'\r'),
            _ => None,
        };
        plain.push(resolved.unwrap_or(b'\\'));
        value = &value[at + 1 + usize::from(resolved.is_some())..];
    }
    plain.extend_from_slice(value);
}

/// Writes one frame into a buffer.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    escapes: Escapes,
}

impl<'a> Encoder<'a> {
    /// Begins a frame at the end of `out`.
    pub fn begin(out: &'a mut Vec<u8>, command: StompCommand, escapes: Escapes) -> Self {
        out.extend_from_slice(command.name().as_bytes());
        out.push(b'\n');
        Self { out, escapes }
    }

    /// Adds a header, escaping name and value.
    #[must_use]
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        escape_into(name.as_bytes(), self.escapes, self.out);
        self.out.push(b':');
        escape_into(value.as_ref(), self.escapes, self.out);
        self.out.push(b'\n');
        self
    }

    /// Adds a header whose value is escaped already, such as the `ack` id of a MESSAGE sent back.
    #[must_use]
    pub fn raw_header(self, name: &str, value: &[u8]) -> Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(value);
        self.out.push(b'\n');
        self
    }

    /// Ends the frame with `body`, NUL and a line feed, as ActiveMQ does.
    pub fn end(self, body: &[u8]) {
        self.out.push(b'\n');
        self.out.extend_from_slice(body);
        self.out.extend_from_slice(b"\0\n");
    }
}

/// Appends `value` with the escapes of that version.
pub fn escape_into(value: &[u8], escapes: Escapes, out: &mut Vec<u8>) {
    if escapes == Escapes::None {
        return out.extend_from_slice(value);
    }
    for byte in value {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b':' => out.extend_from_slice(b"\\c"),
            b'\r' if escapes == Escapes::V1_2 => out.extend_from_slice(b"\\r"),
            other => out.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_differ_by_version() {
        let wire = br"a\cb\\c\nd\re\tf\";
        assert_eq!(unescape(wire, Escapes::None), wire.as_slice());
        assert_eq!(unescape(wire, Escapes::V1_1), b"a:b\\c\nd\\re\\tf\\".as_slice());
        assert_eq!(unescape(wire, Escapes::V1_2), b"a:b\\c\nd\re\\tf\\".as_slice());
    }

    #[test]
    fn the_first_of_repeated_headers_counts_and_values_may_hold_colons() {
        let frame = StompFrame {
            command: StompCommand::Message,
            head: Bytes::from_static(b"session:ID:host-1\r\na:1\na:2\nempty:\nbare"),
            body: Bytes::new(),
        };
        assert_eq!(frame.text("session", Escapes::None).as_deref(), Some("ID:host-1"));
        assert_eq!(frame.text("a", Escapes::V1_2).as_deref(), Some("1"));
        assert_eq!(frame.text("empty", Escapes::V1_2).as_deref(), Some(""));
        assert_eq!(frame.text("bare", Escapes::V1_2).as_deref(), Some(""));
        assert_eq!(frame.text("missing", Escapes::V1_2), None);
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(value in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut wire = Vec::new();
            escape_into(&value, Escapes::V1_2, &mut wire);
            prop_assert!(!wire.iter().any(|byte| matches!(byte, b'\n' | b'\r' | b':')));
            prop_assert_eq!(unescape(&wire, Escapes::V1_2), value);
        }
    }
}
