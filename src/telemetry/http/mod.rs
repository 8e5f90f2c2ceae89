//! Serves `/livez`, `/readyz`, `/metrics`, `/status` and a page for people over HTTP.
//!
//! This server must never cost an event. So if the address is not available, the bridge runs without it,
//! reports this in the status registry and in the log, and tries again until it succeeds. If the bridge
//! refused to start, a queue would stay unread because of a page. Two bridges on one host are no mistake, and
//! neither is a new bridge beside one that still drains.

pub mod config;
mod connection_limits;
mod events;
mod page;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use self::connection_limits::{ConnectionLimits, HttpConnection};
use super::bridge_status::StatusSources;
use super::health::Health;
use super::metrics::MetricsPage;
use super::status::{Status, StatusReporter};
use crate::tls::{TlsError, TlsServer, TlsServerOptions};

/// The time between two tries to listen.
const RETRY_EVERY: Duration = Duration::from_secs(5);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The content type of the metrics page.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a browser may load and do: only what this server has, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The data that the pages show.
#[derive(Debug)]
pub struct Pages {
    /// The source of `/readyz` and `/livez`.
    pub health: Health,
    /// The source of the page `/metrics`.
    pub metrics: MetricsPage,
    /// The source of `/status`, `/config` and `/events`.
    pub status: StatusSources,
}

/// Where the server listens, and with which certificate.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// The address to listen at.
    pub address: SocketAddr,
    /// The files of TLS; `None` means without TLS.
    pub tls: Option<TlsServerOptions>,
}

/// Listens until the handle is dropped. When this returns, the server listens, or the status registry holds the error
/// and the server will try again.
pub async fn start(options: ListenOptions, pages: Pages, reporter: StatusReporter) -> AbortOnDropHandle<()> {
    let first = listen(&options, &reporter).await;
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut limits = first;
        let limits = loop {
            match limits {
                Some(limits) => break limits,
                None => sleep(RETRY_EVERY).await,
            }
            limits = listen(&options, &reporter).await;
        };
        let router = router(Arc::new(pages)).into_make_service_with_connect_info::<HttpConnection>();
        let served = axum::serve(limits, router).await;
        reporter.report(Status::Held(format!("the listener has ended: {served:?}")));
    }))
}

async fn listen(options: &ListenOptions, reporter: &StatusReporter) -> Option<ConnectionLimits> {
    let tls = match tls_server(options).await {
        Ok(tls) => tls,
        Err(error) => {
            let text = format!("{error}; no health and no metrics until this is mended");
            reporter.report(Status::Held(text));
            return None;
        }
    };
    let bound = TcpListener::bind(options.address).await;
    match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
        Ok((address, listener)) => {
            let over = if tls.is_some() { ", all over TLS" } else { "" };
            tracing::info!(listen = %address, "admin: /livez, /readyz, /metrics, /status, and a page at /{over}");
            reporter.report(Status::Ready);
            Some(ConnectionLimits::new(listener, tls))
        }
        Err(error) => {
            reporter.report(listen_error(options.address, &error));
            None
        }
    }
}

/// Reads the files of TLS in another thread, because a file system may hang.
async fn tls_server(options: &ListenOptions) -> Result<Option<Arc<TlsServer>>, TlsError> {
    let Some(tls) = options.tls.clone() else { return Ok(None) };
    match spawn_blocking(|| TlsServer::new(tls)).await {
        Ok(server) => server.map(Arc::new).map(Some),
        // Only a runtime that ends cancels it.
        Err(_) => pending().await,
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
        .merge(page::router())
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/config", get(config))
        .route("/events", get(events::events))
        .layer(from_fn(require_access))
        .layer(map_response(last))
        .with_state(pages)
}

/// Refuses everything but the health to a client that must show a certificate and has shown none. The probes of
/// Kubernetes have none.
async fn require_access(
    ConnectInfo(client): ConnectInfo<HttpConnection>,
    request: Request,
    next: Next,
) -> Response {
    if client.has_access() || matches!(request.uri().path(), "/livez" | "/readyz") {
        return next.run(request).await;
    }
    let text = "this page needs a certificate that an authority in admin.tls.client_ca_file has signed\n";
    answer(StatusCode::FORBIDDEN, TEXT, text)
}

/// Closes each connection after one request, so that idle clients keep none open. Tells browsers what they may
/// do.
async fn last(mut response: Response) -> Response {
    for (name, value) in [
        (CONNECTION, "close"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
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
    json(&pages.status.now())
}

async fn config(Shared(pages): Shared<Arc<Pages>>) -> Response {
    json(&pages.status.telemetry().configuration.all())
}

fn json(document: &impl Serialize) -> Response {
    match serde_json::to_string(document) {
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
