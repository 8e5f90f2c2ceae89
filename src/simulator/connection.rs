//! Serves one connection: the socket around a [`ServerProtocol`], and the faults of the connection.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::faults::Faults;
use super::openwire::OpenWire;
use super::protocol::{Flow, ServerProtocol};
use super::state::SimulatorState;
use super::stomp::Stomp;

/// About the most bytes written at once.
const CHUNK: usize = 128 << 10;

/// Serves one client until it leaves, a fault ends the connection, or the simulator stops.
pub(crate) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    shared: Arc<SimulatorState>,
    stop: CancellationToken,
) {
    let end = async {
        let cuts = shared.cuts.subscribe();
        let protocol = meet(&mut stream, peer, &shared, cuts.clone(), &stop).await?;
        let (reader, writer) = split(stream);
        Ok(ClientConnection::new(protocol, &shared, cuts).run(reader, writer, stop).await)
    };
    let end = end.await.unwrap_or_else(|end: ConnectionEnd| end);
    debug!(%peer, ?end, "connection ended");
}

/// Waits for the first byte, which tells the protocol of the client. OpenWire begins with the size of a frame
/// below 16 MiB, so with a zero. STOMP begins with a letter or a line end. A real ActiveMQ has a separate
/// port for OpenWire and sends first. All clients send without waiting for that, so waiting for the first
/// byte is safe.
async fn meet(
    stream: &mut (impl AsyncRead + Unpin),
    peer: SocketAddr,
    shared: &Arc<SimulatorState>,
    mut cuts: watch::Receiver<()>,
    stop: &CancellationToken,
) -> Result<Box<dyn ServerProtocol>, ConnectionEnd> {
    let first = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(ConnectionEnd::Stopped),
        _ = cuts.changed() => return Err(ConnectionEnd::Cut),
        first = stream.read_u8() => first,
    };
    let mut protocol: Box<dyn ServerProtocol> = match first {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(ConnectionEnd::Left),
        Err(error) => return Err(ConnectionEnd::Broken(error)),
        Ok(0) => Box::new(OpenWire::new(Arc::clone(shared), peer)),
        Ok(_) => Box::new(Stomp::new(Arc::clone(shared), peer)),
    };
    protocol.input().extend(first);
    Ok(protocol)
}

/// Why a connection ended, for the log.
#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug alone")]
enum ConnectionEnd {
    Left,
    Told,
    Silent,
    Cut,
    Stopped,
    Broken(std::io::Error),
}

struct ClientConnection {
    protocol: Box<dyn ServerProtocol>,
    /// Bytes that the client sends while the connection ends.
    unheard: Vec<u8>,
    out: Vec<u8>,
    /// How many bytes of `out` were written.
    written: usize,
    /// Whether the rest of `out` is only a heart-beat. ActiveMQ does not count a heart-beat as something
    /// sent, so an idle connection beats at every check, not at every other.
    only_beats: bool,
    /// How many messages were sent to the client.
    events: u64,
    /// Whether the error of [`Faults::error_after`] was sent.
    told_error: bool,
    /// Whether [`Faults::close_consumers_after`] has closed the consumers.
    closed_consumers: bool,
    /// The connection ends once `out` is written.
    closing: bool,
    changed: watch::Receiver<()>,
    faults: watch::Receiver<Faults>,
    cuts: watch::Receiver<()>,
}

impl ClientConnection {
    fn new(protocol: Box<dyn ServerProtocol>, shared: &SimulatorState, cuts: watch::Receiver<()>) -> Self {
        Self {
            changed: shared.changed.subscribe(),
            faults: shared.faults.subscribe(),
            cuts,
            protocol,
            unheard: Vec::new(),
            out: Vec::with_capacity(CHUNK + CHUNK / 2),
            written: 0,
            only_beats: false,
            events: 0,
            told_error: false,
            closed_consumers: false,
            closing: false,
        }
    }

    async fn run(
        mut self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        stop: CancellationToken,
    ) -> ConnectionEnd {
        loop {
            let faults = self.faults.borrow_and_update().clone();
            let silent = faults.silent_after.is_some_and(|after| self.events >= after);
            if self.written == self.out.len() {
                if self.closing {
                    return ConnectionEnd::Told;
                }
                self.refill(&faults, silent);
            }
            let piece = self.out.len().min(self.written + faults.dribble.unwrap_or(CHUNK).max(1));
            let (pending, due) = (self.written < piece, self.protocol.heart_beat().due());
            let due = due.map(Instant::from_std);
            let input = if self.closing { &mut self.unheard } else { self.protocol.input() };
            tokio::select! {
                biased;
                () = stop.cancelled() => return ConnectionEnd::Stopped,
                _ = self.cuts.changed() => return ConnectionEnd::Cut,
                _ = self.faults.changed() => {}
                _ = self.changed.changed(), if !pending => {}
                read = reader.read_buf(input) => match read {
                    Ok(0) => return ConnectionEnd::Left,
                    Ok(_) => self.receive(),
                    Err(error) => return ConnectionEnd::Broken(error),
                },
                written = writer.write(self.out.get(self.written..piece).unwrap_or_default()), if pending && !silent => match written {
                    Ok(count) => self.wrote(count),
                    Err(error) => return ConnectionEnd::Broken(error),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if self.check_heart_beats(&faults, silent) {
                        return ConnectionEnd::Silent;
                    }
                }
            }
        }
    }

    fn wrote(&mut self, count: usize) {
        self.written += count;
        if !self.only_beats {
            self.protocol.heart_beat().sent();
        }
    }

    /// Puts the next messages into the empty buffer, as many as the faults allow.
    fn refill(&mut self, faults: &Faults, silent: bool) {
        self.out.clear();
        self.written = 0;
        self.only_beats = false;
        self.changed.mark_unchanged();
        if silent {
            return;
        }
        let left = |after: Option<u64>| after.map_or(u64::MAX, |after| after.saturating_sub(self.events));
        let error = faults.error_after.filter(|_| !self.told_error);
        let close = faults.close_consumers_after.filter(|_| !self.closed_consumers);
        let limits = [faults.drop_every, faults.silent_after, error, close].map(left);
        let limit = limits.into_iter().min().unwrap_or(u64::MAX);
        self.events += self.protocol.fill(limit, CHUNK, &mut self.out);
        if error.is_some_and(|after| self.events >= after) {
            self.told_error = true;
            self.protocol.complain("simulated error", &mut self.out);
        }
        if close.is_some_and(|after| self.events >= after) {
            self.closed_consumers = true;
            self.protocol.close_consumers(&mut self.out);
        }
        if faults.drop_every.is_some_and(|after| self.events >= after) {
            self.tear();
        }
    }

    /// Ends the connection inside a frame, if there is one to send.
    fn tear(&mut self) {
        let whole = self.out.len();
        self.protocol.fill(1, usize::MAX, &mut self.out);
        self.out.truncate(whole + (self.out.len() - whole) / 2);
        self.closing = true;
    }

    fn receive(&mut self) {
        self.unheard.clear();
        let (now, before) = (Instant::now().into_std(), self.out.len());
        self.closing = self.closing || self.protocol.answer(now, &mut self.out) == Flow::Close;
        self.only_beats &= self.out.len() == before;
    }

    /// Sends a heart-beat if one is due. Returns whether the client has been silent for too long.
    fn check_heart_beats(&mut self, faults: &Faults, silent: bool) -> bool {
        let found = self.protocol.heart_beat().check(Instant::now().into_std(), faults.heart_beats);
        if found.send && !silent {
            self.only_beats |= self.written == self.out.len();
            self.protocol.beat(&mut self.out);
        }
        found.dead
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{duplex, split};
    use tokio::time::sleep;

    use super::super::config::SimulatorConfig;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// ActiveMQ does the same, and its clients depend on it: stomp.py disconnects after one and a half
    /// intervals.
    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_beats_once_an_interval() {
        let address = SocketAddr::from(([127, 0, 0, 1], 61613));
        let shared = Arc::new(SimulatorState::new(SimulatorConfig::default(), address));
        let (mut client, server) = duplex(1 << 10);
        let (reader, writer) = split(server);
        let protocol = Box::new(Stomp::new(Arc::clone(&shared), address));
        let connection = ClientConnection::new(protocol, &shared, shared.cuts.subscribe());
        tokio::spawn(connection.run(reader, writer, CancellationToken::new()));
        let login = "login:12345\npasscode:0123456789abcdef0123456789abcdef";
        let connect = format!("CONNECT\naccept-version:1.2\nhost:h\n{login}\nheart-beat:4000,1000\n\n\0");
        client.write_all(connect.as_bytes()).await.unwrap();
        let (mut came, mut beats) = ([0; 1024], Vec::new());
        let began = Instant::now();
        while beats.len() < 6 {
            tokio::select! {
                count = client.read(&mut came) => match &came[..count.unwrap()] {
                    b"\n" => beats.push(began.elapsed().as_secs()),
                    connected => assert!(connected.starts_with(b"CONNECTED\n")),
                },
                () = sleep(2 * SECOND) => client.write_all(b"\n").await.unwrap(),
            }
        }
        assert_eq!(beats, [2, 3, 4, 5, 6, 7]);
    }
}
