//! A network that fails when told to: stands between a client and a broker.

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

/// The most bytes that are read at once.
const PIECE: usize = 16 * 1024;
/// The bytes of OpenWire's KeepAliveInfo; STOMP's heart-beat has one.
const BEAT: usize = 10;
/// How many such pieces are on the way in one direction: many, since most are small, and a long way holds all
/// that was sent into it.
const ON_THE_WAY: usize = 4096;

/// Forwards connections to one address; ends them all when dropped.
pub struct Proxy {
    addr: SocketAddr,
    state: watch::Sender<State>,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    /// Heart-beats that have passed.
    to_target: AtomicU64,
    to_client: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Grows with each cut; a connection lives only under the one it began under.
    cuts: u64,
    silent: bool,
    slow: Slow,
}

/// How slow a network is, in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slow {
    /// How long every byte is on the way.
    pub delay: Duration,
    /// How many bytes pass in a second; all that come, if it is not said.
    pub bytes_per_second: Option<u32>,
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
        let slow = Slow { delay, ..Slow::default() };
        let state = watch::Sender::new(State { slow, ..State::default() });
        let counts = Arc::new(Counts::default());
        let accepting = tokio::spawn(accept(listener, target, state.subscribe(), Arc::clone(&counts)));
        Self { addr, state, counts, accepting }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections it has taken, ever.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// How many heart-beats have passed so far, to the target and to the clients: pieces that are no larger than one.
    pub fn beats(&self) -> (u64, u64) {
        (self.counts.to_target.load(Ordering::Relaxed), self.counts.to_client.load(Ordering::Relaxed))
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

    /// From now on it is so slow; `Slow::default()` is as fast as it can be.
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
    let begun = state.borrow_and_update().cuts;
    // A target that is down looks to the client like one that hangs up.
    let Ok(server) = TcpStream::connect(target).await else { return };
    // What arrives goes on at once: the only delay is the one that was asked for.
    let at_once = client.set_nodelay(true).and(server.set_nodelay(true));
    if at_once.is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = pump(from_client, to_server, state.clone(), &counts.to_target) => {}
        _ = pump(from_server, to_client, state.clone(), &counts.to_client) => {}
        // A cut, or the end of the proxy.
        _ = state.wait_for(|state| state.cuts != begun) => {}
    }
}

/// What is read waits for its time apart from the reading, so that a long way is no narrow one.
async fn pump(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    state: watch::Receiver<State>,
    beats: &AtomicU64,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    let taking = async {
        take(from, sender, &state).await;
        // What has been taken is still on its way.
        pending().await
    };
    tokio::select! {
        written = give(to, receiver, state.clone(), beats) => written,
        never = taking => never,
    }
}

/// Bytes, and when they are due; the end of the connection is none.
type Piece = (Instant, Vec<u8>);

async fn take(mut from: impl AsyncRead + Unpin, pieces: mpsc::Sender<Piece>, state: &watch::Receiver<State>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let due = Instant::now() + state.borrow().slow.delay;
        let piece = (due, buffer[..read].to_vec());
        // An error means that who writes has given up.
        if pieces.send(piece).await.is_err() || read == 0 {
            return;
        }
    }
}

async fn give(
    mut to: impl AsyncWrite + Unpin,
    mut pieces: mpsc::Receiver<Piece>,
    mut state: watch::Receiver<State>,
    beats: &AtomicU64,
) -> io::Result<()> {
    while let Some((due, piece)) = pieces.recv().await {
        sleep_until(due).await;
        // Not even the end of a connection passes while it is silent.
        state.wait_for(|state| !state.silent).await.map_err(io::Error::other)?;
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

    #[tokio::test]
    async fn is_as_slow_as_it_is_told() {
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
        // The first piece passes at once, so the last of it is waited for twice, once in each direction.
        assert!(ping(4 * PIECE).await >= Duration::from_millis(300));
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
