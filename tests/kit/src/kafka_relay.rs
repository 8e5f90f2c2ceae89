//! Forwards connections to a Kafka and changes its responses on command. It can remove the brokers from a
//! metadata response, as if the controller had fenced the broker, and it can drop or hold back the
//! acknowledgements of records.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The API keys of the Produce and Metadata requests, and the first version of Metadata with compact arrays
/// (<https://kafka.apache.org/protocol.html>).
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const COMPACT: i16 = 9;

/// Forwards connections to one address until it is dropped.
pub struct Relay {
    orders: Arc<Orders>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Orders {
    hide: AtomicBool,
    swallow: AtomicBool,
    hold: watch::Sender<bool>,
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
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let pending = Pending::default();
    let requests = async {
        while let Some(frame) = frame(&mut from_client).await? {
            let request = (short(&frame, 0), short(&frame, 2));
            pending.lock().unwrap().insert(int(&frame, 4), request);
            put(&mut to_server, &frame).await?;
            if request.0 == PRODUCE {
                orders.produced.send_modify(|produced| *produced += 1);
            }
        }
        Ok(())
    };
    let mut hold = orders.hold.subscribe();
    let answers = async {
        while let Some(frame) = frame(&mut from_server).await? {
            let request = pending.lock().unwrap().remove(&int(&frame, 0));
            if matches!(request, Some((PRODUCE, _))) {
                // The sender lives as long as the relay's orders.
                let _released = hold.wait_for(|hold| !hold).await;
            }
            match request {
                Some((PRODUCE, _)) if orders.swallow.load(Ordering::SeqCst) => {}
                Some((METADATA, version)) if orders.hide.load(Ordering::SeqCst) => {
                    assert!(version >= COMPACT, "the client uses an old version, {version}");
                    put(&mut to_client, &without_brokers(&frame)).await?;
                    // Only after the response is sent, because a test waits for this flag.
                    orders.hide.store(false, Ordering::SeqCst);
                }
                _ => put(&mut to_client, &frame).await?,
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
    }
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
