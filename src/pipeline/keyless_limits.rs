//! Counts the events without a usable key against the limits on dead letters, each event once. Suggests
//! values for `event.keys` when a limit is exceeded. Does no I/O.

use crate::dead_letter::{DeadLetterLimits, LimitExceededError};
use crate::event::{Event, EventError};
use crate::key::Suggestions;
use crate::recent_ids::RecentIds;

/// Counts events without a usable key; see the module documentation.
#[derive(Debug)]
pub(super) struct KeylessLimits {
    limits: DeadLetterLimits,
    /// The ids of counted events. The broker delivers events again that were not acknowledged; these must not
    /// be counted twice.
    counted: RecentIds,
    /// Collected from the events without a usable key since the last event with one.
    suggestions: Suggestions,
}

impl KeylessLimits {
    /// Creates the counter; it remembers the ids of the last `capacity` events.
    pub(super) fn new(limits: DeadLetterLimits, capacity: usize) -> Self {
        Self { limits, counted: RecentIds::new(capacity), suggestions: Suggestions::default() }
    }

    /// Begins a new session: the broker may deliver events again that are already counted.
    pub(super) fn begin_session(&mut self) {
        self.counted.refresh();
    }

    /// Counts the events of a batch that were not counted before.
    ///
    /// # Errors
    /// A limit is exceeded, and no event of this batch may be taken. The text explains this to the operator.
    pub(super) fn count(&mut self, events: &[Event]) -> Result<(), String> {
        let mut good = 0;
        for event in events {
            let id = &event.message.id;
            if self.counted.holds(id) {
                continue;
            }
            self.counted.record(id);
            let Some(defect) = &event.defect else {
                good += 1;
                continue;
            };
            self.good(std::mem::take(&mut good));
            self.suggestions.add(&event.message.body);
            self.limits.dead().map_err(|exceeded| self.hold(exceeded, defect))?;
        }
        self.good(good);
        Ok(())
    }

    fn good(&mut self, count: u64) {
        if count > 0 {
            self.limits.good(count);
            self.suggestions = Suggestions::default();
        }
    }

    fn hold(&self, exceeded: LimitExceededError, defect: &EventError) -> String {
        let (found, option) = (&self.suggestions, exceeded.option());
        format!(
            "{exceeded} have no usable key; the last one: {defect}; {found}: {} and restart, or restart with a higher \
             {option} to make them dead letters",
            found.advice()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing;

    const MD5: &str = "9e107d9d372bb6826bd81d3542a419d6";

    fn event(id: u64, body: &str) -> Event {
        testing::event(id, body.replace("MD5", MD5))
    }

    fn keyless(ids: std::ops::Range<u64>) -> Vec<Event> {
        ids.map(|id| event(id, r#"{"email":{"md5":"MD5"}}"#)).collect()
    }

    #[test]
    fn events_that_come_again_are_not_counted_again() {
        let mut count = KeylessLimits::new(DeadLetterLimits::new(100, 1.0), 1000);
        for _session in 0..10 {
            count.begin_session();
            count.count(&keyless(0..60)).unwrap();
        }
        count.count(&[event(60, r#"{"md5":"MD5"}"#)]).unwrap();
        count.begin_session();
        // The event with a key ended the run. The events before it come again and must not begin a new run.
        count.count(&keyless(0..60)).unwrap();
        count.count(&keyless(61..161)).unwrap();
        count.count(&keyless(161..162)).unwrap_err();
    }

    #[test]
    fn the_hold_names_the_members_that_hold_an_md5_and_no_value() {
        let mut count = KeylessLimits::new(DeadLetterLimits::new(100, 1.0), 1000);
        let text = count.count(&keyless(0..101)).unwrap_err();
        let expected = "more than 100 events in a row have no usable key; the last one: no key at /md5; \
                        `/email/md5` holds an MD5 in 100 of 100: set event.keys = [\"/email/md5\"] and restart, \
                        or restart with a higher dead_letters.max_run to make them dead letters";
        assert_eq!(text, expected);
        let mut count = KeylessLimits::new(DeadLetterLimits::new(100, 0.0), 1000);
        let text = count.count(&[event(1, "jane")]).unwrap_err();
        assert!(text.contains("no member of their bodies holds an MD5"), "{text}");
        assert!(text.contains("dead_letters.max_share") && !text.contains("jane"), "{text}");
    }
}
