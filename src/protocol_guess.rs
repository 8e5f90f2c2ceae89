//! Guesses from the first bytes of a server which protocol it talks, so that an error message can name a
//! wrong port.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The number of bytes that are kept: more than any rule of [`guess`] reads.
const ENOUGH: usize = 64;

/// The correlation id in [`ASK_KAFKA`]: its answer repeats it.
const KAFKA_QUESTION: [u8; 4] = *b"brdg";

/// A Kafka request that asks which requests the broker knows (ApiVersions, version 0). Every listener answers
/// it before a login. It is needed because Kafka answers only its own protocol.
pub const ASK_KAFKA: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, b'b', b'r', b'd', b'g', 0xFF, 0xFF];

/// A STOMP login without a name. Any STOMP server answers it, if only with an error. So do servers that
/// answer any text.
pub const ASK_STOMP: &[u8] = b"CONNECT\naccept-version:1.2\nhost:localhost\n\n\0";

/// A question that sends nothing, for servers that speak first. ActiveMQ's OpenWire port needs it: that port
/// reads while it prepares its greeting, and closes without the greeting if it reads another protocol before.
pub const LISTEN: &[u8] = b"";

/// A protocol that a server may talk at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireProtocol {
    /// TLS: the first bytes are a TLS record, mostly an alert.
    Tls,
    /// STOMP, any version: the first bytes are a frame.
    Stomp,
    /// OpenWire, the protocol of ActiveMQ itself.
    OpenWire,
    /// NATS, whose server sends `INFO {…}` first.
    Nats,
    /// Kafka: the first bytes are an answer to [`ASK_KAFKA`].
    Kafka,
    /// HTTP/1, which answers any text with a status line.
    Http,
    /// AMQP, any version: the first bytes are its protocol header.
    Amqp,
    /// SSH, whose server sends `SSH-` and its version first.
    Ssh,
    /// SMTP or FTP: both servers send `220` first.
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

/// Returns the protocol of `first`, the first bytes that a server sent. `None` if they are unknown or too
/// short.
pub fn guess(first: &[u8]) -> Option<WireProtocol> {
    // STOMP allows line feeds before every frame.
    let text = first.trim_ascii_start();
    let begins = |word: &str| text.starts_with(word.as_bytes());
    let is_frame = |command: &str| {
        let rest = text.strip_prefix(command.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
    };
    if let [0x14..=0x17, 3, ..] = first {
        return Some(WireProtocol::Tls);
    }
    // The size of the frame comes first, unless the broker is configured to leave it out.
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

/// The first bytes that were read from a stream so far; clones share them.
#[derive(Clone, Debug, Default)]
pub struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    /// Returns a copy of the bytes read so far, at most 64.
    pub fn so_far(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether no byte has been read yet.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Returns the [`guess`] for the bytes read so far.
    pub fn guess(&self) -> Option<WireProtocol> {
        guess(&self.so_far())
    }

    /// Adds the bytes that fit. Returns whether there is room for more.
    fn add(&self, bytes: &[u8]) -> bool {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ENOUGH.saturating_sub(first.len()).min(bytes.len());
        first.extend_from_slice(bytes.get(..room).unwrap_or_default());
        first.len() < ENOUGH
    }
}

/// A stream that records the first bytes read from it in [`FirstBytes`].
#[derive(Debug)]
pub struct Remembering<S> {
    stream: S,
    first: FirstBytes,
    /// Whether `first` has room for more.
    remembers: bool,
}

impl<S> Remembering<S> {
    /// Wraps `stream`, and records the first bytes read from it in `first`.
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
pub(crate) mod testing {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    /// Serves OpenWire as ActiveMQ's port does at worst: it closes without a word if the client speaks first.
    /// Returns the address.
    pub(crate) async fn openwire_port() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let read = timeout(Duration::from_millis(100), stream.read_u8()).await;
                if read.is_err() {
                    let _sent = stream.write_all(b"\x00\x00\x01\x3c\x01ActiveMQ\x00\x00\x00\x0c").await;
                }
            }
        });
        address
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
