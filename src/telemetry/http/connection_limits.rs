//! Limits what a client can cost, whatever it sends or does not send: the number of connections (the oldest
//! is closed for a new one), and the bytes and the time of each connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The most open connections. A request takes milliseconds, so the oldest of so many is not waiting for the
/// bridge.
const MOST: usize = 32;
/// The most bytes that a client may send. A request has no body.
const LONGEST: usize = 16 * 1024;
/// The longest time from the first byte of a connection to its last.
const DEADLINE: Duration = Duration::from_secs(10);
/// The pause after the system has refused a connection, for example because there are no free descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// A listener with the limits of the module text.
pub(super) struct ConnectionLimits {
    listener: TcpListener,
    /// The connections that may be open, oldest first.
    open: VecDeque<Weak<CancellationToken>>,
}

impl ConnectionLimits {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, open: VecDeque::new() }
    }

    fn admit(&mut self, stream: TcpStream) -> LimitedStream {
        self.open.retain(|connection| connection.strong_count() > 0);
        if self.open.len() >= MOST
            && let Some(oldest) = self.open.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.cancel();
        }
        let ended = Arc::new(CancellationToken::new());
        self.open.push_back(Arc::downgrade(&ended));
        let waits = ended.as_ref().clone();
        let end = Box::pin(async move {
            // The connection ends in both cases, so the result does not matter.
            let _over = timeout(DEADLINE, waits.cancelled()).await;
        });
        LimitedStream { stream, left: LONGEST, end: Some(end), _open: ended }
    }
}

impl Listener for ConnectionLimits {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => return (self.admit(stream), address),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when its bytes or its time are used up.
pub(super) struct LimitedStream {
    stream: TcpStream,
    left: usize,
    /// `None` once the end has come.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _open: Arc<CancellationToken>,
}

impl LimitedStream {
    fn stream(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> io::Result<(Pin<&mut TcpStream>, &mut usize)> {
        let this = self.get_mut();
        match this.end.as_mut().map(|end| end.as_mut().poll(context)) {
            Some(Poll::Pending) => Ok((Pin::new(&mut this.stream), &mut this.left)),
            // A future that has completed must not be polled again.
            Some(Poll::Ready(())) | None => {
                this.end = None;
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (stream, left) = self.stream(context)?;
        let before = buffer.filled().len();
        ready!(stream.poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        match left.checked_sub(read) {
            Some(rest) => *left = rest,
            None => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream(context)?.0.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(context)?.0.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
