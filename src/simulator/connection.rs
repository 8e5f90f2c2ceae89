//! One connection: the socket around a [`Session`], and the faults that happen to it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::budget::Budget;
use crate::source::stomp::codec::{Decoder, Limits};
use crate::source::stomp::frame::Frame;

use super::faults::Faults;
use super::server::Shared;
use super::session::{Flow, Session};

/// Bytes written at once, about.
const CHUNK: usize = 128 << 10;

/// What a client may send in one frame.
const LIMITS: Limits = Limits { line: 10 << 10, headers: 1000, body: 1 << 20 };

/// Serves one client until it leaves, a fault ends it, or the simulator stops.
pub(crate) async fn serve(
    mut socket: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let end = match socket.set_nodelay(true) {
        Ok(()) => {
            let (reader, writer) = socket.split();
            Connection::new(peer, shared).run(reader, writer, stop).await
        }
        Err(error) => End::Broken(error),
    };
    debug!(%peer, ?end, "connection ended");
}

/// Why a connection ended; for the log.
#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug alone")]
enum End {
    Left,
    Told,
    Silent,
    Cut,
    Stopped,
    Broken(std::io::Error),
}

struct Connection {
    session: Session,
    decoder: Decoder,
    frames: Vec<Frame>,
    out: Vec<u8>,
    /// How much of `out` has been written.
    written: usize,
    /// MESSAGE frames so far.
    events: u64,
    /// Whether the ERROR of [`Faults::error_after`] has been sent.
    told_error: bool,
    /// Ends once `out` has been written.
    closing: bool,
    changed: watch::Receiver<()>,
    faults: watch::Receiver<Faults>,
    cuts: watch::Receiver<()>,
}

impl Connection {
    fn new(peer: SocketAddr, shared: Arc<Shared>) -> Self {
        Self {
            changed: shared.watch(),
            faults: shared.watch_faults(),
            cuts: shared.watch_cuts(),
            session: Session::new(shared, peer),
            decoder: Decoder::new(LIMITS, Budget::new(LIMITS.body)),
            frames: Vec::new(),
            out: Vec::with_capacity(CHUNK + CHUNK / 2),
            written: 0,
            events: 0,
            told_error: false,
            closing: false,
        }
    }

    async fn run(
        mut self,
        mut reader: ReadHalf<'_>,
        mut writer: WriteHalf<'_>,
        stop: CancellationToken,
    ) -> End {
        loop {
            let faults = self.faults.borrow_and_update().clone();
            let silent = faults.silent_after.is_some_and(|after| self.events >= after);
            if self.written == self.out.len() {
                if self.closing {
                    return End::Told;
                }
                self.refill(&faults, silent);
            }
            let piece = self.out.len().min(self.written + faults.dribble.unwrap_or(CHUNK).max(1));
            let (pending, due) = (self.written < piece, self.session.heart_beat().due());
            let due = due.map(Instant::from_std);
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                _ = self.cuts.changed() => return End::Cut,
                _ = self.faults.changed() => {}
                _ = self.changed.changed(), if !pending => {}
                read = reader.read_buf(self.decoder.buffer()) => match read {
                    Ok(0) => return End::Left,
                    Ok(_) => self.receive(),
                    Err(error) => return End::Broken(error),
                },
                written = writer.write(self.out.get(self.written..piece).unwrap_or_default()), if pending && !silent => {
                    match written {
                        Ok(count) => self.written += count,
                        Err(error) => return End::Broken(error),
                    }
                    self.session.heart_beat().sent();
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if self.check_heart_beats(&faults, silent) {
                        return End::Silent;
                    }
                }
            }
        }
    }

    /// Puts the next messages into the empty buffer, as far as the faults let it.
    fn refill(&mut self, faults: &Faults, silent: bool) {
        self.out.clear();
        self.written = 0;
        self.changed.mark_unchanged();
        if silent {
            return;
        }
        let left = |after: Option<u64>| after.map_or(u64::MAX, |after| after.saturating_sub(self.events));
        let error = if self.told_error { None } else { faults.error_after };
        let limit = left(faults.drop_every).min(left(error)).min(left(faults.silent_after));
        self.events += self.session.fill(limit, CHUNK, &mut self.out);
        if error.is_some_and(|after| self.events >= after) {
            self.told_error = true;
            self.session.reject("simulated error", &mut self.out);
        }
        if faults.drop_every.is_some_and(|after| self.events >= after) {
            self.tear();
        }
    }

    /// Ends the connection inside a frame, if there is one.
    fn tear(&mut self) {
        let whole = self.out.len();
        self.session.fill(1, usize::MAX, &mut self.out);
        self.out.truncate(whole + (self.out.len() - whole) / 2);
        self.closing = true;
    }

    /// Answers every frame that is complete.
    fn receive(&mut self) {
        let decoded = self.decoder.decode(&mut self.frames);
        self.session.heart_beat().received(!self.frames.is_empty());
        let now = Instant::now().into_std();
        for frame in self.frames.drain(..) {
            if !self.closing && self.session.handle(&frame, now, &mut self.out) == Flow::Close {
                self.closing = true;
            }
        }
        if let Err(error) = decoded {
            self.session.reject(&error.to_string(), &mut self.out);
            self.closing = true;
        }
    }

    /// Whether the client is to be given up.
    fn check_heart_beats(&mut self, faults: &Faults, silent: bool) -> bool {
        let found = self.session.heart_beat().check(Instant::now().into_std(), faults.heart_beats);
        if found.send && !silent {
            self.out.push(b'\n');
        }
        found.dead
    }
}
