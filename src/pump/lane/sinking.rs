//! What passes between a lane and its sink: it is opened, handed deliveries, asked for verdicts, and opened
//! anew when it breaks.

use std::future::pending;
use std::mem::{replace, take};
use std::sync::Arc;

use super::core::Effect;
use super::{Boxed, BrokenContract, Lane, OFFER};
use crate::sink::{DeliveryId, Sink, SinkError, Submit, Verdict, Verdicts};

pub(super) type Opened = Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError>;

pub(super) enum Sinking {
    /// Not open; the next try may begin when no wait is on.
    Closed(Box<dyn Sink>),
    Opening(Boxed<(Box<dyn Sink>, Opened)>),
    Open {
        sink: Box<dyn Sink>,
        submit: Box<dyn Submit>,
        verdicts: Box<dyn Verdicts>,
    },
    /// Only while moving from one to the other.
    Moving,
}

impl Lane {
    pub(super) fn open(&mut self) {
        self.sinking = match replace(&mut self.sinking, Sinking::Moving) {
            Sinking::Closed(mut sink) => Sinking::Opening(Box::pin(async move {
                let opened = sink.open().await;
                (sink, opened)
            })),
            other => other,
        };
    }

    pub(super) fn on_opened(&mut self, sink: Box<dyn Sink>, opened: Opened) {
        match opened {
            Ok((submit, verdicts)) => {
                let health = verdicts.health();
                self.sinking = Sinking::Open { sink, submit, verdicts };
                match health {
                    Ok(()) => self.ready(),
                    // Open, but what ended the opening before may not be over: the back-off goes on growing.
                    Err(error) => {
                        self.ailing = true;
                        self.show(&error);
                    }
                }
            }
            Err(error) => {
                self.sinking = Sinking::Closed(sink);
                self.trouble(&error);
            }
        }
    }

    pub(super) fn hand_over(&mut self) {
        let Sinking::Open { submit, .. } = &mut self.sinking else { return };
        loop {
            self.core.stage(OFFER, &mut self.deliveries);
            if self.deliveries.is_empty() {
                return;
            }
            match submit.submit(&self.deliveries) {
                Ok(taken) => {
                    let taken = taken.min(self.deliveries.len());
                    self.core.handed_over(taken);
                    if taken < self.deliveries.len() {
                        return;
                    }
                }
                Err(error) => return self.broken(&error),
            }
        }
    }

    pub(super) fn on_verdicts(
        &mut self,
        verdicts: Result<Vec<(DeliveryId, Verdict)>, SinkError>,
    ) -> Result<(), BrokenContract> {
        let verdicts = match verdicts {
            Ok(verdicts) => verdicts,
            Err(error) => {
                self.broken(&error);
                return Ok(());
            }
        };
        let counters = Arc::clone(&self.counters);
        let mut settling = counters.settling.ending_now();
        let mut durable = 0;
        for (id, verdict) in verdicts {
            let effect = self.core.verdict(id, verdict).map_err(|unknown| BrokenContract {
                sink: Arc::clone(&self.name),
                detail: unknown.to_string(),
            })?;
            match effect {
                Effect::Durable(received) => {
                    settling.add(received);
                    durable += 1;
                }
                Effect::Retry(error) => self.trouble(&error),
                Effect::Bury(pending, rejection) => {
                    self.good(take(&mut durable));
                    self.reject(pending, rejection);
                }
            }
        }
        self.good(durable);
        Ok(())
    }

    fn good(&mut self, durable: u64) {
        if durable == 0 {
            return;
        }
        self.counters.durable.add(durable);
        if let Some(limits) = &mut self.limits {
            limits.good(durable);
        }
        if self.wait_until.is_none() && !self.ailing {
            self.ready();
        }
    }

    /// Shows a trouble that the sink rides out by itself, and its end; every other has a verdict, or breaks
    /// the opening.
    pub(super) fn look_after_the_sink(&mut self) {
        let Sinking::Open { verdicts, .. } = &self.sinking else {
            self.ailing = false;
            return;
        };
        match verdicts.health() {
            Ok(()) if take(&mut self.ailing) && self.wait_until.is_none() => self.ready(),
            Ok(()) => {}
            Err(error) => {
                self.ailing = true;
                self.show(&error);
            }
        }
    }

    fn broken(&mut self, error: &SinkError) {
        self.sinking = match replace(&mut self.sinking, Sinking::Moving) {
            Sinking::Open { sink, .. } => Sinking::Closed(sink),
            other => other,
        };
        self.core.broke();
        self.trouble(error);
    }
}

/// What a sink has said.
pub(super) enum Happened {
    Opened(Box<dyn Sink>, Opened),
    Verdicts(Result<Vec<(DeliveryId, Verdict)>, SinkError>),
}

/// The next thing the sink has to say. Cancel-safe, since [`Verdicts::next`] is.
pub(super) async fn next_of(sinking: &mut Sinking) -> Happened {
    match sinking {
        Sinking::Opening(opening) => {
            let (sink, opened) = opening.await;
            Happened::Opened(sink, opened)
        }
        Sinking::Open { verdicts, .. } => Happened::Verdicts(verdicts.next().await),
        Sinking::Closed(_) | Sinking::Moving => pending().await,
    }
}
