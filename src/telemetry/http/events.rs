//! Sends the status every second, and the history whenever it has grown, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, State as Shared};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::connection_limits::{HttpConnection, MOST_STREAMS};
use super::{Pages, TEXT, answer};

/// The time between two events with the status.
const EVERY: Duration = Duration::from_secs(1);

/// Answers with a stream that ends only with the connection, or with the server.
pub(super) async fn events(
    Shared(pages): Shared<Arc<Pages>>,
    ConnectInfo(client): ConnectInfo<HttpConnection>,
) -> Response {
    if !client.stream() {
        let why = format!("{MOST_STREAMS} pages are open already: close one\n");
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, why);
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Sse::new(updates(Updates { pages, ticks, shown: None })).into_response()
}

struct Updates {
    pages: Arc<Pages>,
    ticks: Interval,
    /// The time of the newest sample that the client has; `None` before it has got any history.
    shown: Option<i64>,
}

impl Updates {
    /// Waits for the next second, and returns the events that are due.
    async fn next(&mut self) -> Vec<serde_json::Result<Event>> {
        self.ticks.tick().await;
        let history = &self.pages.status.telemetry().history;
        let latest = history.latest();
        let mut due = vec![serde_json::to_string(&self.pages.status.now()).map(|text| event("status", text))];
        if self.shown.replace(latest) != Some(latest) {
            due.push(history.json().map(|text| event("history", text)));
        }
        due
    }
}

fn event(name: &str, text: String) -> Event {
    Event::default().event(name).data(text)
}

fn updates(from: Updates) -> impl Stream<Item = serde_json::Result<Event>> {
    let seconds = stream::unfold(from, async |mut updates| Some((updates.next().await, updates)));
    seconds.flat_map(stream::iter)
}
