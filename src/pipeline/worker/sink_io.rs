//! What passes between a lane and its sink: it is opened, handed deliveries, asked for verdicts, and opened
//! anew when it breaks.

use std::future::pending;
use std::mem::{replace, take};
use std::sync::Arc;

use super::state::VerdictEffect;
use super::{Boxed, ContractError, OFFER, SinkWorker};
use crate::sink::{DeliveryId, Sink, SinkError, Submit, Verdict, Verdicts};

pub(super) type OpenedSink = Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError>;

pub(super) enum SinkIo {
    /// Not open; the next try may begin when no wait is on.
    Closed(Box<dyn Sink>),
    Opening(Boxed<(Box<dyn Sink>, OpenedSink)>),
    Open {
        sink: Box<dyn Sink>,
        submit: Box<dyn Submit>,
        verdicts: Box<dyn Verdicts>,
    },
    /// Only while moving from one to the other.
    Moving,
}

impl SinkWorker {
    pub(super) fn open(&mut self) {
        self.sinking = match replace(&mut self.sinking, SinkIo::Moving) {
            SinkIo::Closed(mut sink) => SinkIo::Opening(Box::pin(async move {
                let opened = sink.open().await;
                (sink, opened)
            })),
            other => other,
        };
    }

    pub(super) fn on_opened(&mut self, sink: Box<dyn Sink>, opened: OpenedSink) {
        match opened {
            Ok((submit, verdicts)) => {
                let health = verdicts.health();
                self.sinking = SinkIo::Open { sink, submit, verdicts };
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
                self.sinking = SinkIo::Closed(sink);
                self.report_error(&error);
            }
        }
    }

    pub(super) fn hand_over(&mut self) {
        let SinkIo::Open { submit, .. } = &mut self.sinking else { return };
        loop {
            let most = match &self.hold {
                Some(_) if self.core.in_flight() > 0 => return,
                Some(_) => 1,
                None => OFFER,
            };
            self.core.stage(most, &mut self.deliveries);
            if self.deliveries.is_empty() {
                return;
            }
            match submit.submit(&self.deliveries) {
                Ok(taken) => {
                    let taken = taken.min(self.deliveries.len());
                    self.core.handed_over(taken);
                    if let (Some(hold), [offered]) = (&mut self.hold, &self.deliveries[..taken]) {
                        hold.offer(offered.id);
                    }
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
    ) -> Result<(), ContractError> {
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
            if matches!(verdict, Verdict::Reject(_)) {
                self.good(take(&mut durable));
            }
            match self.effect_of(id, verdict)? {
                VerdictEffect::Durable(received) => {
                    settling.add(received);
                    durable += 1;
                    self.end_hold(id);
                }
                VerdictEffect::Retry(error) => self.report_error(&error),
                VerdictEffect::Refused => self.offer_again_later(),
                VerdictEffect::Bury(pending, rejection) => self.reject(pending, rejection),
            }
        }
        self.good(durable);
        self.reject_overtaken();
        Ok(())
    }

    /// Order comes before the limits: these can't be offered again.
    fn reject_overtaken(&mut self) {
        for (pending, rejection) in self.core.take_overtaken() {
            self.reject(pending, rejection);
        }
    }

    fn effect_of(&mut self, id: DeliveryId, verdict: Verdict) -> Result<VerdictEffect, ContractError> {
        let effect = match verdict {
            Verdict::Reject(rejection) if self.is_over_limit(id, &rejection) => {
                self.core.refuse(id, rejection).map(|()| VerdictEffect::Refused)
            }
            verdict => self.core.verdict(id, verdict),
        };
        effect.map_err(|unknown| ContractError { sink: Arc::clone(&self.name), detail: unknown.to_string() })
    }

    fn good(&mut self, durable: u64) {
        if durable == 0 {
            return;
        }
        self.counters.durable.add(durable);
        // What was in flight when a hold began says nothing about its cause.
        if self.hold.is_none()
            && let Some(limits) = &mut self.limits
        {
            limits.good(durable);
        }
        if self.wait_until.is_none() && !self.ailing {
            self.ready();
        }
    }

    /// Shows a trouble that the sink rides out by itself, and its end; every other has a verdict, or breaks
    /// the opening.
    pub(super) fn look_after_the_sink(&mut self) {
        let SinkIo::Open { verdicts, .. } = &self.sinking else {
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
        self.sinking = match replace(&mut self.sinking, SinkIo::Moving) {
            SinkIo::Open { sink, .. } => SinkIo::Closed(sink),
            other => other,
        };
        self.core.connection_lost();
        self.reject_overtaken();
        self.report_error(error);
    }
}

/// What a sink has said.
pub(super) enum SinkHappening {
    Opened(Box<dyn Sink>, OpenedSink),
    Verdicts(Result<Vec<(DeliveryId, Verdict)>, SinkError>),
}

/// The next thing the sink has to say. Cancel-safe, since [`Verdicts::next`] is.
pub(super) async fn next_of(sinking: &mut SinkIo) -> SinkHappening {
    match sinking {
        SinkIo::Opening(opening) => {
            let (sink, opened) = opening.await;
            SinkHappening::Opened(sink, opened)
        }
        SinkIo::Open { verdicts, .. } => SinkHappening::Verdicts(verdicts.next().await),
        SinkIo::Closed(_) | SinkIo::Moving => pending().await,
    }
}
