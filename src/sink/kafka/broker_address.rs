//! Connects to the address of a broker, and says why that is not possible.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

const DEFAULT_PORT: u16 = 9092;

pub(super) struct BrokerAddress<'a> {
    pub(super) host: &'a str,
    port: u16,
}

impl<'a> BrokerAddress<'a> {
    /// Reads `host:port`. The port is librdkafka's default if none is given.
    pub(super) fn of(address: &'a str) -> Self {
        let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts.unwrap_or((address, DEFAULT_PORT));
        Self { host: host.trim_start_matches('[').trim_end_matches(']'), port }
    }

    /// Connects, or returns why that is not possible. Each step may take `within`.
    pub(super) async fn connect(&self, within: Duration) -> Result<TcpStream, String> {
        let found = timeout(within, lookup_host((self.host, self.port))).await;
        let Ok(found) = found else { return Err(format!("nobody says where {} is", self.host)) };
        let Ok(addresses) = found else { return Err(format!("the name {} is not known here", self.host)) };
        let mut why = format!("the name {} has no address", self.host);
        for address in addresses {
            why = match timeout(within, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    format!("nothing listens at {self}")
                }
                Ok(Err(error)) => format!("{self} can't be reached ({})", error.kind()),
                Err(_) => format!("{self} does not answer"),
            };
        }
        Err(why)
    }
}

impl fmt::Display for BrokerAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}
