//! Writes events to standard output, one line each, for inspection. An event is durable when standard output
//! has taken and flushed it; the reader is responsible for the rest. When that reader closes the pipe, as
//! `head` does, the process ends.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use super::{Delivery, DeliveryId, Sink, SinkContext, SinkError, Submit, Verdict, Verdicts};
use crate::finding::{Finding, codes};

/// The most deliveries that wait to be written, and the most in one write.
const BATCH: usize = 1024;

/// The most written batches whose verdicts are not read yet.
const OUTCOMES: usize = 4;

type StdoutWriter = Box<dyn AsyncWrite + Send + Unpin>;
type WriteResult = Result<Vec<DeliveryId>, SinkError>;

/// The kind of sink with `kind = "stdout"`.
pub struct StdoutKind;

/// Events on standard output, one line each, for looking. Has no keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StdoutConfig {}

impl SinkKind for StdoutKind {
    const NAME: &'static str = "stdout";

    type Config = StdoutConfig;

    fn check(config: StdoutConfig, _: &BuildContext, _: &mut Diagnostics) -> Option<Arc<dyn SinkFactory>> {
        Some(Arc::new(config))
    }
}

impl SinkFactory for StdoutConfig {
    fn build(&self, _: SinkContext) -> Box<dyn Sink> {
        Box::new(StdoutSink::onto(|| Box::new(tokio::io::stdout())))
    }

    fn destination(&self) -> Option<SinkDestination> {
        None
    }

    fn keeps(&self) -> Result<(), &'static str> {
        Err("nobody keeps what goes to standard output")
    }
}

/// The sink of `kind = "stdout"`.
pub struct StdoutSink {
    output: Box<dyn FnMut() -> StdoutWriter + Send>,
    /// The error of the last write, until a write succeeds. Opening always succeeds, so it does not prove that
    /// writing works.
    last_error: watch::Sender<Option<SinkError>>,
}

impl StdoutSink {
    fn onto(output: impl FnMut() -> StdoutWriter + Send + 'static) -> Self {
        Self { output: Box::new(output), last_error: watch::Sender::default() }
    }
}

#[async_trait]
impl Sink for StdoutSink {
    fn keeps_order(&self) -> bool {
        true
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        let (deliveries, queue) = mpsc::channel(BATCH);
        let (outcomes, written) = mpsc::channel(OUTCOMES);
        let last_error = self.last_error.subscribe();
        let writing = write(queue, outcomes, (self.output)(), self.last_error.clone());
        let writer = AbortOnDropHandle::new(tokio::spawn(writing));
        let producer = StdoutProducer { deliveries: Some(deliveries), writer };
        Ok((Box::new(producer), Box::new(StdoutAcks { outcomes: written, last_error })))
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        Ok(vec![Finding::detail(codes::STDOUT, "events go to standard output")])
    }
}

/// Writes the waiting deliveries in batches, until the producer is dropped or the output fails.
async fn write(
    mut queue: mpsc::Receiver<Delivery>,
    outcomes: mpsc::Sender<WriteResult>,
    mut output: StdoutWriter,
    last_error: watch::Sender<Option<SinkError>>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut lines = Vec::new();
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        lines.clear();
        batch.iter().for_each(|delivery| append(&mut lines, delivery.event.body()));
        let outcome = match write_lines(&mut output, &lines).await {
            Ok(()) => Ok(batch.drain(..).map(|delivery| delivery.id).collect()),
            Err(error) => Err(failure(&error)),
        };
        let failed = outcome.is_err();
        last_error.send_replace(outcome.as_ref().err().cloned());
        // Sending fails once the acks are dropped: nobody needs the outcomes then, and this task ends.
        if outcomes.send(outcome).await.is_err() || failed {
            return;
        }
    }
}

/// Makes the sink's error of a failed write. A pipe never gets a second reader, so the process ends. All
/// other errors, such as a full disk, need an operator.
fn failure(error: &io::Error) -> SinkError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => SinkError::reader_gone("whoever read standard output has left"),
        _ => SinkError::misconfigured(format!(
            "standard output can't be written: {error}; see where it goes, or take another kind of sink"
        )),
    }
}

async fn write_lines(output: &mut StdoutWriter, lines: &[u8]) -> io::Result<()> {
    output.write_all(lines).await?;
    output.flush().await
}

/// Appends an event as one line. Line ends become spaces: in JSON a raw line end can only be white space
/// (D6).
fn append(lines: &mut Vec<u8>, body: &[u8]) {
    lines.extend(body.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    lines.push(b'\n');
}

/// Takes events and queues them for the task that writes.
struct StdoutProducer {
    deliveries: Option<mpsc::Sender<Delivery>>,
    writer: AbortOnDropHandle<()>,
}

#[async_trait]
impl Submit for StdoutProducer {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        let closed = || SinkError::unavailable("standard output is closed");
        let queue = self.deliveries.as_ref().ok_or_else(closed)?;
        for (taken, delivery) in deliveries.iter().enumerate() {
            match queue.try_send(delivery.clone()) {
                Ok(()) => (),
                Err(TrySendError::Full(_)) => return Ok(taken),
                Err(TrySendError::Closed(_)) => return Err(closed()),
            }
        }
        Ok(deliveries.len())
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.deliveries = None;
        let ended = (&mut self.writer).await;
        ended.map_err(|error| SinkError::unavailable("the writer of standard output broke").caused_by(error))
    }
}

/// Gives the verdicts on the batches that were written.
struct StdoutAcks {
    outcomes: mpsc::Receiver<WriteResult>,
    last_error: watch::Receiver<Option<SinkError>>,
}

#[async_trait]
impl Verdicts for StdoutAcks {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        match self.outcomes.recv().await {
            Some(outcome) => Ok(outcome?.into_iter().map(|id| (id, Verdict::Durable)).collect()),
            None => Err(SinkError::unavailable("standard output is closed")),
        }
    }

    fn health(&self) -> Result<(), SinkError> {
        self.last_error.borrow().clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::sink::{SinkErrorKind, testing};

    fn deliveries(bodies: impl Iterator<Item = String>) -> Vec<Delivery> {
        testing::deliveries(bodies.map(|body| testing::event(1, body)))
    }

    /// A sink onto a pipe that holds `capacity` bytes, and the pipe's other end.
    fn piped(capacity: usize) -> (StdoutSink, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(capacity);
        let mut near = Some(near);
        (StdoutSink::onto(move || Box::new(near.take().unwrap())), far)
    }

    #[tokio::test]
    async fn every_event_is_a_line_in_order_and_settled_once_it_is_out() {
        let (mut sink, mut far) = piped(64);
        let (mut submit, mut verdicts) = sink.open().await.unwrap();
        let all = deliveries((0..5000).map(|n| format!("{{\"n\":\n{n}\r}}")));
        let reader = tokio::spawn(async move {
            let mut text = String::new();
            far.read_to_string(&mut text).await.unwrap();
            text
        });
        let (mut taken, mut settled) = (0, Vec::new());
        while settled.len() < all.len() {
            taken += submit.submit(&all[taken..]).unwrap();
            for (id, verdict) in verdicts.next().await.unwrap() {
                assert!(matches!(verdict, Verdict::Durable));
                settled.push(id);
            }
        }
        assert_eq!(settled, all.iter().map(|delivery| delivery.id).collect::<Vec<_>>());
        submit.close().await.unwrap();
        let expected: String = (0..5000).map(|n| format!("{{\"n\": {n} }}\n")).collect();
        assert_eq!(reader.await.unwrap(), expected);
    }

    /// Events that the reader has not taken are not settled, and the queue is limited.
    #[tokio::test]
    async fn nothing_is_settled_before_it_is_out() {
        let (mut sink, _far) = piped(1);
        let (mut submit, mut verdicts) = sink.open().await.unwrap();
        let all = deliveries((0..10 * BATCH).map(|n| n.to_string()));
        let mut taken = submit.submit(&all).unwrap();
        assert_eq!(taken, BATCH);
        let mut idle = 0;
        while idle < 100 {
            tokio::task::yield_now().await;
            let more = submit.submit(&all[taken..]).unwrap();
            (taken, idle) = (taken + more, if more == 0 { idle + 1 } else { 0 });
        }
        assert_eq!(taken, 2 * BATCH, "one batch at the writer, one in the queue");
        assert!(verdicts.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_closed_output_ends_the_process_and_is_no_success() {
        let (mut sink, far) = piped(64);
        drop(far);
        let (mut submit, mut verdicts) = sink.open().await.unwrap();
        submit.submit(&deliveries(["a".to_owned()].into_iter())).unwrap();
        let error = verdicts.next().await.unwrap_err();
        assert!(error.is_reader_gone(), "{error}");
        assert!(verdicts.next().await.is_err());
        assert!(submit.submit(&deliveries(["b".to_owned()].into_iter())).is_err());
    }

    /// `/dev/full` can be opened but every write fails, as on a full disk.
    #[tokio::test]
    async fn what_failed_is_shown_until_a_write_succeeds() {
        let full = || tokio::fs::File::from_std(std::fs::File::create("/dev/full").unwrap());
        let (near, _far) = tokio::io::duplex(64);
        let mut near = Some(near);
        let mut outputs = vec![Box::new(full()) as StdoutWriter];
        let mut sink =
            StdoutSink::onto(move || outputs.pop().unwrap_or_else(|| Box::new(near.take().unwrap())));
        let all = deliveries(["a".to_owned()].into_iter());
        let (mut submit, mut verdicts) = sink.open().await.unwrap();
        submit.submit(&all).unwrap();
        let error = verdicts.next().await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Misconfigured);
        assert!(error.to_string().contains("can't be written: No space left"), "{error}");
        let (mut submit, mut verdicts) = sink.open().await.unwrap();
        assert!(verdicts.health().is_err(), "that it could be opened proves nothing");
        submit.submit(&all).unwrap();
        verdicts.next().await.unwrap();
        assert!(verdicts.health().is_ok());
    }
}
