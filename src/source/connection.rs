//! One connection to a broker: a socket, the session it carries, and nothing that waits for a sink (I7).
//!
//! Messages go to the pump through a bounded channel. While it is full, or the budget is used up, the
//! socket is not read; heart-beats and acknowledgements go on all the same.

use std::collections::VecDeque;
use std::future::ready;
use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Incoming;
use super::config::{Endpoint, SourceSettings};
use super::error::SourceError;
use super::protocol::read_buffer::CHUNK;
use super::protocol::session::{Progress, Session};
use crate::budget::Budget;
use crate::event::SessionId;
use crate::protocol_guess::{FirstBytes, Remembering};
use crate::telemetry::counters::SubscriptionCounters;
use crate::tls::{self, TlsError};

/// How long the broker may take to let go of a connection that ends in trouble.
const PARTING: Duration = Duration::from_secs(2);

/// A connected socket, with or without TLS.
pub trait BrokerStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> BrokerStream for S {}

/// Connects to `endpoint`, each step within the time that the settings give. What is read first from the stream
/// will be in `first`, too.
///
/// # Errors
/// Unreachable, or TLS failed.
pub async fn connect(
    endpoint: &Endpoint,
    settings: &SourceSettings,
    first: &FirstBytes,
) -> Result<Box<dyn BrokerStream>, SourceError> {
    let allowed = settings.connect_timeout;
    let unreachable = |detail: String| SourceError::Unreachable { endpoint: endpoint.clone(), detail };
    let late = || format!("no connection within {} s", allowed.as_secs());
    let tcp = timeout(allowed, TcpStream::connect((endpoint.host.as_str(), endpoint.port)))
        .await
        .map_err(|_| unreachable(late()))?
        .map_err(|error| unreachable(error.to_string()))?;
    keep_alive(&tcp).map_err(|error| unreachable(error.to_string()))?;
    if !endpoint.tls {
        return Ok(Box::new(Remembering::new(tcp, first)));
    }
    match tls::connect(tcp, &endpoint.host, &settings.tls_options(), allowed).await {
        Ok(stream) => Ok(Box::new(Remembering::new(stream, first))),
        Err(error) => Err(SourceError::Tls { endpoint: endpoint.clone(), error }),
    }
}

/// Without heart-beats only the kernel can notice a dead broker.
fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    SockRef::from(tcp).set_tcp_keepalive(&probes)
}

/// What a connection needs from the link.
pub(super) struct ConnectionHandles<'a> {
    pub(super) id: SessionId,
    pub(super) incoming: &'a mpsc::Sender<Incoming>,
    pub(super) acks: &'a mut watch::Receiver<(SessionId, u64)>,
    pub(super) close: &'a CancellationToken,
    pub(super) budget: &'a Budget,
    pub(super) counters: &'a SubscriptionCounters,
    /// The id of the last message that came, over this connection or one before it; empty if none has.
    pub(super) last_message: &'a mut String,
    /// How long messages received before an error may take to be settled and acknowledged.
    pub(super) grace: Duration,
    /// Called once the broker has confirmed the subscription.
    pub(super) on_subscribed: &'a (dyn Fn() + Sync),
    /// Cancelled once the session is to end, which may wait for what it has brought.
    pub(super) ending: &'a CancellationToken,
    /// Set at the end: whether the broker knows every acknowledgement of this session.
    pub(super) is_confirmed: &'a mut bool,
}

/// Carries `session` over `stream` until it is closed on our wish (`Ok`) or ends in trouble.
///
/// # Errors
/// What ended it.
pub(super) async fn run_session(
    session: Box<dyn Session>,
    stream: Box<dyn BrokerStream>,
    wiring: ConnectionHandles<'_>,
) -> Result<(), SourceError> {
    let (read, write) = split(stream);
    let mut connection = BrokerConnection {
        session,
        wiring,
        read,
        write,
        writing: Vec::new(),
        written: 0,
        unflushed: false,
        pending: VecDeque::new(),
        subscribed: false,
        brought: false,
        unread: false,
        closing: false,
        ending: None,
        handed: 0,
        acked: 0,
        said: 0,
        counted: 0,
        goodbye: false,
    };
    connection.run().await
}

struct BrokerConnection<'a> {
    session: Box<dyn Session>,
    wiring: ConnectionHandles<'a>,
    read: ReadHalf<Box<dyn BrokerStream>>,
    write: WriteHalf<Box<dyn BrokerStream>>,
    writing: Vec<u8>,
    written: usize,
    unflushed: bool,
    /// What the pump has not had room for yet; while there is any, nothing is read.
    pending: VecDeque<Incoming>,
    /// Messages may come.
    subscribed: bool,
    /// Messages have come.
    brought: bool,
    /// The session has not gone through all that was read yet.
    unread: bool,
    closing: bool,
    /// The trouble that ends this session, and when at the latest.
    ending: Option<(SourceError, Instant)>,
    /// The positions of the last message that the pump was handed, and that it has acknowledged.
    handed: u64,
    acked: u64,
    /// Up to where the broker knows what is acknowledged when it has read what is being written.
    said: u64,
    /// Up to where it has counted as acknowledged.
    counted: u64,
    /// The broker has confirmed our goodbye.
    goodbye: bool,
}

impl BrokerConnection<'_> {
    async fn run(&mut self) -> Result<(), SourceError> {
        loop {
            self.gather_output();
            if let Some(outcome) = self.finished() {
                match outcome {
                    Ok(()) => {
                        *self.wiring.is_confirmed = true;
                        self.flush_after_disconnect().await;
                    }
                    Err(_) => {
                        let is_settled = self.session.outstanding() == 0;
                        *self.wiring.is_confirmed = self.disconnect().await && is_settled;
                    }
                }
                return outcome;
            }
            // Until messages may come, the broker's answers must be heard whatever else is on the way.
            let full = self.subscribed && !self.wiring.budget.has_room();
            // While closing everything is read and discarded, until the broker has confirmed it.
            let taking = self.ending.is_none() && (self.closing || (self.pending.is_empty() && !full));
            let reading = taking && !self.unread;
            self.session.reading(Instant::now(), reading);
            let writes = self.written < self.writing.len();
            let ends = self.ending.as_ref().map(|(_, ends)| *ends);
            let deadline =
                ends.into_iter().chain([self.session.deadline()]).min().unwrap_or_else(Instant::now);
            // Every arm is cancel-safe, and none waits inside: what finishes comes before what starts.
            tokio::select! {
                biased;
                changed = self.wiring.acks.changed() => match changed {
                    Ok(()) => self.ack(),
                    Err(_) => return Err(abandoned()),
                },
                () = self.wiring.close.cancelled(), if !self.closing => self.close(),
                sent = send(&mut self.write, &self.writing[self.written..]), if writes || self.unflushed => {
                    self.sent(sent, writes)?;
                }
                room = self.wiring.incoming.reserve(), if !self.pending.is_empty() => match room {
                    Ok(room) => if let Some(incoming) = self.pending.pop_front() {
                        if let Incoming::Messages(messages) = &incoming {
                            self.handed += messages.len() as u64;
                        }
                        room.send(incoming);
                    },
                    Err(_) => return Err(abandoned()),
                },
                // With nothing on the way but what is unread, only reading on can make room.
                () = ready(()), if self.unread && (taking || self.is_idle()) => self.advance()?,
                read = self.read.read_buf(self.session.input()), if reading => self.read(read)?,
                () = self.wiring.budget.room(), if full && !self.closing && self.ending.is_none() => {}
                () = sleep_until(deadline) => self.tick()?,
            }
        }
    }

    /// Whether this session is over, and how.
    fn finished(&mut self) -> Option<Result<(), SourceError>> {
        if self.goodbye {
            return Some(Ok(()));
        }
        let (_, ends) = self.ending.as_ref()?;
        let settled = self.session.outstanding() == 0 && self.pending.is_empty();
        let sent = self.written == self.writing.len() && !self.unflushed;
        if (settled && sent) || Instant::now() >= *ends {
            return self.ending.take().map(|(trouble, _)| Err(trouble));
        }
        None
    }

    /// Leaves in such a way that the broker reads the last acknowledgement: a socket that is closed while
    /// bytes wait in it is reset, and a reset throws away what the other side has not read yet.
    /// Whether the broker has closed its side, in time: then it has read everything.
    async fn disconnect(&mut self) -> bool {
        self.session.close(Instant::now(), self.handed);
        let mut rest = self.unsent();
        let parting = async {
            self.write.write_all(&rest).await?;
            self.write.shutdown().await?;
            loop {
                rest.clear();
                rest.reserve(CHUNK);
                if self.read.read_buf(&mut rest).await? == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        // One that does not let go in time is dropped all the same: what it has not read comes again.
        timeout(PARTING, parting).await.is_ok_and(|closed| closed.is_ok())
    }

    /// What the session says once its goodbye is confirmed; nothing depends on it.
    async fn flush_after_disconnect(&mut self) {
        let rest = self.unsent();
        let said = async {
            self.write.write_all(&rest).await?;
            self.write.flush().await
        };
        let _said = timeout(PARTING, said).await;
    }

    /// What the session says next waits there until the broker has taken what it said before.
    fn gather_output(&mut self) {
        if self.written == self.writing.len() {
            self.count_acked();
            self.writing.clear();
            self.written = 0;
            self.session.take_output(&mut self.writing);
            self.said = self.session.known();
            if self.writing.is_empty() {
                self.count_acked();
            }
        }
    }

    /// Counts only what the broker can know of.
    fn count_acked(&mut self) {
        self.wiring.counters.acked.add(self.said.saturating_sub(self.counted));
        self.counted = self.counted.max(self.said);
    }

    /// All that the broker has not taken.
    fn unsent(&mut self) -> Vec<u8> {
        let mut rest = self.writing.split_off(self.written);
        self.session.take_output(&mut rest);
        rest
    }

    fn ack(&mut self) {
        let (id, through) = *self.wiring.acks.borrow_and_update();
        if id == self.wiring.id && !self.closing && through > self.acked {
            self.session.ack(Instant::now(), through);
            self.acked = through;
        }
    }

    fn close(&mut self) {
        self.ack();
        self.closing = true;
        self.pending.clear();
        // Whoever closes has settled what it took; the rest of what was handed over it has discarded.
        self.session.close(Instant::now(), self.acked);
    }

    fn sent(&mut self, sent: io::Result<usize>, wrote: bool) -> Result<(), SourceError> {
        let sent = sent.map_err(closed)?;
        if wrote && sent == 0 {
            return Err(SourceError::Closed("nothing more can be sent".to_owned()));
        }
        self.written += sent;
        self.unflushed = wrote;
        Ok(())
    }

    fn read(&mut self, read: io::Result<usize>) -> Result<(), SourceError> {
        if read.map_err(closed)? == 0 {
            return Err(SourceError::Closed("the broker ended it".to_owned()));
        }
        self.advance()
    }

    fn advance(&mut self) -> Result<(), SourceError> {
        let mut progress = Progress::default();
        let outcome = self.session.advance(Instant::now(), &mut progress);
        if let Some(last) = progress.messages.last() {
            self.brought = true;
            self.wiring.last_message.clear();
            self.wiring.last_message.push_str(&String::from_utf8_lossy(&last.id));
        }
        self.take(progress);
        outcome.or_else(|trouble| self.end(self.blame(trouble)))
    }

    /// Names the message that came before the trouble. What can't be understood may be the very next one, also over
    /// a new connection; what the broker complains of may be one that came over this connection.
    fn blame(&self, trouble: SourceError) -> SourceError {
        let may_be_to_blame = match trouble {
            SourceError::Broker { .. } => self.brought,
            _ => self.subscribed,
        };
        if may_be_to_blame { trouble.after(self.wiring.last_message) } else { trouble }
    }

    fn is_idle(&self) -> bool {
        self.ending.is_none() && self.pending.is_empty() && self.session.outstanding() == 0
    }

    fn take(&mut self, progress: Progress) {
        self.goodbye |= progress.closed;
        self.unread = progress.unread;
        if progress.subscribed {
            self.subscribed = true;
            (self.wiring.on_subscribed)();
            self.pending.push_back(Incoming::Session(self.wiring.id));
        }
        if !progress.messages.is_empty() {
            self.wiring.counters.received.add(progress.messages.len() as u64);
            self.wiring.counters.repaired.add(progress.repaired);
            self.pending.push_back(Incoming::Messages(progress.messages));
        }
    }

    fn tick(&mut self) -> Result<(), SourceError> {
        let outcome = self.session.tick(Instant::now());
        match (outcome, self.ending.take()) {
            (Err(_), Some((first, _))) => Err(first),
            (Err(trouble), None) => self.end(trouble),
            (Ok(()), ending) => {
                self.ending = ending;
                Ok(())
            }
        }
    }

    /// Ends the session: at once, or, where the connection still carries acknowledgements, when the
    /// messages received before are settled as far as they can be (D2).
    fn end(&mut self, trouble: SourceError) -> Result<(), SourceError> {
        if self.closing || !trouble.leaves_the_connection_open() {
            return Err(trouble);
        }
        self.ending = Some((trouble, Instant::now() + self.wiring.grace));
        self.wiring.ending.cancel();
        Ok(())
    }
}

/// Writes some of `bytes`, or flushes where there are none. Cancel-safe: it awaits one of the two, once.
async fn send(write: &mut WriteHalf<Box<dyn BrokerStream>>, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() { write.flush().await.map(|()| 0) } else { write.write(bytes).await }
}

fn closed(error: io::Error) -> SourceError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(refused) => SourceError::TlsRefused(refused.clone()),
        None => SourceError::Closed(error.to_string()),
    }
}

fn abandoned() -> SourceError {
    SourceError::Closed("abandoned".to_owned())
}
