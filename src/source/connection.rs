//! Runs one connection to a broker: a socket and its session. Nothing here waits for a sink (I7).
//!
//! Messages go to the dispatcher through a bounded channel. While it is full, or the budget is used up, the
//! socket is not read; heart-beats and acknowledgements go on all the same.

use std::collections::VecDeque;
use std::future::ready;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Incoming;
use super::error::SourceError;
use super::network::BrokerStream;
use super::protocol::read_buffer::CHUNK;
use super::protocol::session::{Session, SessionProgress};
use crate::budget::Budget;
use crate::event::SessionId;
use crate::telemetry::counters::SubscriptionCounters;
use crate::tls::TlsError;

/// How long the broker may take to close a connection that ends with an error.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a connection needs from the supervisor.
pub(super) struct ConnectionHandles<'a> {
    pub(super) id: SessionId,
    pub(super) incoming: &'a mpsc::Sender<Incoming>,
    pub(super) acks: &'a mut watch::Receiver<(SessionId, u64)>,
    pub(super) close: &'a CancellationToken,
    pub(super) budget: &'a Budget,
    pub(super) counters: &'a SubscriptionCounters,
    /// The id of the last message received over this connection or an earlier one; empty if there is none.
    pub(super) last_message: &'a mut String,
    /// How long messages received before an error may take to be settled and acknowledged.
    pub(super) grace: Duration,
    /// Called with [`Session::silence`] once the broker has confirmed the subscription, or the login if no more is asked.
    pub(super) on_subscribed: &'a (dyn Fn(Option<Duration>) + Sync),
    /// Cancelled once the session is going to end. The session may still wait until its messages are settled.
    pub(super) ending: &'a CancellationToken,
    /// Set at the end: whether the broker knows every acknowledgement of this session.
    pub(super) is_confirmed: &'a mut bool,
}

/// Runs `session` over `stream` until we close it (`Ok`) or it ends with an error.
///
/// # Errors
/// The reason why it ended.
pub(super) async fn run_session(
    session: Box<dyn Session>,
    stream: Box<dyn BrokerStream>,
    handles: ConnectionHandles<'_>,
) -> Result<(), SourceError> {
    let (read, write) = split(stream);
    let mut connection = BrokerConnection {
        session,
        handles,
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
        disconnected: false,
    };
    connection.run().await
}

struct BrokerConnection<'a> {
    session: Box<dyn Session>,
    handles: ConnectionHandles<'a>,
    read: ReadHalf<Box<dyn BrokerStream>>,
    write: WriteHalf<Box<dyn BrokerStream>>,
    writing: Vec<u8>,
    written: usize,
    unflushed: bool,
    /// What the dispatcher had no room for yet. While there is any, nothing is read.
    pending: VecDeque<Incoming>,
    /// The broker has confirmed the subscription, so messages may come.
    subscribed: bool,
    /// At least one message has come.
    brought: bool,
    /// The session has not processed all that was read yet.
    unread: bool,
    closing: bool,
    /// The error that ends this session, and the latest time to end it.
    ending: Option<(SourceError, Instant)>,
    /// Positions of the last message sent to the dispatcher (`handed`) and of the last one acknowledged by
    /// it.
    handed: u64,
    acked: u64,
    /// The position that the broker knows as acknowledged when it has read what is being written.
    said: u64,
    /// The position up to which messages are counted as acknowledged.
    counted: u64,
    /// The broker has confirmed the disconnect.
    disconnected: bool,
}

impl BrokerConnection<'_> {
    async fn run(&mut self) -> Result<(), SourceError> {
        loop {
            self.gather_output();
            if let Some(outcome) = self.finished() {
                *self.handles.is_confirmed = self.leave(&outcome).await;
                return outcome;
            }
            // Before messages may come, the broker's answers must be read, even if other sessions have used
            // up the budget.
            let full = self.subscribed && !self.handles.budget.has_room();
            // While closing, everything is read and discarded until the broker has confirmed the disconnect.
            let taking = self.ending.is_none() && (self.closing || (self.pending.is_empty() && !full));
            let reading = taking && !self.unread;
            self.session.reading(Instant::now(), reading);
            let writes = self.written < self.writing.len();
            let deadline = self.session.deadline();
            let deadline = self.ending.as_ref().map_or(deadline, |(_, ends)| deadline.min(*ends));
            // Every arm is cancel-safe, and none waits inside. The order of the arms prefers work that
            // finishes something to work that starts something.
            tokio::select! {
                biased;
                changed = self.handles.acks.changed() => match changed {
                    Ok(()) => self.ack(),
                    Err(_) => return Err(abandoned()),
                },
                () = self.handles.close.cancelled(), if !self.closing => self.close(),
                sent = send(&mut self.write, &self.writing[self.written..]), if writes || self.unflushed => {
                    self.sent(sent, writes)?;
                }
                room = self.handles.incoming.reserve(), if !self.pending.is_empty() => match room {
                    Ok(room) => if let Some(incoming) = self.pending.pop_front() {
                        if let Incoming::Messages(messages) = &incoming {
                            self.handed += messages.len() as u64;
                        }
                        room.send(incoming);
                    },
                    Err(_) => return Err(abandoned()),
                },
                // If the unprocessed bytes are all that is left, only processing them can free room in the
                // budget.
                () = ready(()), if self.unread && (taking || self.is_idle()) => self.advance()?,
                read = self.read.read_buf(self.session.input()), if reading => self.read(read)?,
                () = self.handles.budget.room(), if full && !self.closing && self.ending.is_none() => {}
                () = sleep_until(deadline) => self.tick()?,
            }
        }
    }

    /// Returns the outcome if this session is over.
    fn finished(&mut self) -> Option<Result<(), SourceError>> {
        if self.disconnected {
            return Some(Ok(()));
        }
        let (_, ends) = self.ending.as_ref()?;
        let settled = self.session.outstanding() == 0 && self.pending.is_empty();
        let sent = self.written == self.writing.len() && !self.unflushed;
        if (settled && sent) || Instant::now() >= *ends {
            return self.ending.take().map(|(error, _)| Err(error));
        }
        None
    }

    /// Lets go of the socket. Returns whether the broker knows every acknowledgement of this session.
    async fn leave(&mut self, outcome: &Result<(), SourceError>) -> bool {
        match outcome {
            Ok(()) => {
                self.flush_after_disconnect().await;
                true
            }
            Err(error) => {
                let is_known = self.session.outstanding() == 0 && self.session.known() == self.acked;
                self.disconnect().await && is_known && !error.is_closed_by_the_broker()
            }
        }
    }

    /// Closes the socket in such a way that the broker reads the last acknowledgement. A socket that is
    /// closed while unread bytes wait in it is reset, and a reset discards what the other side has not read
    /// yet. Returns whether the broker closed its side in time.
    async fn disconnect(&mut self) -> bool {
        self.session.close(Instant::now(), self.handed);
        let mut rest = self.unsent();
        let disconnecting = async {
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
        // A broker that does not close in time is dropped all the same: what it has not read comes again.
        timeout(DISCONNECT_TIMEOUT, disconnecting).await.is_ok_and(|closed| closed.is_ok())
    }

    /// Sends what the session still writes after its disconnect is confirmed. Nothing depends on it.
    async fn flush_after_disconnect(&mut self) {
        let rest = self.unsent();
        let said = async {
            self.write.write_all(&rest).await?;
            self.write.flush().await
        };
        let _said = timeout(DISCONNECT_TIMEOUT, said).await;
    }

    /// Takes the session's next output only after the broker has taken the previous one.
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

    /// Counts only acknowledgements that the broker can know of.
    fn count_acked(&mut self) {
        self.handles.counters.acked.add(self.said.saturating_sub(self.counted));
        self.counted = self.counted.max(self.said);
    }

    /// Takes all bytes that the broker has not taken.
    fn unsent(&mut self) -> Vec<u8> {
        let mut rest = self.writing.split_off(self.written);
        self.session.take_output(&mut rest);
        rest
    }

    fn ack(&mut self) {
        let (id, through) = *self.handles.acks.borrow_and_update();
        if id == self.handles.id && !self.closing && through > self.acked {
            self.session.ack(Instant::now(), through);
            self.acked = through;
        }
    }

    fn close(&mut self) {
        self.ack();
        self.closing = true;
        self.pending.clear();
        // The caller of `close` has settled what it took; it discards the other messages that it received.
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
        let mut progress = SessionProgress::default();
        let outcome = self.session.advance(Instant::now(), &mut progress);
        if let Some(last) = progress.messages.last() {
            self.brought = true;
            self.handles.last_message.clear();
            self.handles.last_message.push_str(&String::from_utf8_lossy(&last.id));
        }
        self.take(progress);
        outcome.or_else(|error| self.end(self.blame(error)))
    }

    /// Adds to the error what may have caused it. If the bytes can't be understood, the very next message may
    /// be the cause, also over a new connection. If the broker reports an error, the cause may be a message
    /// that came over this connection, or the login.
    fn blame(&self, error: SourceError) -> SourceError {
        match error {
            SourceError::Broker { message, .. } if !self.subscribed => SourceError::refused(message),
            SourceError::Broker { .. } if !self.brought => error,
            _ if !self.subscribed => error,
            _ => error.after(self.handles.last_message),
        }
    }

    fn is_idle(&self) -> bool {
        self.ending.is_none() && self.pending.is_empty() && self.session.outstanding() == 0
    }

    fn take(&mut self, progress: SessionProgress) {
        self.disconnected |= progress.closed;
        self.unread = progress.unread;
        if progress.subscribed {
            self.subscribed = true;
            (self.handles.on_subscribed)(self.session.silence());
            self.pending.push_back(Incoming::Session(self.handles.id));
        }
        if !progress.messages.is_empty() {
            self.handles.counters.receive(&progress.messages);
            self.handles.counters.repaired.add(progress.repaired);
            self.pending.push_back(Incoming::Messages(progress.messages));
        }
    }

    fn tick(&mut self) -> Result<(), SourceError> {
        let Err(error) = self.session.tick(Instant::now()) else { return Ok(()) };
        match self.ending.take() {
            Some((first, _)) => Err(first),
            None => self.end(error),
        }
    }

    /// Ends the session. If the connection can still carry acknowledgements, it first waits until the
    /// messages received before are settled as far as they can be (D2); otherwise it ends at once.
    fn end(&mut self, error: SourceError) -> Result<(), SourceError> {
        if self.closing || !error.leaves_the_connection_open() {
            return Err(error);
        }
        self.ending = Some((error, Instant::now() + self.handles.grace));
        self.handles.ending.cancel();
        Ok(())
    }
}

/// Writes some of `bytes`, or flushes if there are none. Cancel-safe: it awaits one of the two, once.
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
