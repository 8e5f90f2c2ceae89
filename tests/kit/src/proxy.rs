//! Simulates a network that fails on command, between a client and a broker.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::ports::{free_port, loopback};

const PIECE: usize = 16 * 1024;
/// The size of OpenWire's KeepAliveInfo. STOMP's heart-beat is one byte.
const BEAT: usize = 10;
/// How many pieces can be in transit in one direction. There are many, because most are small and a long
/// delay keeps all sent pieces in transit.
const IN_TRANSIT: usize = 4096;

/// Forwards connections to one address; closes them all when dropped.
pub struct Proxy {
    addr: SocketAddr,
    state: watch::Sender<State>,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    /// Forwarded heart-beats.
    to_target: AtomicU64,
    to_client: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Increases with each cut. A connection ends when this value changes.
    cuts: u64,
    /// Increases with each call of [`Proxy::half_close`].
    half_closes: u64,
    /// For each [`Direction`].
    silent: [bool; 2],
    slow: Slow,
}

/// The way of bytes through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToTarget,
    ToClient,
}

/// The delay and the bandwidth of a network, in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slow {
    /// The delay of every byte.
    pub delay: Duration,
    /// The bandwidth; `None` is unlimited.
    pub bytes_per_second: Option<u32>,
}

impl Proxy {
    /// Listens on a free loopback port.
    pub async fn start(target: SocketAddr) -> Self {
        Self::start_at(loopback(free_port()), target).await
    }

    /// Listens at `addr`, for a server that advertises this address to its clients.
    pub async fn start_at(addr: SocketAddr, target: SocketAddr) -> Self {
        Self::delayed_at(addr, target, Duration::ZERO).await
    }

    /// Listens at `addr` and delays every byte in each direction, however many are in transit.
    pub async fn delayed_at(addr: SocketAddr, target: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind(addr).await.expect("bind a free port");
        let slow = Slow { delay, ..Slow::default() };
        let state = watch::Sender::new(State { slow, ..State::default() });
        let counts = Arc::new(Counts::default());
        let accepting = tokio::spawn(accept(listener, target, state.subscribe(), Arc::clone(&counts)));
        Self { addr, state, counts, accepting }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The number of connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// The number of heart-beats forwarded so far, to the target and to the clients. Every piece that is not
    /// larger than a heart-beat counts.
    pub fn beats(&self) -> (u64, u64) {
        (self.counts.to_target.load(Ordering::Relaxed), self.counts.to_client.load(Ordering::Relaxed))
    }

    /// Closes all connections; new ones are accepted.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Forwards nothing from now on, in either direction. Every connection stays open.
    pub fn silence(&self) {
        self.state.send_modify(|state| state.silent = [true; 2]);
    }

    /// Forwards nothing in this direction from now on. Every connection stays open.
    pub fn silence_one_way(&self, direction: Direction) {
        self.state.send_modify(|state| state.silent[direction as usize] = true);
    }

    /// Undoes [`silence`](Self::silence) and [`silence_one_way`](Self::silence_one_way): forwards what was held
    /// back.
    pub fn resume(&self) {
        self.state.send_modify(|state| state.silent = [false; 2]);
    }

    /// Ends all connections for the target only. Their clients hear nothing of it, and nothing more; what they
    /// send is dropped. New connections are forwarded. A [`cut`](Self::cut) ends the rest.
    pub fn half_close(&self) {
        self.state.send_modify(|state| state.half_closes += 1);
    }

    /// Sets the delay and the bandwidth from now on; `Slow::default()` has no limits.
    pub fn slow(&self, slow: Slow) {
        self.state.send_modify(|state| state.slow = slow);
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
    counts: Arc<Counts>,
) {
    while let Ok((client, _)) = listener.accept().await {
        counts.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(forward(client, target, state.clone(), Arc::clone(&counts)));
    }
}

async fn forward(
    client: TcpStream,
    target: SocketAddr,
    mut state: watch::Receiver<State>,
    counts: Arc<Counts>,
) {
    let (begun, half_closes) = {
        let state = state.borrow_and_update();
        (state.cuts, state.half_closes)
    };
    // If the target is down, the client sees a closed connection.
    let Ok(server) = TcpStream::connect(target).await else { return };
    // Forward at once: the only delay is the configured one.
    let at_once = client.set_nodelay(true).and(server.set_nodelay(true));
    if at_once.is_err() {
        return;
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut half_closed = state.clone();
    tokio::select! {
        _ = relay(&mut from_client, to_server, Direction::ToTarget, state.clone(), &counts.to_target) => return,
        _ = relay(from_server, &mut to_client, Direction::ToClient, state.clone(), &counts.to_client) => return,
        // A cut, or the proxy was dropped.
        _ = state.wait_for(|state| state.cuts != begun) => return,
        _ = half_closed.wait_for(|state| state.half_closes != half_closes) => {}
    }
    // Both halves to the server are dropped by now.
    let mut nowhere = tokio::io::sink();
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut nowhere) => {}
        _ = state.wait_for(|state| state.cuts != begun) => {}
    }
}

/// Reads and writes in separate futures, so that a long delay does not limit the bandwidth.
async fn relay(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    direction: Direction,
    state: watch::Receiver<State>,
    beats: &AtomicU64,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(IN_TRANSIT);
    let reading = async {
        read_pieces(from, sender, &state).await;
        // The pieces that were read are still in transit.
        pending().await
    };
    tokio::select! {
        written = write_pieces(to, receiver, direction, state.clone(), beats) => written,
        never = reading => never,
    }
}

/// Bytes, and when they are due. Empty bytes mean the end of the connection.
type Piece = (Instant, Vec<u8>);

async fn read_pieces(
    mut from: impl AsyncRead + Unpin,
    pieces: mpsc::Sender<Piece>,
    state: &watch::Receiver<State>,
) {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let due = Instant::now() + state.borrow().slow.delay;
        let piece = (due, buffer[..read].to_vec());
        // An error means that the writer has ended.
        if pieces.send(piece).await.is_err() || read == 0 {
            return;
        }
    }
}

async fn write_pieces(
    mut to: impl AsyncWrite + Unpin,
    mut pieces: mpsc::Receiver<Piece>,
    direction: Direction,
    mut state: watch::Receiver<State>,
    beats: &AtomicU64,
) -> io::Result<()> {
    while let Some((due, piece)) = pieces.recv().await {
        sleep_until(due).await;
        // While the proxy is silent, it does not even forward the end of a connection.
        state.wait_for(|state| !state.silent[direction as usize]).await.map_err(io::Error::other)?;
        if piece.is_empty() {
            return Ok(());
        }
        to.write_all(&piece).await?;
        if piece.len() <= BEAT {
            beats.fetch_add(1, Ordering::Relaxed);
        }
        let rate = state.borrow().slow.bytes_per_second;
        if let Some(rate) = rate {
            sleep(Duration::from_secs_f64(piece.len() as f64 / f64::from(rate))).await;
        }
    }
    Ok(())
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
    async fn the_proxy_forwards_falls_silent_resumes_and_cuts() {
        let proxy = Proxy::start(echo().await).await;
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let mut answer = [0; 4];
        client.write_all(b"ping").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();

        proxy.silence();
        client.write_all(b"pong").await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(100), client.read(&mut answer)).await;
        assert!(silence.is_err(), "bytes were forwarded");
        proxy.resume();
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"pong");

        proxy.cut();
        assert_eq!(client.read(&mut answer).await.unwrap_or(0), 0);
        assert_eq!(proxy.connections(), 1);
        TcpStream::connect(proxy.addr()).await.unwrap().write_all(b"ping").await.unwrap();
    }

    /// Everything arrives, in order, and after the delay.
    #[tokio::test]
    async fn a_delay_applies_to_all_bytes_alike() {
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
        assert!(begun.elapsed() >= delay * 2, "a round trip in {:?}", begun.elapsed());
        assert_eq!(answer, *b"ping".repeat(40));
    }

    #[tokio::test]
    async fn the_proxy_has_the_configured_delay_and_bandwidth() {
        let proxy = Proxy::start(echo().await).await;
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let mut ping = async |bytes: usize| {
            let begun = Instant::now();
            client.write_all(&vec![7; bytes]).await.unwrap();
            client.read_exact(&mut vec![0; bytes]).await.unwrap();
            begun.elapsed()
        };
        ping(4).await;
        proxy.slow(Slow { delay: Duration::from_millis(30), bytes_per_second: None });
        assert!(ping(4).await >= Duration::from_millis(60));
        proxy.slow(Slow { bytes_per_second: Some(100_000), ..Slow::default() });
        // The first piece is forwarded at once, so only the later pieces add time, once in each direction.
        assert!(ping(4 * PIECE).await >= Duration::from_millis(300));
    }

    #[tokio::test]
    async fn one_direction_can_be_silent() {
        let listener = TcpListener::bind(loopback(free_port())).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();

        proxy.silence_one_way(Direction::ToClient);
        client.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).await.unwrap();
        server.write_all(&bytes).await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(100), client.read(&mut bytes)).await;
        assert!(silence.is_err(), "bytes were forwarded");
        proxy.resume();
        client.read_exact(&mut bytes).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_of_a_half_closed_connection_hears_nothing_until_a_cut() {
        let listener = TcpListener::bind(loopback(free_port())).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();

        proxy.half_close();
        let mut byte = [0; 1];
        assert_eq!(server.read(&mut byte).await.unwrap_or(0), 0, "the target sees the end");
        client.write_all(b"ping").await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(100), client.read(&mut byte)).await;
        assert!(silence.is_err(), "the client sees the end");
        TcpStream::connect(proxy.addr()).await.unwrap().write_all(b"a").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.read_exact(&mut byte).await.unwrap();
        proxy.cut();
        assert_eq!(client.read(&mut byte).await.unwrap_or(0), 0);
    }

    /// This keeps the session of a killed client open at the broker, which is not notified.
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
        assert!(silence.is_err(), "the end was forwarded");
        proxy.cut();
        assert_eq!(server.read(&mut nothing).await.unwrap_or(0), 0);
    }
}
