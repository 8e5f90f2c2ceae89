//! Wraps a sink and checks that its verdicts keep promise 3: no event is durable before the earlier events of
//! its key have their verdicts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use atdata_bridge::finding::Finding;
use atdata_bridge::key::Key;
use atdata_bridge::sink::{Delivery, DeliveryId, Held, Sink, SinkError, Submit, Verdict, Verdicts};

/// The deliveries of the current connection that have no verdict yet.
type InFlight = Arc<Mutex<BTreeMap<DeliveryId, Key>>>;

pub struct Watched(pub Box<dyn Sink>);

struct WatchedSubmit {
    inner: Box<dyn Submit>,
    in_flight: InFlight,
}

struct WatchedVerdicts {
    inner: Box<dyn Verdicts>,
    in_flight: InFlight,
}

#[async_trait]
impl Sink for Watched {
    fn keeps_order(&self) -> bool {
        self.0.keeps_order()
    }

    fn takes_over(&self) -> bool {
        self.0.takes_over()
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        let (submit, verdicts) = self.0.open().await?;
        let in_flight = InFlight::default();
        Ok((
            Box::new(WatchedSubmit { inner: submit, in_flight: Arc::clone(&in_flight) }),
            Box::new(WatchedVerdicts { inner: verdicts, in_flight }),
        ))
    }

    async fn claim(&mut self, at_least: usize) -> Result<Option<Held>, SinkError> {
        self.0.claim(at_least).await
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        self.0.probe().await
    }
}

#[async_trait]
impl Submit for WatchedSubmit {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        // A verdict may come before the call returns.
        let mut in_flight = self.in_flight.lock().unwrap();
        let taken = self.inner.submit(deliveries)?;
        in_flight.extend(deliveries[..taken].iter().map(|delivery| (delivery.id, delivery.event.key)));
        Ok(taken)
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.inner.close().await
    }
}

#[async_trait]
impl Verdicts for WatchedVerdicts {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        let verdicts = self.inner.next().await?;
        let mut in_flight = self.in_flight.lock().unwrap();
        for (id, verdict) in &verdicts {
            let key = in_flight.remove(id).expect("a verdict for an event in flight");
            if matches!(verdict, Verdict::Durable) {
                let earlier = in_flight.range(..id).find(|(_, other)| **other == key);
                assert_eq!(
                    earlier, None,
                    "{id:?} is durable before an earlier event of its key has a verdict"
                );
            }
        }
        Ok(verdicts)
    }

    fn health(&self) -> Result<(), SinkError> {
        self.inner.health()
    }

    fn forget_refused(&self) {
        self.inner.forget_refused();
    }
}
