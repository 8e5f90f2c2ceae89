//! Limits what a client can cost, whatever it sends or does not send: the number of connections (the oldest
//! is closed for a new one), and the bytes and the time of each connection. The server of axum has none of
//! these limits. Hyper's own builder would limit the time of a request's head, but not that of a slow reader.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncReadExt, DuplexStream, copy_bidirectional, duplex, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// The most open connections. A request takes milliseconds, so the oldest of so many is not waiting for the
/// bridge.
const MOST: usize = 32;
/// The most bytes that a client may send. A request has no body.
const LONGEST: u64 = 16 * 1024;
/// The longest time from the first byte of a connection to its last.
const DEADLINE: Duration = Duration::from_secs(10);
/// The pause after the system has refused a connection, for example because there are no free descriptors.
const PAUSE: Duration = Duration::from_secs(1);
/// The most bytes between the server and a client that does not read them.
const BUFFER: usize = 16 * 1024;

/// A listener with the limits of the module text.
pub(super) struct ConnectionLimits {
    listener: TcpListener,
    /// The tasks that [`relay`] for the open connections, oldest first. Dropping one closes its connection.
    open: VecDeque<AbortOnDropHandle<()>>,
}

impl ConnectionLimits {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, open: VecDeque::new() }
    }

    fn admit(&mut self, client: TcpStream) -> DuplexStream {
        self.open.retain(|connection| !connection.is_finished());
        if self.open.len() >= MOST {
            self.open.pop_front();
        }
        let (near, far) = duplex(BUFFER);
        self.open.push_back(AbortOnDropHandle::new(tokio::spawn(relay(client, near))));
        far
    }
}

/// Copies between a client and the server until both have ended, or a limit is reached.
async fn relay(mut client: TcpStream, mut server: DuplexStream) {
    let (reader, writer) = client.split();
    let mut client = join(reader.take(LONGEST), writer);
    // The connection ends in every case, so the result does not matter.
    let _ended = timeout(DEADLINE, copy_bidirectional(&mut client, &mut server)).await;
}

impl Listener for ConnectionLimits {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (DuplexStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((client, address)) => return (self.admit(client), address),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
