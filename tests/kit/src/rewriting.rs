//! Forwards connections and changes what the server sends, as a server of another version or with other settings would
//! send it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Forwards connections to one address until it is dropped.
pub struct Rewriting {
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Rewriting {
    /// Listens on a free loopback port. `change` gets what one read of the server's bytes brings: short messages come
    /// whole.
    pub async fn start(target: SocketAddr, change: fn(&mut Vec<u8>)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a free port");
        let addr = listener.local_addr().expect("an address");
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let server = TcpStream::connect(target).await?;
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    let answers = async {
                        let mut buffer = vec![0; 64 << 10];
                        loop {
                            let count = from_server.read(&mut buffer).await?;
                            if count == 0 {
                                return to_client.shutdown().await;
                            }
                            let mut piece = buffer[..count].to_vec();
                            change(&mut piece);
                            to_client.write_all(&piece).await?;
                        }
                    };
                    let questions = async {
                        copy(&mut from_client, &mut to_server).await?;
                        to_server.shutdown().await
                    };
                    tokio::try_join!(answers, questions)
                });
            }
        });
        Self { addr, accepting }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Replaces what stands between `before` and the next `after` by `with`, if it is there.
pub fn replace_between(bytes: &mut Vec<u8>, before: &str, after: &str, with: &str) {
    let find =
        |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|window| window == text.as_bytes());
    let Some(begin) = find(bytes, before).map(|at| at + before.len()) else { return };
    let Some(length) = find(&bytes[begin..], after) else { return };
    bytes.splice(begin..begin + length, with.bytes());
}
