//! Provides a bare STOMP 1.2 connection for the tests. It shares no code with the bridge.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use memchr::{memchr, memmem};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::SOON;

/// Appends a MESSAGE as ActiveMQ writes it, for tests of speed that need no broker.
pub fn write_message(out: &mut String, number: u64, body: &str) {
    write!(
        out,
        "MESSAGE\nexpires:0\ndestination:/queue/bench.RTO.acme\nsubscription:0\npriority:4\n\
         original-destination:/topic/RTO.acme\npersistent:true\nack:ID\\cbroker-40001-1700000000000-5\\c{number}\n\
         message-id:ID\\cbroker-40001-1700000000000-3\\c1\\c-1\\c1\\c{number}\ntimestamp:1700000000000\n\n{body}\0\n"
    )
    .expect("write to a string");
}

#[derive(Clone, Debug)]
pub struct Login {
    pub username: &'static str,
    pub password: &'static str,
    /// The `client-id` header of CONNECT.
    pub client_id: Option<String>,
}

impl Login {
    /// A customer that may consume every namespace.
    pub fn customer() -> Self {
        Self { username: "12345", password: "0123456789abcdef0123456789abcdef", client_id: None }
    }

    /// A customer that may consume the namespace `other`, and existing queues of `fixed`.
    pub fn other_customer() -> Self {
        Self { username: "67890", password: "fedcba9876543210fedcba9876543210", client_id: None }
    }

    /// AtData, which publishes.
    pub fn producer() -> Self {
        Self { username: "producer", password: "producer-secret", client_id: None }
    }

    /// Sets the `client-id`.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }
}

/// A frame with its headers as on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    head: Vec<u8>,
    pub body: Vec<u8>,
}

impl Frame {
    /// A frame without headers.
    pub fn new(command: &str) -> Self {
        Self { head: format!("{command}\n").into_bytes(), body: Vec::new() }
    }

    /// Adds a header, escaped.
    pub fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let value = value.to_string().replace('\\', r"\\").replace('\n', r"\n").replace(':', r"\c");
        self.head.extend_from_slice(format!("{name}:{value}\n").as_bytes());
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The command: MESSAGE, RECEIPT, ERROR, …
    pub fn command(&self) -> &str {
        self.lines().next().unwrap_or_default()
    }

    /// The first value of a header, unescaped.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = self.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut parts = value.split(r"\\").map(|part| part.replace(r"\c", ":").replace(r"\n", "\n"));
        let first = parts.next()?;
        Some(parts.fold(first, |value, part| value + "\\" + &part))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        std::str::from_utf8(&self.head).expect("headers in UTF-8").lines()
    }

    /// Appends the frame in its wire format.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.push(b'\n');
        out.extend_from_slice(&self.body);
        out.push(0);
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection. Dropping it closes the socket without DISCONNECT, like a kill of the process.
pub struct Connection {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    start: usize,
}

impl Connection {
    /// Connects without logging in.
    pub async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Connects over TLS without logging in. Trusts `authority` (PEM) and expects the host name `server`.
    pub async fn open_tls(addr: SocketAddr, server: &str, authority: &Path) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(authority).map_err(io::Error::other)?;
        roots.add(authority).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerName::try_from(server.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect(addr).await?;
        Ok(Self::over(TlsConnector::from(Arc::new(config)).connect(server, stream).await?))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), input: Vec::new(), start: 0 }
    }

    /// Connects and logs in, without heart-beats. A refusal is an error with the broker's message.
    pub async fn login(addr: SocketAddr, login: &Login) -> io::Result<Self> {
        let mut connection = Self::open(addr).await?;
        connection.log_in(login).await?;
        Ok(connection)
    }

    /// Sends CONNECT and waits for CONNECTED.
    pub async fn log_in(&mut self, login: &Login) -> io::Result<Frame> {
        let mut connect = Frame::new("CONNECT")
            .header("accept-version", "1.2")
            .header("host", "atdata")
            .header("login", login.username)
            .header("passcode", login.password);
        if let Some(id) = &login.client_id {
            connect = connect.header("client-id", id);
        }
        self.send(&connect).await?;
        self.expect("CONNECTED").await
    }

    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(frame.head.len() + frame.body.len() + 2);
        frame.write_to(&mut bytes);
        self.send_bytes(&bytes).await
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Receives the next frame; an error if there is none soon.
    pub async fn receive(&mut self) -> io::Result<Frame> {
        if let Some(frame) = self.ready() {
            return Ok(frame);
        }
        match tokio::time::timeout(SOON, self.next()).await {
            Ok(frame) => frame,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the broker sent nothing")),
        }
    }

    /// Receives the next `count` bytes without parsing them; an error if they do not arrive soon.
    pub async fn receive_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let read = async {
            while self.input.len() - self.start < count {
                self.read().await?;
            }
            let bytes = self.input[self.start..][..count].to_vec();
            self.start += count;
            Ok(bytes)
        };
        match tokio::time::timeout(SOON, read).await {
            Ok(bytes) => bytes,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the broker sent nothing")),
        }
    }

    /// Receives the next frame that is not a MESSAGE. If it is not `command`, its text is the error.
    pub async fn expect(&mut self, command: &str) -> io::Result<Frame> {
        loop {
            let frame = self.receive().await?;
            if frame.command() == command {
                return Ok(frame);
            }
            if frame.command() != "MESSAGE" {
                let message = frame.get("message").unwrap_or_default();
                return Err(io::Error::other(format!("{}: {message}", frame.command())));
            }
        }
    }

    /// Disconnects and waits until the broker has processed everything sent before.
    pub async fn disconnect(mut self) -> io::Result<()> {
        self.send(&Frame::new("DISCONNECT").header("receipt", "bye")).await?;
        self.expect("RECEIPT").await?;
        Ok(())
    }

    /// Whether a complete frame has already been read.
    pub fn has_frame(&mut self) -> bool {
        self.measure().is_some()
    }

    /// Takes a complete frame that has already been read, if there is one.
    pub fn ready(&mut self) -> Option<Frame> {
        let (head, length) = self.measure()?;
        let (head, rest) = self.input[self.start..].split_at(head);
        let frame = Frame { head: head.to_vec(), body: rest[1..][..length].to_vec() };
        self.start += frame.head.len() + 1 + length + 1;
        Some(frame)
    }

    /// The sizes of head and body of the next frame, if it has been read completely.
    fn measure(&mut self) -> Option<(usize, usize)> {
        while self.input.get(self.start).is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            self.start += 1;
        }
        let input = &self.input[self.start..];
        let head = memmem::find(input, b"\n\n")? + 1;
        let body = &input[head + 1..];
        let length = match memmem::find(&input[..head], b"\ncontent-length:") {
            Some(found) => {
                let digits = input[found + 16..head].iter().take_while(|byte| byte.is_ascii_digit());
                digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
            }
            None => memchr(0, body)?,
        };
        (body.len() > length).then_some((head, length))
    }

    /// Receives the next frame, without a time limit. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.ready() {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.input.drain(..self.start);
        self.start = 0;
        self.input.reserve(64 * 1024);
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
