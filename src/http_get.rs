//! Gets one page over HTTP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The largest page, in bytes.
const LARGEST: usize = 16 << 20;

/// A server: `host:port`, and how TLS is spoken with it, if it is.
pub(crate) struct HttpServer<'a> {
    pub(crate) address: &'a str,
    pub(crate) tls: Option<ClientConfig>,
}

impl<'a> HttpServer<'a> {
    /// Returns a server that is asked without TLS.
    pub(crate) fn plain(address: &'a str) -> Self {
        Self { address, tls: None }
    }
}

/// Returns the page `path` of the server.
///
/// # Errors
/// Why there is no page within the time: no connection, no TLS, no HTTP, another status than 200, or a page of more than
/// 16 MiB.
pub(crate) async fn get(server: HttpServer<'_>, path: &str, within: Duration) -> Result<Bytes, String> {
    let page = timeout(within, page(server, path)).await;
    page.unwrap_or_else(|_| Err(format!("no answer within {} s", within.as_secs())))
}

async fn page(server: HttpServer<'_>, path: &str) -> Result<Bytes, String> {
    let HttpServer { address, tls } = server;
    let stream = TcpStream::connect(address).await.map_err(|error| format!("can't connect: {error}"))?;
    let Some(tls) = tls else { return ask(stream, address, path).await };
    let ip = stream.peer_addr().map_err(|error| error.to_string())?.ip();
    let connecting = TlsConnector::from(Arc::new(tls)).connect(ServerName::from(ip), stream);
    match connecting.await {
        Ok(stream) => ask(stream, address, path).await,
        Err(error) => Err(no_tls(&error).to_owned()),
    }
}

fn no_tls(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => "it shows another certificate",
        Some(rustls::Error::InvalidMessage(_)) => "it speaks no TLS",
        _ => "the TLS handshake has failed",
    }
}

async fn ask<S>(stream: S, address: &str, path: &str) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let no_http = |error: hyper::Error| format!("the answer is not HTTP: {error}");
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", address).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = client.send_request(request).await.map_err(no_http)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the answer is {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    connection.abort();
    body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Gets a page of a server that gives this answer.
    async fn answered(answer: &'static str) -> Result<Bytes, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /a HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let page = get(HttpServer::plain(&address), "/a", Duration::from_secs(10)).await;
        server.await.unwrap();
        page
    }

    #[tokio::test]
    async fn a_page_is_returned_and_everything_else_is_told() {
        assert_eq!(answered("HTTP/1.0 200 OK\r\n\r\npage").await.unwrap(), "page");
        assert_eq!(answered("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\npage").await.unwrap(), "pa");
        assert_eq!(
            answered("HTTP/1.1 404 Not Found\r\n\r\n").await.unwrap_err(),
            "the answer is 404 Not Found"
        );
        for answer in ["INFO {}\r\n", ""] {
            let error = answered(answer).await.unwrap_err();
            assert!(error.starts_with("the answer is not HTTP: "), "{error}");
        }
        let refused = get(HttpServer::plain("127.0.0.1:1"), "/a", Duration::from_secs(10)).await.unwrap_err();
        assert!(refused.starts_with("can't connect: "), "{refused}");
    }

    #[tokio::test]
    async fn a_silent_server_is_not_waited_for_longer_than_allowed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let error = get(HttpServer::plain(&address), "/a", Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(error, "no answer within 0 s");
    }
}
