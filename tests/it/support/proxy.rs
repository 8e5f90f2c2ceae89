//! A network that fails when told to: stands between a client and a broker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

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
        Self::delayed_at(addr, target, Duration::ZERO).await
    }

    /// The same, far away: every byte arrives so much later, in each direction, however many are on the way.
    pub async fn delayed_at(addr: SocketAddr, target: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind(addr).await.expect("bind a free port");
        let state = watch::Sender::new(State::default());
        let connections = Arc::new(AtomicU64::new(0));
        let way = Way { target, delay, state: state.subscribe() };
        let accepting = tokio::spawn(accept(listener, way, Arc::clone(&connections)));
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

/// What every connection passes.
#[derive(Clone)]
struct Way {
    target: SocketAddr,
    delay: Duration,
    state: watch::Receiver<State>,
}

async fn accept(listener: TcpListener, way: Way, connections: Arc<AtomicU64>) {
    while let Ok((client, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(forward(client, way.clone()));
    }
}

async fn forward(client: TcpStream, mut way: Way) {
    let begun = way.state.borrow_and_update().cuts;
    // A target that is down looks to the client like one that hangs up.
    let Ok(server) = TcpStream::connect(way.target).await else { return };
    // What arrives goes on at once: the only delay is the one that was asked for.
    let at_once = client.set_nodelay(true).and(server.set_nodelay(true));
    if at_once.is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut state = way.state.clone();
    tokio::select! {
        _ = carry(from_client, to_server, &way) => {}
        _ = carry(from_server, to_client, &way) => {}
        // A cut, or the end of the proxy.
        _ = state.wait_for(|state| state.cuts != begun) => {}
    }
}

async fn carry(from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, way: &Way) -> io::Result<()> {
    if way.delay.is_zero() {
        return pump(from, to, way.state.clone()).await;
    }
    // A long way holds whatever is sent into it; this many reads are far more than anybody has in flight.
    let (enter, arrive) = mpsc::channel(4096);
    tokio::try_join!(send_off(from, enter, way.delay, way.state.clone()), deliver(arrive, to)).map(drop)
}

/// When it arrives, and what.
type Piece = (Instant, Vec<u8>);

async fn send_off(
    mut from: impl AsyncRead + Unpin,
    way: mpsc::Sender<Piece>,
    delay: Duration,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    loop {
        let mut buffer = Vec::with_capacity(64 * 1024);
        let read = from.read_buf(&mut buffer).await?;
        state.wait_for(|state| !state.silent).await.map_err(io::Error::other)?;
        // Even the end travels as long as everything else.
        buffer.shrink_to_fit();
        if way.send((Instant::now() + delay, buffer)).await.is_err() || read == 0 {
            return Ok(());
        }
    }
}

async fn deliver(mut way: mpsc::Receiver<Piece>, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some((due, bytes)) = way.recv().await {
        sleep_until(due).await;
        to.write_all(&bytes).await?;
    }
    Ok(())
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

    /// Everything arrives, in order, and not before its time.
    #[tokio::test]
    async fn a_long_way_delays_everything_alike() {
        let delay = Duration::from_millis(100);
        let proxy = Proxy::delayed_at(loopback(free_port()), echo().await, delay).await;
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let mut answer = [0; 40 * 4];
        let begun = Instant::now();
        for _ in 0..40 {
            client.write_all(b"ping").await.unwrap();
            tokio::task::yield_now().await;
        }
        client.read_exact(&mut answer).await.unwrap();
        assert!(begun.elapsed() >= delay * 2, "there and back in {:?}", begun.elapsed());
        assert_eq!(answer, *b"ping".repeat(40));
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
