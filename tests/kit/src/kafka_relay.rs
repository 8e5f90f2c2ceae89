//! Forwards connections to a Kafka and changes its responses on command. It can remove the brokers from a
//! metadata response, as if the controller had fenced the broker, and it can drop or hold back the
//! acknowledgements of records and commits. It can hold back the records and commits too, also when their client dies
//! meanwhile, as a network does whose last bytes come late.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The API keys of the Produce, Metadata and EndTxn requests, and the first version of Metadata with compact arrays
/// (<https://kafka.apache.org/protocol.html>).
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const END_TXN: i16 = 26;
const COMPACT: i16 = 9;

/// How many requests of a connection can be held back: more than a client sends without an answer, which is five
/// with records and a few others.
const WAITING: usize = 64;

/// The requests that are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Those with records.
    Records,
    /// Those that end a transaction.
    Commits,
}

impl Held {
    fn has(self, api_key: i16) -> bool {
        api_key
            == match self {
                Self::Records => PRODUCE,
                Self::Commits => END_TXN,
            }
    }
}

/// Forwards connections to one address until it is dropped.
pub struct Relay {
    orders: Arc<Orders>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Orders {
    hide: AtomicBool,
    swallow: AtomicBool,
    swallow_commits: AtomicBool,
    hold: watch::Sender<bool>,
    /// Which requests wait, and on connections up to which number.
    waiting: watch::Sender<Option<(Held, u64)>>,
    /// The number of connections so far.
    connections: AtomicU64,
    /// The number of requests that were held back, on connections that have not ended.
    held: watch::Sender<u64>,
    /// The number of forwarded requests with records.
    produced: watch::Sender<u64>,
}

impl Relay {
    /// Listens at `addr` and forwards to `target`.
    pub async fn start_at(addr: SocketAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("bind a free port");
        let orders = Arc::<Orders>::default();
        let shared = Arc::clone(&orders);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target, Arc::clone(&shared)));
            }
        });
        Self { orders, accepting }
    }

    /// Removes the brokers from the next metadata response.
    pub fn hide_brokers(&self) {
        self.orders.hide.store(true, Ordering::SeqCst);
    }

    /// Whether that response has not been sent yet.
    pub fn is_hiding(&self) -> bool {
        self.orders.hide.load(Ordering::SeqCst)
    }

    /// Sets whether acknowledgements of records are dropped.
    pub fn swallow_confirmations(&self, swallow: bool) {
        self.orders.swallow.store(swallow, Ordering::SeqCst);
    }

    /// Sets whether acknowledgements of records, and all answers behind them, wait.
    pub fn hold_confirmations(&self, hold: bool) {
        self.orders.hold.send_replace(hold);
    }

    /// Sets whether the answers to commits are dropped.
    pub fn swallow_commits(&self, swallow: bool) {
        self.orders.swallow_commits.store(swallow, Ordering::SeqCst);
    }

    /// Holds back such requests, and all behind them, on the connections that exist now. Those of clients that
    /// die meanwhile are still forwarded after [`release`](Self::release).
    pub fn hold(&self, held: Held) {
        let connections = self.orders.connections.load(Ordering::SeqCst);
        self.orders.waiting.send_replace(Some((held, connections)));
    }

    /// Waits until so many requests are held back.
    pub async fn holds(&self, count: u64) {
        let mut held = self.orders.held.subscribe();
        // The sender lives as long as the relay.
        let _reached = held.wait_for(|held| *held >= count).await;
    }

    /// Forwards what was held back.
    pub fn release(&self) {
        self.orders.waiting.send_replace(None);
    }

    /// Waits until the connections on which something was held back have ended. Before that Kafka has answered
    /// all of it.
    pub async fn released(&self) {
        let mut held = self.orders.held.subscribe();
        // The sender lives as long as the relay.
        let _answered = held.wait_for(|held| *held == 0).await;
    }

    /// Waits until so many requests with records were forwarded.
    pub async fn produced(&self, count: u64) {
        let mut produced = self.orders.produced.subscribe();
        // The sender lives as long as the relay.
        let _reached = produced.wait_for(|produced| *produced >= count).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The pending requests: API key and version, by correlation id.
type Pending = Mutex<HashMap<i32, (i16, i16)>>;

async fn forward(client: TcpStream, target: SocketAddr, orders: Arc<Orders>) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (pending, unanswered) = (Pending::default(), watch::Sender::new(0_u64));
    let requests = requests(from_client, to_server, &orders, &pending, &unanswered);
    let answers = answers(from_server, to_client, &orders, &pending, &unanswered);
    tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
    }
}

/// Forwards requests until the client has ended. If some were held back, then until Kafka has answered them all: the
/// end of the connection would overtake them.
async fn requests(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    orders: &Orders,
    pending: &Pending,
    unanswered: &watch::Sender<u64>,
) -> io::Result<()> {
    let (frames, mut waiting) = mpsc::channel(WAITING);
    let number = orders.connections.fetch_add(1, Ordering::SeqCst) + 1;
    let waits = |waiting: &Option<(Held, u64)>, api_key| {
        waiting.is_some_and(|(held, last)| held.has(api_key) && number <= last)
    };
    let mut released = orders.waiting.subscribe();
    let mut held = 0;
    // Also while requests are held back: the system forgets what nobody has read when the client dies.
    let reading = async {
        while let Ok(Some(frame)) = frame(&mut client).await {
            if waits(&orders.waiting.borrow(), short(&frame, 0)) {
                held += 1;
                orders.held.send_modify(|all| *all += 1);
            }
            // The receiver is in the same task.
            let _sent = frames.send(frame).await;
        }
        drop(frames);
    };
    let writing = async {
        while let Some(frame) = waiting.recv().await {
            let request = (short(&frame, 0), short(&frame, 2));
            // The sender lives as long as the relay's orders.
            drop(released.wait_for(|waiting| !waits(waiting, request.0)).await);
            if is_counted(request.0) {
                unanswered.send_modify(|unanswered| *unanswered += 1);
            }
            pending.lock().unwrap().insert(int(&frame, 4), request);
            put(&mut server, &frame).await?;
            if request.0 == PRODUCE {
                orders.produced.send_modify(|produced| *produced += 1);
            }
        }
        io::Result::Ok(())
    };
    let ((), written) = tokio::join!(reading, writing);
    written?;
    if held > 0 {
        let mut unanswered = unanswered.subscribe();
        let _answered = unanswered.wait_for(|unanswered| *unanswered == 0).await;
        orders.held.send_modify(|all| *all -= held);
    }
    Ok(())
}

/// Forwards answers until the server has ended.
async fn answers(
    mut server: impl AsyncRead + Unpin,
    mut client: impl AsyncWrite + Unpin,
    orders: &Orders,
    pending: &Pending,
    unanswered: &watch::Sender<u64>,
) -> io::Result<()> {
    let mut hold = orders.hold.subscribe();
    while let Some(frame) = frame(&mut server).await? {
        let request = pending.lock().unwrap().remove(&int(&frame, 0));
        if request.is_some_and(|(api_key, _)| is_counted(api_key)) {
            unanswered.send_modify(|unanswered| *unanswered -= 1);
        }
        if matches!(request, Some((PRODUCE, _))) {
            // The sender lives as long as the relay's orders.
            let _released = hold.wait_for(|hold| !hold).await;
        }
        let forwarded = match request {
            Some((PRODUCE, _)) if orders.swallow.load(Ordering::SeqCst) => Ok(()),
            Some((END_TXN, _)) if orders.swallow_commits.load(Ordering::SeqCst) => Ok(()),
            Some((METADATA, version)) if orders.hide.load(Ordering::SeqCst) => {
                assert!(version >= COMPACT, "the client uses an old version, {version}");
                let forwarded = put(&mut client, &without_brokers(&frame)).await;
                if forwarded.is_ok() {
                    // Only after the response is sent, because a test waits for this flag.
                    orders.hide.store(false, Ordering::SeqCst);
                }
                forwarded
            }
            _ => put(&mut client, &frame).await,
        };
        // The client is dead. `requests` finds its end, behind what is held back.
        drop(forwarded);
    }
    Ok(())
}

/// Whether the end of a connection waits for the answer to such a request, if one was held back.
fn is_counted(api_key: i16) -> bool {
    Held::Records.has(api_key) || Held::Commits.has(api_key)
}

/// The response has the correlation id, tags, the throttle time and then the brokers: id, host, port, rack,
/// tags.
fn without_brokers(answer: &[u8]) -> Vec<u8> {
    const HEAD: usize = 4 + 1 + 4;
    assert_eq!(answer[4], 0, "the response header has tags");
    let mut at = HEAD;
    for _ in 1..varint(answer, &mut at) {
        at += 4;
        skip_text(answer, &mut at);
        at += 4;
        skip_text(answer, &mut at);
        assert_eq!(varint(answer, &mut at), 0, "a broker has tags");
    }
    let none: &[u8] = &[1];
    [&answer[..HEAD], none, &answer[at..]].concat()
}

fn skip_text(bytes: &[u8], at: &mut usize) {
    *at += varint(bytes, at).saturating_sub(1);
}

fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn short(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Reads the next frame without its size; `None` at the end of the connection.
async fn frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let Ok(size) = from.read_u32().await else { return Ok(None) };
    let mut frame = vec![0; size as usize];
    from.read_exact(&mut frame).await?;
    Ok(Some(frame))
}

async fn put(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    to.write_u32(u32::try_from(frame.len()).expect("a frame")).await?;
    to.write_all(frame).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ports::{free_port, loopback};

    /// A request with a body of one byte.
    async fn send(client: &mut TcpStream, api_key: i16, correlation_id: i32) {
        let head = [&api_key.to_be_bytes()[..], &[0, 0], &correlation_id.to_be_bytes(), &[7]].concat();
        put(client, &head).await.unwrap();
    }

    #[tokio::test]
    async fn records_that_are_held_back_outlive_their_client() {
        let listener = TcpListener::bind(loopback(free_port())).await.unwrap();
        let addr = loopback(free_port());
        let relay = Relay::start_at(addr, listener.local_addr().unwrap()).await;
        let mut client = TcpStream::connect(addr).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();

        send(&mut client, METADATA, 1).await;
        assert_eq!(int(&frame(&mut server).await.unwrap().unwrap(), 4), 1);
        relay.hold(Held::Records);
        send(&mut client, PRODUCE, 2).await;
        send(&mut client, PRODUCE, 3).await;
        relay.holds(2).await;
        drop(client);
        let silence = tokio::time::timeout(Duration::from_millis(100), frame(&mut server)).await;
        assert!(silence.is_err(), "the end, or a request, was forwarded");

        relay.release();
        for correlation_id in [2_i32, 3] {
            assert_eq!(int(&frame(&mut server).await.unwrap().unwrap(), 4), correlation_id);
            put(&mut server, &correlation_id.to_be_bytes()).await.unwrap();
        }
        relay.released().await;
        assert_eq!(frame(&mut server).await.unwrap(), None);
    }
}
