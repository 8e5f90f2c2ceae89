//! Simulates the network between bridges and broker: it delays, splits, holds back, refuses and resets.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use atdata_bridge::protocol_guess::{FirstBytes, Remembering};
use atdata_bridge::simulator::Simulator;
use atdata_bridge::source::config::{Endpoint, SourceSettings};
use atdata_bridge::source::error::SourceError;
use atdata_bridge::source::network::{BrokerStream, Network};
use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// The most bytes on the way in one direction.
const WINDOW: usize = 64 << 10;

/// Which way bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToBroker,
    ToBridge,
}

/// A network with one broker. Cheap to clone.
#[derive(Clone)]
pub struct SimulatedNetwork(Arc<Mutex<NetworkState>>);

struct NetworkState {
    broker: Arc<Simulator>,
    random: Rng,
    links: Vec<Weak<Mutex<Link>>>,
    /// Nothing arrives this way.
    blocked: [bool; 2],
    refuses: bool,
    longest_delay: Duration,
}

impl SimulatedNetwork {
    pub fn new(broker: Arc<Simulator>, random: Rng) -> Self {
        let longest_delay = Duration::from_millis(2);
        let (links, blocked, refuses) = (Vec::new(), [false; 2], false);
        Self(Arc::new(Mutex::new(NetworkState { broker, random, links, blocked, refuses, longest_delay })))
    }

    fn state(&self) -> MutexGuard<'_, NetworkState> {
        self.0.lock().unwrap()
    }

    fn each_link(&self, change: impl Fn(&mut Link)) {
        self.state().links.retain(|link| {
            let link = link.upgrade();
            if let Some(link) = &link {
                let mut link = link.lock().unwrap();
                change(&mut link);
                link.wake();
            }
            link.is_some()
        });
    }

    /// Ends every connection with an error at both sides.
    pub fn reset(&self) {
        self.each_link(|link| link.is_reset = true);
    }

    /// Lets nothing arrive any more on the connections that there are, without telling either side.
    pub fn forget_connections(&self) {
        self.each_link(|link| link.ways.iter_mut().for_each(|way| way.is_dead = true));
    }

    /// Lets nothing arrive this way, or everything again.
    pub fn block(&self, way: Way, blocked: bool) {
        self.state().blocked[way as usize] = blocked;
        self.each_link(|link| link.ways[way as usize].is_blocked = blocked);
    }

    /// Refuses new connections, or accepts them again.
    pub fn refuse(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    /// Delays each piece by up to this long.
    pub fn delay(&self, longest: Duration) {
        self.state().longest_delay = longest;
        self.each_link(|link| link.longest_delay = longest);
    }
}

#[async_trait]
impl Network for SimulatedNetwork {
    async fn connect(
        &self,
        endpoint: &Endpoint,
        settings: &SourceSettings,
        first: &FirstBytes,
    ) -> Result<Box<dyn BrokerStream>, SourceError> {
        let unreachable =
            |detail: &str| SourceError::Unreachable { endpoint: endpoint.clone(), detail: detail.to_owned() };
        let (delay, blocked) = {
            let mut state = self.state();
            let longest = state.longest_delay;
            (drawn(&mut state.random, longest), state.blocked != [false; 2])
        };
        if blocked {
            sleep(settings.connect_timeout).await;
            return Err(unreachable("no connection in time"));
        }
        sleep(delay).await;
        let mut state = self.state();
        if state.refuses {
            return Err(unreachable("connection refused"));
        }
        let link = Arc::new(Mutex::new(Link {
            ways: state.blocked.map(OneWay::new),
            is_reset: false,
            random: Rng::with_seed(state.random.u64(..)),
            longest_delay: state.longest_delay,
        }));
        state.links.push(Arc::downgrade(&link));
        let peer = SocketAddr::from(([192, 0, 2, 1], 1024 + (state.links.len() % 60_000) as u16));
        state.broker.serve(End::new(&link, Way::ToBridge), peer);
        Ok(Box::new(Remembering::new(End::new(&link, Way::ToBroker), first)))
    }
}

fn drawn(random: &mut Rng, longest: Duration) -> Duration {
    Duration::from_micros(random.u64(0..=longest.as_micros() as u64))
}

/// One connection.
struct Link {
    ways: [OneWay; 2],
    is_reset: bool,
    random: Rng,
    longest_delay: Duration,
}

impl Link {
    fn wake(&mut self) {
        self.ways.iter_mut().for_each(OneWay::wake);
    }
}

/// The bytes that flow one way.
struct OneWay {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    is_blocked: bool,
    /// Blocked for ever.
    is_dead: bool,
    /// The writer has ended this way.
    is_finished: bool,
    /// The reader is gone.
    is_abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl OneWay {
    fn new(is_blocked: bool) -> Self {
        let (pieces, reader, writer) = (VecDeque::new(), None, None);
        let (is_dead, is_finished, is_abandoned) = (false, false, false);
        Self { pieces, bytes: 0, is_blocked, is_dead, is_finished, is_abandoned, reader, writer }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// One end of a connection.
struct End {
    link: Arc<Mutex<Link>>,
    /// The way in which it writes.
    writes: usize,
    reads: usize,
    due: Option<Pin<Box<Sleep>>>,
}

impl End {
    fn new(link: &Arc<Mutex<Link>>, writes: Way) -> Self {
        let writes = writes as usize;
        Self { link: Arc::clone(link), writes, reads: 1 - writes, due: None }
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = Arc::clone(&self.link);
        loop {
            let mut link = shared.lock().unwrap();
            let Link { ways, is_reset, random, .. } = &mut *link;
            let way = &mut ways[self.reads];
            if *is_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            way.reader = Some(context.waker().clone());
            if way.is_blocked || way.is_dead {
                return Poll::Pending;
            }
            let due = match way.pieces.front_mut() {
                Some((due, piece)) if *due <= Instant::now() => {
                    let most = piece.len().min(buffer.remaining());
                    // Now and then only a part of what could be read.
                    let count = if random.u8(0..4) == 0 { random.usize(1..=most) } else { most };
                    buffer.put_slice(&piece[..count]);
                    piece.drain(..count);
                    if piece.is_empty() {
                        way.pieces.pop_front();
                    }
                    way.bytes -= count;
                    way.writer.take().into_iter().for_each(Waker::wake);
                    return Poll::Ready(Ok(()));
                }
                Some((due, _)) => *due,
                None if way.is_finished => return Poll::Ready(Ok(())),
                None => return Poll::Pending,
            };
            drop(link);
            let timer = self.due.insert(Box::pin(tokio::time::sleep_until(due)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut link = self.link.lock().unwrap();
        let Link { ways, is_reset, random, longest_delay } = &mut *link;
        let way = &mut ways[self.writes];
        let is_cut_off = way.is_blocked || way.is_dead;
        if *is_reset || (way.is_abandoned && !is_cut_off) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if way.bytes >= WINDOW {
            way.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(WINDOW - way.bytes);
        let earliest = way.pieces.back().map_or_else(Instant::now, |(due, _)| *due);
        let due = earliest.max(Instant::now() + drawn(random, *longest_delay));
        way.pieces.push_back((due, bytes[..count].to_vec()));
        way.bytes += count;
        way.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.link.lock().unwrap();
        link.ways[self.writes].is_finished = true;
        link.ways[self.writes].wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut link = self.link.lock().unwrap();
        link.ways[self.writes].is_finished = true;
        link.ways[self.reads].is_abandoned = true;
        link.wake();
    }
}
