//! Explains errors of a TLS stream before the first data. With TLS 1.3 the client sees a refusal of its
//! certificate only after the handshake. So an error before the first data is explained like an error of the
//! handshake.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client;

use super::TlsClient;
use crate::protocol_guess::{FirstBytes, Remembering};

/// A TLS stream whose first error is explained, as long as no data has arrived.
#[derive(Debug)]
pub struct TlsStream<S> {
    stream: client::TlsStream<Remembering<S>>,
    /// Explains the first error; `None` once data has arrived.
    unheard: Option<Unheard>,
}

#[derive(Debug)]
struct Unheard {
    client: TlsClient,
    host: String,
}

impl<S> TlsStream<S> {
    pub(super) fn new(stream: client::TlsStream<Remembering<S>>, client: TlsClient, host: &str) -> Self {
        Self { stream, unheard: Some(Unheard { client, host: host.to_owned() }) }
    }

    fn explain(&mut self, error: io::Error) -> io::Error {
        let Some(Unheard { client, host }) = self.unheard.take() else { return error };
        match client.handshake(&host, &FirstBytes::default()).explain_late(&error) {
            Some(explained) => io::Error::new(error.kind(), explained),
            None => error,
        }
    }

    /// Whether the end of the stream is a refusal: no data has arrived, and the server asked for a
    /// certificate and got none.
    fn is_refused(&self) -> bool {
        let asked =
            |unheard: &Unheard| unheard.client.seen.server().has_asked && !unheard.client.has_identity;
        self.unheard.as_ref().is_some_and(asked)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Explains a failed write. The reason may be an alert of the server that has not been read yet.
    fn unless_told(&mut self, context: &mut Context<'_>, error: io::Error) -> io::Error {
        if self.unheard.is_none() {
            return error;
        }
        let mut byte = [0; 1];
        match Pin::new(&mut self.stream).poll_read(context, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Err(told)) => self.explain(told),
            _ => self.explain(error),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        Poll::Ready(match read {
            Err(error) => Err(self.explain(error)),
            Ok(()) if buffer.filled().len() > before => {
                self.unheard = None;
                Ok(())
            }
            Ok(()) if self.is_refused() => Err(self.explain(io::ErrorKind::UnexpectedEof.into())),
            Ok(()) => Ok(()),
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(written.map_err(|error| self.unless_told(context, error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(flushed.map_err(|error| self.unless_told(context, error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
