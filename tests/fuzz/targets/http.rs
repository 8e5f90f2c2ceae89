//! Fuzzes the admin listener with a client that sends any bytes over a real socket. The listener must not panic
//! (a panic of any task ends the process), must end the connection when the client has left, and must serve the
//! next client.

#![no_main]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use atdata_bridge::budget::Shares;
use atdata_bridge::telemetry::Telemetry;
use atdata_bridge::telemetry::bridge_status::StatusSources;
use atdata_bridge::telemetry::health::Health;
use atdata_bridge::telemetry::http::{self, ListenOptions, Pages};
use atdata_bridge::telemetry::metrics::MetricsPage;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

const SOON: Duration = Duration::from_secs(15);
/// Is in the head of an answer that has no end.
const STREAM: &[u8] = b"text/event-stream";

struct Serving {
    runtime: Runtime,
    address: SocketAddr,
    _listener: AbortOnDropHandle<()>,
}

thread_local! {
    static SERVING: Serving = serving();
}

fn serving() -> Serving {
    let runtime = Builder::new_current_thread().enable_all().build().expect("start a runtime");
    let (address, listener) = runtime.block_on(async {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let telemetry = Arc::new(Telemetry::default());
        telemetry.statuses.complete();
        let budgets = Shares::new(1 << 20, &[]);
        let health = Health::new(Arc::clone(&telemetry), None, budgets.clone());
        let metrics = MetricsPage::new(Arc::clone(&telemetry), health.clone(), budgets.clone());
        let status = StatusSources::new(Arc::clone(&telemetry), health.clone(), budgets, BTreeMap::new());
        let reporter = telemetry.statuses.reporter("admin");
        (
            address,
            http::start(ListenOptions { address, tls: None }, Pages { health, metrics, status }, reporter)
                .await,
        )
    });
    Serving { runtime, address, _listener: listener }
}

async fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(address).await.expect("the listener accepts");
    // If the listener has already closed the connection, it does not read the rest.
    if client.write_all(bytes).await.is_ok() {
        drop(client.shutdown().await);
    }
    let mut answer = Vec::new();
    // A stream of events goes on as long as somebody may read it.
    while !answer.windows(STREAM.len()).any(|bytes| bytes == STREAM) {
        let read =
            timeout(SOON, client.read_buf(&mut answer)).await.expect("the listener closes the connection");
        if read.is_err() || read.is_ok_and(|bytes| bytes == 0) {
            break;
        }
    }
    answer
}

fuzz_target!(|bytes: &[u8]| {
    SERVING.with(|Serving { runtime, address, .. }| {
        let answer = runtime.block_on(send(*address, bytes));
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
        let next = runtime.block_on(send(*address, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(next.starts_with(b"HTTP/1.1 200 "), "{}", next.escape_ascii());
    });
});
