//! Serves `/livez`, `/readyz`, `/metrics` and `/status` over HTTP.
//!
//! This server must never cost an event. So if the address is not available, the bridge runs without it,
//! reports this in the status registry and in the log, and tries again until it succeeds. If the bridge
//! refused to start, a queue would stay unread because of a page. Two bridges on one host are no mistake, and
//! neither is a new bridge beside one that still drains.

pub mod config;
mod connection_limits;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use self::connection_limits::ConnectionLimits;
use super::bridge_status::StatusSources;
use super::health::Health;
use super::metrics::MetricsPage;
use super::status::{Status, StatusReporter};

/// The time between two tries to listen.
const RETRY_EVERY: Duration = Duration::from_secs(5);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The content type of the metrics page.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "\
atdata-bridge
/livez    200 while the loops turn, else 503 and which do not
/readyz   200 while subscribed and all sinks are reachable, else 503 and the reasons
/metrics  counters, states, latencies (docs/metrics.md)
/status   the state of each part and the counts of each queue, as JSON
";

/// The data that the pages show.
#[derive(Debug)]
pub struct Pages {
    /// The source of `/readyz` and `/livez`.
    pub health: Health,
    /// The source of the page `/metrics`.
    pub metrics: MetricsPage,
    /// The source of `/status`.
    pub status: StatusSources,
}

/// Listens at `address` until the handle is dropped. When this returns, the server listens, or the status
/// registry holds the error and the server will try again.
pub async fn start(address: SocketAddr, pages: Pages, reporter: StatusReporter) -> AbortOnDropHandle<()> {
    let first = listen(address, &reporter).await;
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut listener = first;
        let listener = loop {
            match listener {
                Some(listener) => break listener,
                None => sleep(RETRY_EVERY).await,
            }
            listener = listen(address, &reporter).await;
        };
        let served = axum::serve(ConnectionLimits::new(listener), router(Arc::new(pages))).await;
        reporter.report(Status::Held(format!("the listener has ended: {served:?}")));
    }))
}

async fn listen(address: SocketAddr, reporter: &StatusReporter) -> Option<TcpListener> {
    let bound = TcpListener::bind(address).await;
    match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
        Ok((address, listener)) => {
            tracing::info!(listen = %address, "admin: /livez, /readyz, /metrics, /status");
            reporter.report(Status::Ready);
            Some(listener)
        }
        Err(error) => {
            reporter.report(listen_error(address, &error));
            None
        }
    }
}

fn listen_error(address: SocketAddr, error: &io::Error) -> Status {
    let text = format!("can't listen on {address}: {error}; no health and no metrics until then");
    match error.kind() {
        // The process that has the address may release it.
        io::ErrorKind::AddrInUse => {
            Status::Retrying(format!("{text}; if it is not to be shared set admin.listen"))
        }
        _ => {
            Status::Held(format!("{text}; set admin.listen to an address of this host and a port it may use"))
        }
    }
}

fn router(pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/", get(async || answer(StatusCode::OK, TEXT, INDEX)))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .layer(map_response(last))
        .with_state(pages)
}

/// Closes each connection after one request, so that idle clients keep none open.
async fn last(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn livez(Shared(pages): Shared<Arc<Pages>>) -> Response {
    verdict(pages.health.stuck(), "alive")
}

async fn readyz(Shared(pages): Shared<Arc<Pages>>) -> Response {
    verdict(pages.health.not_ready(), "ready")
}

async fn metrics(Shared(pages): Shared<Arc<Pages>>) -> Response {
    match pages.metrics.text() {
        Ok(text) => answer(StatusCode::OK, OPEN_METRICS, text),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

async fn status(Shared(pages): Shared<Arc<Pages>>) -> Response {
    match serde_json::to_string(&pages.status.now()) {
        Ok(text) => answer(StatusCode::OK, JSON, text),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

fn verdict(reasons: Vec<String>, good: &str) -> Response {
    match reasons.is_empty() {
        true => answer(StatusCode::OK, TEXT, format!("{good}\n")),
        false => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n") + "\n"),
    }
}

fn answer(status: StatusCode, kind: &'static str, text: impl Into<String>) -> Response {
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], text.into()).into_response()
}
