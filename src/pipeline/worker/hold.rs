//! Holds a worker while its sink refuses more events than may become dead letters (I6), until the sink takes
//! the oldest of them (D21). `sink_io.rs` offers that event again.

use super::SinkWorker;
use super::parts::{Hold, SinkIo};
use crate::dead_letter::DeadLetterLimits;
use crate::sink::{DeliveryId, Rejection};
use crate::telemetry::status::Status;

impl SinkWorker {
    /// Returns whether this rejection can't become a dead letter; the worker then holds.
    pub(super) fn is_over_limit(&mut self, id: DeliveryId, rejection: &Rejection) -> bool {
        // The other events in flight come after the event that began the hold, so they wait for it.
        if self.hold.as_ref().is_some_and(|hold| hold.offered != Some(id)) {
            return true;
        }
        let Some(Err(exceeded)) = self.parts.limits.as_mut().map(DeadLetterLimits::dead) else {
            self.hold = None;
            return false;
        };
        let Rejection { reason, detail } = rejection;
        let text = format!(
            "{exceeded} were refused; the last one: {reason}: {detail}; correct the cause, and it goes on by itself, \
             or restart with a higher {} to make them dead letters",
            exceeded.option()
        );
        self.is_ready = false;
        self.parts.reporter.report(Status::Held(text.clone()));
        self.hold = Some(Hold { offered: None, text });
        true
    }

    /// Ends the hold if the sink has taken the delivery that was offered again.
    pub(super) fn end_hold(&mut self, id: DeliveryId) {
        self.hold.take_if(|hold| hold.offered == Some(id));
    }

    /// Ends a hold or an error if no event is left that the sink has refused or not taken: the broker may have
    /// delivered them to another replica.
    pub(super) fn recover_without_events(&mut self) {
        // Between two sessions the worker has no events, which proves nothing.
        let is_idle = self.state.session().is_some() && self.is_done();
        let SinkIo::Open { verdicts, .. } = &self.sink_io else { return };
        if !is_idle {
            return;
        }
        if self.degraded && self.wait_until.is_none() {
            verdicts.forget_refused();
            self.degraded = verdicts.health().is_err();
        }
        let has_error = !self.is_ready && self.wait_until.is_none();
        if !self.degraded && (self.hold.take().is_some() || has_error) {
            self.ready();
        }
    }
}
