//! Opens the worker's sink, hands deliveries over, reads verdicts, and opens the sink again after its connection
//! is lost.

use std::mem::{replace, take};
use std::sync::Arc;
use std::time::Duration;

use super::parts::{OpenedSink, SinkIo};
use super::pending_event::VerdictEffect;
use super::{ContractError, OFFER, SinkWorker};
use crate::sink::{DeliveryId, Sink, SinkError, Verdict};

/// The longest wait before a refused event is offered again while the worker holds.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl SinkWorker {
    pub(super) fn open(&mut self) {
        self.sink_io = match replace(&mut self.sink_io, SinkIo::Moving) {
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
                self.connected();
                let health = verdicts.health();
                self.sink_io = SinkIo::Open { sink, submit, verdicts };
                match health {
                    // Events that wait can move only after the claim.
                    Ok(()) if self.state.owes_claim() => {}
                    Ok(()) => self.ready(),
                    // The sink is open, but the error that ended the last connection may continue: the
                    // back-off must continue to grow.
                    Err(error) => {
                        self.degraded = true;
                        self.show(&error);
                    }
                }
            }
            Err(error) => {
                self.sink_io = SinkIo::Closed(sink);
                self.report_error(&error);
            }
        }
    }

    pub(super) fn hand_over(&mut self) {
        let SinkIo::Open { submit, .. } = &mut self.sink_io else { return };
        loop {
            let most = match &self.hold {
                Some(_) if self.state.in_flight() > 0 => return,
                Some(_) => 1,
                None => OFFER,
            };
            self.state.stage(most, &mut self.deliveries);
            if self.deliveries.is_empty() {
                return;
            }
            match submit.submit(&self.deliveries) {
                Ok(taken) => {
                    let taken = taken.min(self.deliveries.len());
                    self.state.handed_over(taken);
                    if let (Some(hold), [offered]) = (&mut self.hold, &self.deliveries[..taken]) {
                        hold.offered = Some(offered.id);
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
        let counters = Arc::clone(&self.parts.counters);
        let mut recorder = counters.durable_now();
        let mut durable = 0;
        for (id, verdict) in verdicts {
            if matches!(verdict, Verdict::Reject(_)) {
                self.good(take(&mut durable));
            }
            match self.effect_of(id, verdict)? {
                VerdictEffect::Durable(times) => {
                    recorder.add(times);
                    durable += 1;
                    self.end_hold(id);
                }
                VerdictEffect::Retry(error) => self.report_error(&error),
                VerdictEffect::Refused => self.wait(LONGEST_WAIT),
                VerdictEffect::WriteDeadLetter(pending, rejection) => self.reject(pending, rejection),
            }
        }
        self.good(durable);
        self.reject_overtaken();
        Ok(())
    }

    /// Rejects the overtaken events. They can't be offered again without breaking the order, so the limits do
    /// not apply.
    fn reject_overtaken(&mut self) {
        for (pending, rejection) in self.state.take_overtaken() {
            self.reject(pending, rejection);
        }
    }

    fn effect_of(&mut self, id: DeliveryId, verdict: Verdict) -> Result<VerdictEffect, ContractError> {
        let effect = match verdict {
            Verdict::Reject(rejection) if self.is_over_limit(id, &rejection) => {
                self.state.refuse(id, rejection).map(|()| VerdictEffect::Refused)
            }
            verdict => self.state.verdict(id, verdict),
        };
        effect.map_err(|unknown| ContractError {
            sink: Arc::clone(&self.parts.name),
            detail: unknown.to_string(),
        })
    }

    fn good(&mut self, durable: u64) {
        if durable == 0 {
            return;
        }
        self.parts.counters.durable.add(durable);
        // Events that were in flight when a hold began prove nothing about its cause.
        if self.hold.is_none()
            && let Some(limits) = &mut self.parts.limits
        {
            limits.good(durable);
        }
        if self.wait_until.is_none() && !self.degraded {
            self.ready();
        }
    }

    /// Shows an error that the sink's client library handles by itself, and shows when it ends. Every other
    /// error gives a verdict or ends the connection.
    pub(super) fn check_health(&mut self) {
        let verdicts = match &self.sink_io {
            SinkIo::Open { verdicts, .. } => verdicts,
            // The connection is the same before and after.
            SinkIo::Claiming(claiming) if claiming.is_long() => return self.show_claim(),
            SinkIo::Claiming(_) => return,
            _ => {
                self.degraded = false;
                return;
            }
        };
        match verdicts.health() {
            Ok(()) if take(&mut self.degraded) && self.wait_until.is_none() => self.ready(),
            Ok(()) => {}
            Err(error) => {
                self.degraded = true;
                self.show(&error);
            }
        }
    }

    pub(super) fn broken(&mut self, error: &SinkError) {
        self.sink_io = match replace(&mut self.sink_io, SinkIo::Moving) {
            SinkIo::Open { sink, .. } => SinkIo::Closed(sink),
            other => other,
        };
        self.state.connection_lost();
        self.reject_overtaken();
        self.give_up_session();
        self.report_error(error);
    }
}
