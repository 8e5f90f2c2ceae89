//! Connects to a broker over TCP and TLS. A test can put another network in its place.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::{Endpoint, SourceSettings};
use super::error::SourceError;
use crate::protocol_guess::{FirstBytes, Remembering};
use crate::tls;

/// A connected socket, with or without TLS.
pub trait BrokerStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> BrokerStream for S {}

/// Opens connections to brokers. Tests put a simulated network in its place.
#[async_trait]
pub trait Network: Send + Sync {
    /// Connects to `endpoint`, and reads the password from its file again; each step must finish within
    /// `settings.connect_timeout`. `first` records the first bytes that the stream delivers.
    ///
    /// # Errors
    /// Unreachable, or TLS failed.
    async fn connect(
        &self,
        endpoint: &Endpoint,
        settings: &SourceSettings,
        first: &FirstBytes,
    ) -> Result<Box<dyn BrokerStream>, SourceError>;
}

/// The network of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

#[async_trait]
impl Network for Tcp {
    async fn connect(
        &self,
        endpoint: &Endpoint,
        settings: &SourceSettings,
        first: &FirstBytes,
    ) -> Result<Box<dyn BrokerStream>, SourceError> {
        let allowed = settings.connect_timeout;
        // The session that follows sends it.
        settings.password.refresh(allowed).await;
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
}

/// Without heart-beats only the kernel can notice a dead broker.
fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    SockRef::from(tcp).set_tcp_keepalive(&probes)
}
