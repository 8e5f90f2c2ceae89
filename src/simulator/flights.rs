//! What one consumer was given and has not acknowledged: runs of messages with consecutive delivery
//! numbers, which the ack ids carry.

use std::collections::VecDeque;

use super::stream::Run;

/// A run with the delivery number of its first message.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) number: u64,
    pub(crate) run: Run,
}

impl Flight {
    fn end(&self) -> u64 {
        self.number + self.run.count
    }

    /// Takes the first `count` messages off; less than all of them.
    pub(crate) fn split_front(&mut self, count: u64) -> Self {
        let front = Self { number: self.number, run: self.run.split_front(count) };
        self.number += count;
        front
    }
}

/// The un-acked deliveries of one consumer, in the order of dispatch.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    flights: VecDeque<Flight>,
    count: u64,
}

impl Flights {
    /// Messages un-acked.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Appends a delivery; its numbers follow all earlier ones.
    pub(crate) fn push(&mut self, flight: Flight) {
        self.count += flight.run.count;
        self.flights.push_back(flight);
    }

    /// Whether delivery `number` is un-acked.
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.position(number).is_some()
    }

    /// Removes every delivery up to and including `number`; how many that were.
    pub(crate) fn remove_through(&mut self, number: u64) -> u64 {
        let before = self.count;
        while let Some(first) = self.flights.front_mut() {
            if first.end() <= number + 1 {
                self.count -= first.run.count;
                self.flights.pop_front();
            } else {
                if first.number <= number {
                    self.count -= first.split_front(number + 1 - first.number).run.count;
                }
                break;
            }
        }
        before - self.count
    }

    /// Removes delivery `number` alone; whether it was there.
    pub(crate) fn remove_one(&mut self, number: u64) -> bool {
        let Some(position) = self.position(number) else { return false };
        let Some(mut rest) = self.flights.remove(position) else { return false };
        let mut at = position;
        if rest.number < number {
            let before = rest.split_front(number - rest.number);
            self.flights.insert(at, before);
            at += 1;
        }
        if rest.run.count > 1 {
            rest.split_front(1);
            self.flights.insert(at, rest);
        }
        self.count -= 1;
        true
    }

    /// Everything un-acked, newest first.
    pub(crate) fn into_runs_newest_first(self) -> impl Iterator<Item = Run> {
        self.flights.into_iter().rev().map(|flight| flight.run)
    }

    fn position(&self, number: u64) -> Option<usize> {
        let after = self.flights.partition_point(|flight| flight.number <= number);
        let position = after.checked_sub(1)?;
        (number < self.flights.get(position)?.end()).then_some(position)
    }
}
