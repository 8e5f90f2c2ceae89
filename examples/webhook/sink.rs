//! Posts events to a URL as JSON arrays, one request after the other. It is a complete sink.
//!
//! It keeps the promises of `atdata_bridge::sink::contract` in this way:
//!
//! 1. *Fail-closed*: an event is durable when the receiver answers 2xx, which means by its own contract that
//!    the event is stored.
//! 2. *One verdict per delivery*: all events of a request get their verdicts together. After any other error
//!    the connection ends, and the worker hands the events over again.
//! 3. *Order*: there is one request at a time, in the order of submission, and no request after a failed one.
//! 4. *No duplicates made by the sink*: a lost answer is the exception, so the receiver should recognise
//!    events by their `id`.
//! 5. *Bounded*: at most [`WINDOW`] deliveries are in flight.
//! 6. *It says what it holds*: it can't, because a receiver can't be read. So it has no `claim`, and is
//!    at-least-once: after SIGKILL of the bridge all events that the broker has not seen acknowledged, at most
//!    `prefetch`, are posted again, first and in the same order. The receiver makes it exactly-once by its last
//!    ids, 4 × `prefetch` of them. If yours can be asked for these, let `claim` return them.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use atdata_bridge::finding::{Code, Finding};
use atdata_bridge::secret::Secret;
use atdata_bridge::sink::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use atdata_bridge::sink::{
    Delivery, DeliveryId, Rejection, Sink, SinkContext, SinkError, Submit, Verdict, Verdicts,
};
use atdata_bridge::units::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use ureq::Agent;
use ureq::http::StatusCode;

/// The most deliveries without a verdict.
const WINDOW: usize = 1024;

/// Events posted to a URL, as a JSON array of objects with `id`, `key`, `timestamp` and `body`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebhookConfig {
    /// Where to: `http://` or `https://`. Required.
    #[schemars(example = &"https://example.com/events")]
    pub(crate) url: Option<String>,
    /// Sent as `Authorization: Bearer`; better kept in a file: `token_file`.
    #[schemars(example = &"0123456789")]
    pub(crate) token: Option<Secret>,
    /// A file that holds the token; one line feed at its end is ignored.
    #[schemars(example = &"/etc/atdata-bridge/token")]
    pub(crate) token_file: Option<PathBuf>,
    /// The most events in one request.
    pub(crate) batch: u32,
    /// How long a request may take.
    pub(crate) timeout: Period,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { url: None, token: None, token_file: None, batch: 100, timeout: Period::secs(10) }
    }
}

/// The kind of sink with `kind = "webhook"`.
pub(crate) struct WebhookKind;

impl SinkKind for WebhookKind {
    const NAME: &'static str = "webhook";

    type Config = WebhookConfig;

    fn check(
        config: WebhookConfig,
        _: &BuildContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn SinkFactory>> {
        let url = diagnostics.required("url", config.url.as_deref(), "where events are posted to");
        if url.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            diagnostics.refuse("url", "is not a url: write `http://host/path` or `https://host/path`");
        }
        if config.batch == 0 {
            diagnostics.refuse("batch", "must be at least 1");
        }
        let token = diagnostics.secret("token", config.token.as_ref(), config.token_file.as_deref());
        let batch = usize::try_from(config.batch).unwrap_or(WINDOW).min(WINDOW);
        Some(Arc::new(WebhookSettings { url: url?, token, batch, timeout: config.timeout.0 }))
    }
}

#[derive(Clone, Debug)]
struct WebhookSettings {
    url: String,
    token: Option<Secret>,
    batch: usize,
    timeout: Duration,
}

impl SinkFactory for WebhookSettings {
    fn build(&self, _: SinkContext) -> Box<dyn Sink> {
        let config = Agent::config_builder().timeout_global(Some(self.timeout)).http_status_as_error(false);
        Box::new(WebhookSink { settings: self.clone(), agent: config.build().new_agent() })
    }

    fn destination(&self) -> Option<SinkDestination> {
        Some(SinkDestination { place: self.url.clone(), option: "url" })
    }

    fn keeps(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

#[derive(Clone)]
struct WebhookSink {
    settings: WebhookSettings,
    agent: Agent,
}

/// One event in the JSON array of a request.
#[derive(Serialize)]
struct Posted<'a> {
    id: &'a str,
    key: String,
    timestamp: Option<i64>,
    body: &'a str,
}

/// Verdicts, or the error that ends the connection.
type Outcome = Result<Vec<(DeliveryId, Verdict)>, SinkError>;

#[async_trait]
impl Sink for WebhookSink {
    fn keeps_order(&self) -> bool {
        true
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        let (deliveries, queue) = mpsc::channel(WINDOW);
        let (outcomes, verdicts) = mpsc::channel(1);
        let mut webhook = self.clone();
        // A thread, because this HTTP client blocks. It ends after the producer and the acks are dropped: at
        // once, or when the current request ends.
        thread::Builder::new()
            .name("webhook".to_owned())
            .spawn(move || webhook.post_all(queue, &outcomes))
            .map_err(|error| SinkError::unavailable("cannot start a thread").caused_by(error))?;
        Ok((Box::new(WebhookProducer(deliveries)), Box::new(WebhookAcks(verdicts))))
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        let webhook = self.clone();
        let status = tokio::task::spawn_blocking(move || webhook.send("[]".to_owned()))
            .await
            .map_err(|error| SinkError::unavailable("the request was given up").caused_by(error))??;
        match status.is_success() {
            true => {
                let message = format!("{} takes an empty list", self.settings.url);
                Ok(vec![Finding::detail(Code::new("webhook-receiver"), message)])
            }
            false => Err(self.error_of(status)),
        }
    }
}

impl WebhookSink {
    /// Posts the waiting events, each time as many as fit into one request. Ends at the first error, so that
    /// no event overtakes a failed one.
    fn post_all(&mut self, mut queue: mpsc::Receiver<Delivery>, outcomes: &mpsc::Sender<Outcome>) {
        let mut batch = Vec::with_capacity(self.settings.batch);
        while queue.blocking_recv_many(&mut batch, self.settings.batch) > 0 {
            let mut verdicts = Vec::with_capacity(batch.len());
            let posted = self.post(&batch, &mut verdicts);
            batch.clear();
            // Verdicts given before the error count. Sending fails once the acks are dropped.
            let settled = verdicts.is_empty() || outcomes.blocking_send(Ok(verdicts)).is_ok();
            if let Err(error) = posted {
                drop(outcomes.blocking_send(Err(error)));
                return;
            }
            if !settled {
                return;
            }
        }
    }

    /// Posts a batch. If the receiver refuses it, posts each half of it, until the one refused event is
    /// found.
    fn post(&self, batch: &[Delivery], verdicts: &mut Vec<(DeliveryId, Verdict)>) -> Result<(), SinkError> {
        let status = self.send(body(batch)?)?;
        match (status.as_u16(), batch) {
            (200..=299, _) => {
                verdicts.extend(batch.iter().map(|delivery| (delivery.id, Verdict::Durable)));
                Ok(())
            }
            (400 | 413 | 422, [delivery]) => {
                let detail = format!("{} answers {status}", self.settings.url);
                verdicts.push((delivery.id, Verdict::Reject(Rejection { reason: "refused", detail })));
                Ok(())
            }
            (400 | 413 | 422, _) => {
                let (front, back) = batch.split_at(batch.len() / 2);
                self.post(front, verdicts)?;
                self.post(back, verdicts)
            }
            _ => Err(self.error_of(status)),
        }
    }

    fn send(&self, body: String) -> Result<StatusCode, SinkError> {
        let mut request = self.agent.post(&self.settings.url).content_type("application/json");
        if let Some(token) = &self.settings.token {
            request = request.header("Authorization", format!("Bearer {}", token.reveal()));
        }
        let unreachable = |error| {
            SinkError::unavailable(format!("{} can't be reached", self.settings.url)).caused_by(error)
        };
        request.send(body).map(|response| response.status()).map_err(unreachable)
    }

    fn error_of(&self, status: StatusCode) -> SinkError {
        let message = format!("{} answers {status}", self.settings.url);
        match status.as_u16() {
            401 | 403 => SinkError::misconfigured(format!("{message}: check token")),
            404 | 405 => SinkError::misconfigured(format!("{message}: check url")),
            _ => SinkError::unavailable(message),
        }
    }
}

fn body(batch: &[Delivery]) -> Result<String, SinkError> {
    let posted = |delivery: &Delivery| {
        let event = &delivery.event;
        let (id, body) = (event.message_id(), String::from_utf8_lossy(event.body()));
        let posted =
            Posted { id: &id, key: event.key.to_string(), timestamp: event.message.timestamp, body: &body };
        serde_json::to_string(&posted)
    };
    let objects: Result<Vec<_>, _> = batch.iter().map(posted).collect();
    let objects = objects
        .map_err(|error| SinkError::misconfigured("cannot write an event as JSON").caused_by(error))?;
    Ok(format!("[{}]", objects.join(",")))
}

struct WebhookProducer(mpsc::Sender<Delivery>);

#[async_trait]
impl Submit for WebhookProducer {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        // Sending fails if the channel is full, or closed. If it is closed, the acks return the reason.
        let taken = deliveries.iter().take_while(|delivery| self.0.try_send((*delivery).clone()).is_ok());
        Ok(taken.count())
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

struct WebhookAcks(mpsc::Receiver<Outcome>);

#[async_trait]
impl Verdicts for WebhookAcks {
    async fn next(&mut self) -> Outcome {
        self.0.recv().await.unwrap_or_else(|| Err(SinkError::unavailable("the webhook's thread has ended")))
    }
}
