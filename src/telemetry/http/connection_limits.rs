//! Limits what a client can cost, whatever it sends or does not send: the number of connections (the oldest
//! is closed for a new one), and the bytes and the time of each connection. The server of axum has none of
//! these limits. Hyper's own builder would limit the time of a request's head, but not that of a slow reader.
//!
//! A few connections may stream without a limit of time. They are counted apart, so that they neither take the
//! place of a probe nor lose theirs to one.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use socket2::SockRef;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy_bidirectional, duplex, join, split,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::tls::TlsServer;

/// The most open connections that do not stream. A request takes milliseconds, so the oldest of so many is not
/// waiting for the bridge.
const MOST: usize = 32;
/// The most connections that stream.
pub(super) const MOST_STREAMS: usize = 16;
/// The most bytes that a client may send. A request has no body.
const LONGEST: u64 = 16 * 1024;
/// The longest time from the first byte of a connection to its last, unless it streams.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest time in which a client's machine confirms nothing of what was sent to it. It ends the stream of a
/// machine that was switched off.
const SILENCE: Duration = Duration::from_secs(30);
/// The pause after the system has refused a connection, for example because there are no free descriptors.
const PAUSE: Duration = Duration::from_secs(1);
/// The first byte of a TLS record with a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// What a client gets that speaks no TLS where TLS is wanted.
const WANTS_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\nthis port speaks TLS: write https://\n";
/// The most bytes between the server and a client that does not read them.
const BUFFER: usize = 16 * 1024;

/// A listener with the limits of the module text.
pub(super) struct ConnectionLimits {
    listener: TcpListener,
    tls: Option<Arc<TlsServer>>,
    /// The open connections, oldest first, with the tasks that [`relay`] for them. Dropping a task closes its
    /// connection.
    open: VecDeque<(HttpConnection, AbortOnDropHandle<()>)>,
    streams: Arc<Semaphore>,
}

/// One connection, as its request sees it.
#[derive(Clone, Debug)]
pub(super) struct HttpConnection(Arc<Place>);

#[derive(Debug)]
struct Place {
    streams: Arc<Semaphore>,
    /// Set while the connection streams.
    stream: OnceLock<OwnedSemaphorePermit>,
    /// Set if nobody is asked for a certificate, or once this client has shown one that is trusted.
    has_access: OnceLock<()>,
}

impl HttpConnection {
    /// Lets the connection stream without a limit of time. Returns false if as many as may do so stream already.
    pub(super) fn stream(&self) -> bool {
        let permit = Arc::clone(&self.0.streams).try_acquire_owned();
        permit.is_ok_and(|permit| self.0.stream.set(permit).is_ok())
    }

    /// Whether the client may see more than the bridge's health.
    pub(super) fn has_access(&self) -> bool {
        self.0.has_access.get().is_some()
    }

    fn grant_access(&self) {
        let _again = self.0.has_access.set(());
    }

    fn is_stream(&self) -> bool {
        self.0.stream.get().is_some()
    }
}

impl Connected<IncomingStream<'_, ConnectionLimits>> for HttpConnection {
    fn connect_info(stream: IncomingStream<'_, ConnectionLimits>) -> Self {
        stream.remote_addr().clone()
    }
}

impl ConnectionLimits {
    pub(super) fn new(listener: TcpListener, tls: Option<Arc<TlsServer>>) -> Self {
        Self { listener, tls, open: VecDeque::new(), streams: Arc::new(Semaphore::new(MOST_STREAMS)) }
    }

    fn client(&self) -> HttpConnection {
        let (streams, stream, has_access) = (Arc::clone(&self.streams), OnceLock::new(), OnceLock::new());
        let client = HttpConnection(Arc::new(Place { streams, stream, has_access }));
        if !self.tls.as_ref().is_some_and(|tls| tls.asks_clients()) {
            client.grant_access();
        }
        client
    }

    fn admit(&mut self, stream: TcpStream) -> (DuplexStream, HttpConnection) {
        self.open.retain(|(_, connection)| !connection.is_finished());
        let open = self.open.iter().enumerate();
        let short: Vec<usize> =
            open.filter(|(_, (client, _))| !client.is_stream()).map(|(at, _)| at).collect();
        if let [oldest, ..] = short.as_slice()
            && short.len() >= MOST
        {
            self.open.remove(*oldest);
        }
        let (near, far) = duplex(BUFFER);
        let client = self.client();
        let relaying = relay(stream, near, client.clone(), self.tls.clone());
        let relayed = AbortOnDropHandle::new(tokio::spawn(relaying));
        self.open.push_back((client.clone(), relayed));
        (far, client)
    }
}

/// Copies between a client and the server until both have ended, or a limit is reached.
async fn relay(stream: TcpStream, server: DuplexStream, client: HttpConnection, tls: Option<Arc<TlsServer>>) {
    // Without the option a stream ends only when the system has given up, after a quarter of an hour.
    let _ignored = SockRef::from(&stream).set_tcp_user_timeout(Some(SILENCE));
    let deadline = async {
        sleep(DEADLINE).await;
        if client.is_stream() {
            pending::<()>().await;
        }
    };
    // The connection ends in every case, so the result does not matter.
    tokio::select! {
        _ended = serve(stream, server, &client, tls) => {}
        () = deadline => {}
    }
}

async fn serve(
    mut stream: TcpStream,
    server: DuplexStream,
    client: &HttpConnection,
    tls: Option<Arc<TlsServer>>,
) -> io::Result<()> {
    let Some(tls) = tls else { return copy(stream, server).await };
    let mut first = [0; 1];
    if stream.peek(&mut first).await? > 0 && first != [HANDSHAKE] {
        stream.write_all(WANTS_TLS).await?;
        return stream.shutdown().await;
    }
    let (stream, is_trusted) = tls.accept(stream).await?;
    if is_trusted {
        client.grant_access();
    }
    copy(stream, server).await
}

async fn copy(stream: impl AsyncRead + AsyncWrite, mut server: DuplexStream) -> io::Result<()> {
    let (reader, writer) = split(stream);
    let mut bounded = join(reader.take(LONGEST), writer);
    copy_bidirectional(&mut bounded, &mut server).await.map(drop)
}

impl Listener for ConnectionLimits {
    type Io = DuplexStream;
    /// Not an address, since this is how the server hands the connection to its request.
    type Addr = HttpConnection;

    async fn accept(&mut self) -> (DuplexStream, HttpConnection) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return self.admit(stream),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<HttpConnection> {
        Ok(self.client())
    }
}
