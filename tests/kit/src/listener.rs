//! Small servers that are no brokers: what may listen at an address that a person has mistyped.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::ports::{free_port, loopback};

/// What a server does with each connection.
#[derive(Clone)]
pub enum Manner {
    /// It accepts it and says nothing, ever.
    Silent,
    /// It ends it at once.
    Drops,
    /// It resets it as soon as something has come.
    Resets,
    /// It sends this once something has come, and ends it.
    Answers(&'static [u8]),
    /// It speaks TLS, and inside it says nothing.
    Tls(Arc<ServerConfig>),
    /// It speaks TLS, and what is inside goes to and comes from another server.
    Forwards(Arc<ServerConfig>, SocketAddr),
}

/// A server on a free loopback port; it ends when dropped.
pub struct Listener {
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Listener {
    /// Starts it.
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

    /// Where it listens.
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
            // What is unread when a socket is closed makes it a reset.
            drop(stream.peek(&mut [0; 1]).await);
        }
        Manner::Answers(answer) => {
            let mut question = [0; 4096];
            if stream.read(&mut question).await.is_ok_and(|read| read > 0) {
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
