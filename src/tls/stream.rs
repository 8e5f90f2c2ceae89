//! A stream inside TLS. With TLS 1.3 a server refuses the client's certificate only after the handshake, as the
//! client sees it: so an error before anything was heard is explained like one of the handshake.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client;

use super::Client;
use crate::protocol_guess::{FirstBytes, Remembering};

/// See the module text.
#[derive(Debug)]
pub struct TlsStream<S> {
    stream: client::TlsStream<Remembering<S>>,
    /// What explains the first error, until something was heard.
    unheard: Option<Unheard>,
}

#[derive(Debug)]
struct Unheard {
    client: Client,
    host: String,
}

impl<S> TlsStream<S> {
    pub(super) fn new(stream: client::TlsStream<Remembering<S>>, client: Client, host: &str) -> Self {
        Self { stream, unheard: Some(Unheard { client, host: host.to_owned() }) }
    }

    fn explain(&mut self, error: io::Error) -> io::Error {
        let Some(Unheard { client, host }) = self.unheard.take() else { return error };
        match client.handshake(&host, &FirstBytes::default()).explain_late(&error) {
            Some(explained) => io::Error::new(error.kind(), explained),
            None => error,
        }
    }

    /// The end of the stream before anything was heard, after the server has asked for a certificate and got none.
    fn is_refused(&self) -> bool {
        let asked =
            |unheard: &Unheard| unheard.client.seen.server().has_asked && !unheard.client.has_identity;
        self.unheard.as_ref().is_some_and(asked)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Why writing fails may wait to be read: the server's alert.
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
