//! Runs small servers that are not brokers, as they may listen at a mistyped address.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::ports::{free_port, loopback};

#[derive(Clone)]
pub enum Manner {
    /// Accepts it and never sends anything.
    Silent,
    /// Closes it at once.
    Drops,
    /// Resets it after the first bytes are received.
    Resets,
    /// Sends this after the first bytes are received, and closes it.
    Answers(&'static [u8]),
    /// Does a TLS handshake, and then never sends anything.
    Tls(Arc<ServerConfig>),
    /// Terminates TLS and forwards to another server.
    Forwards(Arc<ServerConfig>, SocketAddr),
}

/// A server on a free loopback port; ends when dropped.
pub struct Listener {
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Listener {
    pub async fn start(manner: Manner) -> Self {
        let addr = loopback(free_port());
        let listener = TcpListener::bind(addr).await.expect("bind a free port");
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner.clone()));
            }
        });
        Self { addr, accepting }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, manner: Manner) {
    match manner {
        Manner::Silent => discard(stream).await,
        Manner::Drops => {}
        Manner::Resets => {
            // Closing a socket with unread bytes sends a reset.
            drop(stream.peek(&mut [0; 1]).await);
        }
        Manner::Answers(answer) => {
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                drop(stream.write_all(answer).await);
                drop(stream.shutdown().await);
                discard(stream).await;
            }
        }
        Manner::Tls(config) => {
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                discard(stream).await;
            }
        }
        Manner::Forwards(config, target) => {
            let server = TcpStream::connect(target).await;
            if let (Ok(mut stream), Ok(mut server)) = (TlsAcceptor::from(config).accept(stream).await, server)
            {
                drop(copy_bidirectional(&mut stream, &mut server).await);
            }
        }
    }
}

async fn discard(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}
