//! Finds out which protocol listens at an address that did not answer like a NATS server, so that the error
//! can name it.
//!
//! Each question uses a new connection and contains no private data: no login, no event.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::protocol_guess::{ASK_KAFKA, ASK_STOMP, WireProtocol, guess};

/// How long to wait for the answer to one question. A server that sends first must send its greeting in this
/// time too.
const ANSWER: Duration = Duration::from_secs(1);
const ENOUGH: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum PortProbe {
    /// A NATS server, or one of its ports for other servers.
    Nats(Greeting),
    /// A server that talks another protocol.
    Foreign(WireProtocol),
    /// TLS from the first byte on. Holds the result behind TLS, if the handshake succeeded.
    Tls(Option<Box<Self>>),
    /// A server that accepts connections and answers no question.
    Silent,
    /// A server that closes each connection at once.
    Drops,
    /// A server that answers, but in no known protocol.
    Unknown,
    /// The address can't be reached; holds the system's error text.
    Away(String),
}

/// The members of a NATS server's first message that are needed here.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Greeting {
    tls_required: bool,
    tls_available: bool,
    pub(super) tls_verify: bool,
}

impl Greeting {
    /// Returns whether the server can continue with TLS.
    pub(super) fn offers_tls(&self) -> bool {
        self.tls_required || self.tls_available
    }
}

/// The address to probe, and the certificates to trust there.
#[derive(Clone)]
pub(super) struct ProbeAddress {
    pub(super) host: String,
    pub(super) port: u16,
    /// `None` if TLS can't be set up.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

#[derive(Clone, Copy)]
enum Transport {
    Plain,
    Tls,
}

enum ProbeReply {
    Said(Vec<u8>),
    Nothing,
    Ended,
}

impl ProbeAddress {
    /// Finds out what listens at the address. This takes at most a few seconds in addition to connecting.
    pub(super) async fn look(&self) -> PortProbe {
        match self.identify(Transport::Plain).await {
            Ok(PortProbe::Silent | PortProbe::Unknown) if self.speaks_tls().await => {
                let behind = self.identify(Transport::Tls).await.ok();
                PortProbe::Tls(behind.map(Box::new))
            }
            Ok(listener) => listener,
            Err(error) => PortProbe::Away(error.to_string()),
        }
    }

    /// Asks one question after the other, each over a new connection, until an answer identifies the
    /// protocol.
    async fn identify(&self, transport: Transport) -> io::Result<PortProbe> {
        let mut silent = true;
        for (number, question) in [&b""[..], ASK_STOMP, &ASK_KAFKA].into_iter().enumerate() {
            let reply = match transport {
                Transport::Plain => ask(self.connect().await?, question).await,
                Transport::Tls => ask(self.handshake().await?, question).await,
            };
            match reply {
                ProbeReply::Said(said) => match known(&said) {
                    Some(listener) => return Ok(listener),
                    None => silent = false,
                },
                // A server that waits for a question does not close the connection at once.
                ProbeReply::Ended if number == 0 => return Ok(PortProbe::Drops),
                ProbeReply::Ended => silent = false,
                ProbeReply::Nothing => {}
            }
        }
        Ok(if silent { PortProbe::Silent } else { PortProbe::Unknown })
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        timeout(3 * ANSWER, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Returns whether the address answers the first bytes of a handshake with TLS: with a handshake or an
    /// alert.
    async fn speaks_tls(&self) -> bool {
        let Some((config, name)) = self.tls.clone().zip(self.name()) else { return false };
        let mut hello = Vec::new();
        let begun = ClientConnection::new(config, name).ok();
        if begun.and_then(|mut client| client.write_tls(&mut hello).ok()).is_none() {
            return false;
        }
        let Ok(stream) = self.connect().await else { return false };
        matches!(ask(stream, &hello).await, ProbeReply::Said(said) if matches!(said[..], [0x15 | 0x16, 3, ..]))
    }

    async fn handshake(&self) -> io::Result<TlsStream<TcpStream>> {
        let missing = || io::Error::from(io::ErrorKind::Unsupported);
        let (config, name) = self.tls.clone().zip(self.name()).ok_or_else(missing)?;
        let handshake = TlsConnector::from(config).connect(name, self.connect().await?);
        timeout(3 * ANSWER, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok()
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, question: &[u8]) -> ProbeReply {
    let mut said = Vec::new();
    let answered = timeout(ANSWER, async {
        stream.write_all(question).await?;
        stream.flush().await?;
        // This reads until the end of the line: the line of a NATS server is long.
        while said.len() < ENOUGH && !said.contains(&b'\n') && stream.read_buf(&mut said).await? > 0 {}
        io::Result::Ok(())
    });
    match answered.await {
        _ if !said.is_empty() => ProbeReply::Said(said),
        Ok(_) => ProbeReply::Ended,
        Err(_) => ProbeReply::Nothing,
    }
}

fn known(said: &[u8]) -> Option<PortProbe> {
    match guess(said)? {
        WireProtocol::Nats => {
            // JSON that does not parse was cut off, and gives no information about TLS.
            let json = said.strip_prefix(b"INFO ").unwrap_or_default();
            let mut greetings = serde_json::Deserializer::from_slice(json).into_iter();
            Some(PortProbe::Nats(greetings.next().and_then(Result::ok).unwrap_or_default()))
        }
        // This is a TLS alert. A handshake must find out what is behind it.
        WireProtocol::Tls => None,
        wire => Some(PortProbe::Foreign(wire)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_first_words_tell_who_speaks() {
        let greeting = Greeting { tls_required: true, ..Greeting::default() };
        for (said, listener) in [
            (&b"INFO {\"server_id\":\"x\",\"tls_required\":true} \r\n"[..], Some(PortProbe::Nats(greeting))),
            (b"INFO {\"server_id", Some(PortProbe::Nats(Greeting::default()))),
            (b"HTTP/1.1 400 Bad Request\r\n", Some(PortProbe::Foreign(WireProtocol::Http))),
            (b"ERROR\ncontent-type:text/plain\n", Some(PortProbe::Foreign(WireProtocol::Stomp))),
            (b"\x15\x03\x01\0\x02\x02\x0a", None),
            (b"", None),
        ] {
            assert_eq!(known(said), listener, "{}", String::from_utf8_lossy(said));
        }
    }

    /// Probes a server that sends `answer` on every connection.
    async fn found(answer: &'static [u8], keeps_open: bool) -> PortProbe {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer).await.unwrap();
                open.extend(keeps_open.then_some(stream));
            }
        });
        let found = ProbeAddress { host: "127.0.0.1".to_owned(), port, tls: None }.look().await;
        serving.abort();
        found
    }

    #[tokio::test]
    async fn silence_and_an_end_are_told_apart() {
        assert_eq!(found(b"", true).await, PortProbe::Silent);
        assert_eq!(found(b"", false).await, PortProbe::Drops);
        assert_eq!(found(b"who is there?\r\n", true).await, PortProbe::Unknown);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let away = ProbeAddress { host: "127.0.0.1".to_owned(), port: closed, tls: None }.look().await;
        assert!(matches!(away, PortProbe::Away(why) if why.contains("refused")));
    }
}
