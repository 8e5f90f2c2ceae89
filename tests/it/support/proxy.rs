//! A network that fails when told to: stands between a client and a broker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ports::{free_port, loopback};

/// Forwards connections to one address; ends them all when dropped.
pub struct Proxy {
    addr: SocketAddr,
    state: watch::Sender<State>,
    connections: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Grows with each cut; a connection lives only under the one it began under.
    cuts: u64,
    silent: bool,
}

impl Proxy {
    /// Listens on a free loopback port.
    pub async fn start(target: SocketAddr) -> Self {
        Self::start_at(loopback(free_port()), target).await
    }

    /// Listens at `addr`: for a server that sends its clients where it has been told that the proxy is.
    pub async fn start_at(addr: SocketAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("bind a free port");
        let state = watch::Sender::new(State::default());
        let connections = Arc::new(AtomicU64::new(0));
        let accepting = tokio::spawn(accept(listener, target, state.subscribe(), Arc::clone(&connections)));
        Self { addr, state, connections, accepting }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections it has taken, ever.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Ends all connections; new ones are welcome.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// From now on nothing passes, in either direction, while every connection stays open.
    pub fn silence(&self) {
        self.state.send_modify(|state| state.silent = true);
    }

    /// Undoes [`silence`](Self::silence): what was held back passes.
    pub fn resume(&self) {
        self.state.send_modify(|state| state.silent = false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Receiver<State>,
    connections: Arc<AtomicU64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(forward(client, target, state.clone()));
    }
}

async fn forward(client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let begun = state.borrow_and_update().cuts;
    // A target that is down looks to the client like one that hangs up.
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = pump(from_client, to_server, state.clone()) => {}
        _ = pump(from_server, to_client, state.clone()) => {}
        // A cut, or the end of the proxy.
        _ = state.wait_for(|state| state.cuts != begun) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        // Not even the end of a connection passes while it is silent.
        state.wait_for(|state| !state.silent).await.map_err(io::Error::other)?;
        match read? {
            0 => return Ok(()),
            read => to.write_all(&buffer[..read]).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(loopback(free_port())).await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        addr
    }

    #[tokio::test]
    async fn forwards_falls_silent_resumes_and_cuts() {
        let proxy = Proxy::start(echo().await).await;
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let mut answer = [0; 4];
        client.write_all(b"ping").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();

        proxy.silence();
        client.write_all(b"pong").await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(100), client.read(&mut answer)).await;
        assert!(silence.is_err(), "something passed");
        proxy.resume();
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"pong");

        proxy.cut();
        assert_eq!(client.read(&mut answer).await.unwrap_or(0), 0);
        assert_eq!(proxy.connections(), 1);
        TcpStream::connect(proxy.addr()).await.unwrap().write_all(b"ping").await.unwrap();
    }

    /// What keeps the session of a killed client alive at the broker: nothing tells it.
    #[tokio::test]
    async fn while_silent_even_the_end_of_a_connection_is_held_back() {
        let listener = TcpListener::bind(loopback(free_port())).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let client = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();

        proxy.silence();
        drop(client);
        let mut nothing = [0; 1];
        let silence = tokio::time::timeout(Duration::from_millis(100), server.read(&mut nothing)).await;
        assert!(silence.is_err(), "the end passed");
        proxy.cut();
        assert_eq!(server.read(&mut nothing).await.unwrap_or(0), 0);
    }
}
