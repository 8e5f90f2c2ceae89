//! Provides a file-based JetStream stream on a server of its own, as a destination of benchmarks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Message};
use async_nats::{ConnectOptions, HeaderMap, Subject};
use bytes::Bytes;

use super::{Destination, Route, Server};
use crate::bridge::Setup;
use crate::nats::{NatsServer, make_stream, read_stream};
use crate::ports::{free_port, loopback};

/// The name of the stream.
pub const STREAM: &str = "BENCH";
/// The only subject of the stream.
pub const SUBJECT: &str = "atdata.acme.bench";

/// The server, and the client that manages the stream.
pub struct JetStream {
    server: NatsServer,
    proxy: SocketAddr,
    jetstream: jetstream::Context,
}

impl JetStream {
    /// Starts the server.
    pub async fn start() -> Self {
        let server = NatsServer::start("");
        let jetstream = server.jetstream().await;
        Self { server, proxy: loopback(free_port()), jetstream }
    }

    /// The server's URL, for its clients.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The client that manages the stream.
    pub fn context(&self) -> &jetstream::Context {
        &self.jetstream
    }
}

impl Destination for JetStream {
    const NAME: &'static str = "JetStream";

    async fn renew(&mut self) {
        // Delete it: a purged stream would still know the message ids.
        drop(self.jetstream.delete_stream(STREAM).await);
        make_stream(&self.jetstream, STREAM, &[SUBJECT]).await;
    }

    fn configure(&self, setup: Setup, route: Route) -> Setup {
        let addr = if route == Route::Proxy { self.proxy } else { self.server.addr() };
        setup
            .set("SINKS__NATS__URL", format!("nats://{addr}"))
            .set("SINKS__NATS__STREAM", STREAM)
            .set("SINKS__NATS__SUBJECT", SUBJECT)
    }

    async fn count(&mut self) -> u64 {
        let stream = self.jetstream.get_stream(STREAM).await.expect("the stream");
        stream.cached_info().state.messages
    }
}

impl Server for JetStream {
    type Records = Vec<(Subject, HeaderMap, Bytes)>;

    const MAX_IN_FLIGHT: usize = 4096;

    fn proxy_addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.proxy, self.server.addr())
    }

    async fn records(&mut self) -> Self::Records {
        let parts = |message: Message| {
            let message = message.message;
            (message.subject, message.headers.expect("headers"), message.payload)
        };
        read_stream(&self.jetstream, STREAM).await.into_iter().map(parts).collect()
    }

    /// Uses the library as it is intended: each publish returns a future of its acknowledgement. At most
    /// `window` of them are pending.
    async fn produce(&mut self, records: &Self::Records, window: usize) -> Duration {
        let records = records.clone();
        let options = ConnectOptions::new().client_capacity(2 * window).skip_subject_validation(true);
        let client = options.connect(self.server.url()).await.expect("connect");
        let jetstream = jetstream::context::ContextBuilder::new().max_ack_inflight(window).build(client);
        let mut acks = VecDeque::with_capacity(window);
        let begun = Instant::now();
        for (subject, headers, body) in records {
            if acks.len() == window {
                let ack: jetstream::context::PublishAckFuture = acks.pop_front().expect("a full window");
                ack.await.expect("an acknowledgement");
            }
            acks.push_back(jetstream.publish_with_headers(subject, headers, body).await.expect("publish"));
        }
        for ack in acks {
            ack.await.expect("an acknowledgement");
        }
        begun.elapsed()
    }

    fn windows(prefetch: usize) -> Vec<(usize, String)> {
        vec![(prefetch, format!("bare async-nats, {prefetch} in flight"))]
    }
}
