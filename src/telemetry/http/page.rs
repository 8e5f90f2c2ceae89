//! Serves the status page at `/`. What it shows comes from `/events` and `/config`; the files here are the same for
//! every bridge. A client that is no browser gets a list of the paths instead.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{ACCEPT, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;

use super::{Pages, TEXT, answer};

const INDEX: &str = "\
atdata-bridge
/         this list; in a browser, a page with the state and the last 15 minutes
/livez    200 while the loops turn, else 503 and which do not
/readyz   200 while subscribed and all sinks are reachable, else 503 and the reasons
/metrics  counters, states, latencies (docs/metrics.md)
/status   the state of each part and the counts of each queue, as JSON
/config   the configuration in effect, secrets masked, as JSON
/events   /status every second and the last 15 minutes, as server-sent events
";

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const ICON: &str = include_str!("page/icon.svg");

/// Returns the routes of the page and its files.
pub(super) fn router() -> Router<Arc<Pages>> {
    let file = |kind, text| get(async move || answer(StatusCode::OK, kind, text));
    Router::new()
        .route("/", get(page_or_index))
        .route("/page.css", file("text/css; charset=utf-8", STYLE))
        .route("/page.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/icon.svg", file("image/svg+xml", ICON))
}

async fn page_or_index(headers: HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|accepted| accepted.to_str().ok());
    let mut response = if accepted.into_iter().any(|accepted| accepted.contains("text/html")) {
        answer(StatusCode::OK, "text/html; charset=utf-8", HTML)
    } else {
        answer(StatusCode::OK, TEXT, INDEX)
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}
