//! Guesses by the first bytes that a server sends which protocol it speaks, so that a wrong port is told as such.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than every rule of [`guess`] looks at.
const ENOUGH: usize = 64;

/// Our number for the question of [`ASK_KAFKA`], by which its answer is known.
const KAFKA_QUESTION: [u8; 4] = *b"brdg";

/// Kafka answers only its own: the question which requests a broker knows (ApiVersions, version 0), which any
/// listener answers before a login.
pub const ASK_KAFKA: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, b'b', b'r', b'd', b'g', 0xFF, 0xFF];

/// A login without a name: any STOMP server answers, if only with an error. So do those that answer any text.
pub const ASK_STOMP: &[u8] = b"CONNECT\naccept-version:1.2\nhost:localhost\n\n\0";

/// A protocol that a server may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireProtocol {
    /// TLS: a record of it, mostly an alert.
    Tls,
    /// STOMP, any version.
    Stomp,
    /// OpenWire, ActiveMQ's own.
    OpenWire,
    /// NATS, which greets with `INFO {…}`.
    Nats,
    /// Kafka: an answer to [`ASK_KAFKA`].
    Kafka,
    /// HTTP/1.
    Http,
    /// AMQP, any version.
    Amqp,
    /// SSH.
    Ssh,
    /// SMTP or FTP: both greet with `220`.
    Mail,
}

impl fmt::Display for WireProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "TLS",
            Self::Stomp => "STOMP",
            Self::OpenWire => "OpenWire",
            Self::Nats => "NATS",
            Self::Kafka => "Kafka",
            Self::Http => "HTTP",
            Self::Amqp => "AMQP",
            Self::Ssh => "SSH",
            Self::Mail => "SMTP or FTP",
        })
    }
}

/// What `first`, the first bytes that a server has sent, belong to; `None` for what is not known, or too short.
pub fn guess(first: &[u8]) -> Option<WireProtocol> {
    // Line feeds may stand before every frame of STOMP.
    let text = first.trim_ascii_start();
    let begins = |word: &str| text.starts_with(word.as_bytes());
    let is_frame = |command: &str| {
        let rest = text.strip_prefix(command.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
    };
    if let [0x14..=0x17, 3, ..] = first {
        return Some(WireProtocol::Tls);
    }
    // The size of the frame comes first, unless a broker is told to leave it out.
    let openwire = b"\x01ActiveMQ";
    if first.get(4..).is_some_and(|frame| frame.starts_with(openwire)) || first.starts_with(openwire) {
        return Some(WireProtocol::OpenWire);
    }
    if first.get(4..8) == Some(&KAFKA_QUESTION) {
        return Some(WireProtocol::Kafka);
    }
    if ["CONNECTED", "ERROR", "MESSAGE", "RECEIPT"].into_iter().any(is_frame) {
        return Some(WireProtocol::Stomp);
    }
    let greetings = [
        ("INFO {", WireProtocol::Nats),
        ("-ERR '", WireProtocol::Nats),
        ("HTTP/", WireProtocol::Http),
        ("AMQP", WireProtocol::Amqp),
        ("SSH-", WireProtocol::Ssh),
        ("220 ", WireProtocol::Mail),
        ("220-", WireProtocol::Mail),
    ];
    greetings.into_iter().find(|(word, _)| begins(word)).map(|(_, wire)| wire)
}

/// The first bytes that were read from a stream, so far.
#[derive(Clone, Debug, Default)]
pub struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    /// A copy of them.
    pub fn so_far(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// [`guess`] of them.
    pub fn guess(&self) -> Option<WireProtocol> {
        guess(&self.so_far())
    }

    /// Remembers what fits; whether more would.
    fn add(&self, bytes: &[u8]) -> bool {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ENOUGH.saturating_sub(first.len()).min(bytes.len());
        first.extend_from_slice(bytes.get(..room).unwrap_or_default());
        first.len() < ENOUGH
    }
}

/// A stream that remembers the first bytes that are read from it.
#[derive(Debug)]
pub struct Remembering<S> {
    stream: S,
    first: FirstBytes,
    /// Whether there is room for more.
    remembers: bool,
}

impl<S> Remembering<S> {
    /// Reads from `stream`, and puts the first bytes into `first`.
    pub fn new(stream: S, first: &FirstBytes) -> Self {
        Self { stream, first: first.clone(), remembers: true }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Remembering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.remembers {
            self.remembers = self.first.add(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Remembering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn servers_are_known_by_their_first_bytes() {
        for (first, wire) in [
            (&b"\x15\x03\x03\x00\x02\x02\x46"[..], Some(WireProtocol::Tls)),
            (b"\x15\x03", Some(WireProtocol::Tls)),
            (b"\x16\x03\x01\x02\x00\x01", Some(WireProtocol::Tls)),
            (b"\x00\x00\x01\x3c\x01ActiveMQ\x00\x00\x00\x0c", Some(WireProtocol::OpenWire)),
            (b"\x01ActiveMQ\x00\x00\x00\x0c", Some(WireProtocol::OpenWire)),
            (b"CONNECTED\nversion:1.2\n", Some(WireProtocol::Stomp)),
            (b"\n\nERROR\r\nmessage:no\r\n", Some(WireProtocol::Stomp)),
            (b"INFO {\"server_id\":\"N", Some(WireProtocol::Nats)),
            (b"-ERR 'Unknown Protocol Operation'\r\n", Some(WireProtocol::Nats)),
            (b"\x00\x00\x01\x0abrdg\x00\x00", Some(WireProtocol::Kafka)),
            (b"HTTP/1.1 400 Bad Request\r\n", Some(WireProtocol::Http)),
            (b"AMQP\x00\x01\x00\x00", Some(WireProtocol::Amqp)),
            (b"SSH-2.0-OpenSSH_9.7\r\n", Some(WireProtocol::Ssh)),
            (b"220 mail.example.com ESMTP\r\n", Some(WireProtocol::Mail)),
            (b"", None),
            (b"\x15", None),
            (b"\x00\x00\x01\x3c", None),
            (b"ERRORS everywhere", None),
            (b"INFORM", None),
            (b"+OK ready\r\n", None),
        ] {
            assert_eq!(guess(first), wire, "{}", String::from_utf8_lossy(first));
        }
    }

    #[tokio::test]
    async fn what_is_read_first_is_remembered_and_passes_unchanged() {
        let bytes: Vec<u8> = (0..200).collect();
        for piece in [1, 7, 63, 64, 65, 200] {
            let mut stream = in_pieces(&bytes, piece);
            let mut read = Vec::new();
            stream.0.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, bytes);
            assert_eq!(stream.1.so_far(), bytes[..ENOUGH]);
        }
    }

    /// Hands out at most `piece` bytes at once.
    fn in_pieces(bytes: &[u8], piece: usize) -> (Remembering<impl AsyncRead + Unpin>, FirstBytes) {
        let (mut writes, reads) = tokio::io::duplex(piece);
        let bytes = bytes.to_vec();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut writes, &bytes).await });
        let first = FirstBytes::default();
        (Remembering::new(reads, &first), first)
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            guess(&bytes);
        }
    }
}
