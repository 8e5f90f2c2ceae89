//! Stores published messages in constant memory, also when a million are queued. An [`EventStream`] can write
//! its n-th body at any time, and a [`Run`] is a range of its numbers.

use std::sync::Arc;

use bytes::Bytes;

use super::form::Form;
use super::generator::Generator;

/// The messages of one producer, numbered from 1. The message id ends with the number.
#[derive(Debug)]
pub(crate) struct EventStream {
    /// The number of the producer in the message id, unique in the broker.
    pub(crate) producer: u64,
    /// The namespace of AtData to which it was published.
    pub(crate) namespace: String,
    /// When its first message was sent, in milliseconds since 1970.
    pub(crate) started_ms: u64,
    /// Messages per second, for the timestamps; `None`: all have the same timestamp.
    pub(crate) rate: Option<f64>,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// The same body for every number.
    Body(Form, Bytes),
    /// Message n carries the generated event n − 1.
    Generated(Generator),
}

impl EventStream {
    /// Appends the body of message `number`.
    pub(crate) fn write_body(&self, number: u64, out: &mut Vec<u8>) {
        match &self.content {
            Content::Body(_, body) => out.extend_from_slice(body),
            Content::Generated(generator) => generator.write(number - 1, out),
        }
    }

    /// Returns the message type of message `number`.
    pub(crate) fn form(&self, number: u64) -> Form {
        match &self.content {
            Content::Body(form, _) => *form,
            Content::Generated(generator) => generator.form(number - 1),
        }
    }

    /// When message `number` was sent, in milliseconds since 1970. The same for every copy and redelivery.
    pub(crate) fn timestamp(&self, number: u64) -> u64 {
        let since = self.rate.map_or(0.0, |rate| (number - 1) as f64 * 1000.0 / rate);
        self.started_ms + since as u64
    }
}

/// Consecutive messages of one stream; never empty.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) stream: Arc<EventStream>,
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// The broker-wide sequence number of the first message. The others follow.
    pub(crate) sequence: u64,
    /// How many consumers were lost before they acknowledged these messages.
    pub(crate) redeliveries: u32,
}

impl Run {
    /// Creates a run of `count` messages of `stream` from number `first`, never delivered before.
    pub(crate) fn new(stream: Arc<EventStream>, first: u64, count: u64) -> Self {
        Self { stream, first, count, sequence: 0, redeliveries: 0 }
    }

    /// Splits off the first `count` messages, which must be fewer than all.
    pub(crate) fn split_front(&mut self, count: u64) -> Self {
        let front = Self { count, ..self.clone() };
        self.first += count;
        self.sequence += count;
        self.count -= count;
        front
    }

    /// Returns whether `next` continues this run without a gap.
    fn continues(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.stream, &next.stream)
            && self.first + self.count == next.first
            && self.sequence + self.count == next.sequence
            && self.redeliveries == next.redeliveries
    }
}

/// A list of runs in order. Adjacent runs are merged.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: std::collections::VecDeque<Run>,
    count: u64,
}

impl Runs {
    /// Number of messages in all runs.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    pub(crate) fn push_back(&mut self, run: Run) {
        self.count += run.count;
        match self.runs.back_mut() {
            Some(last) if last.continues(&run) => last.count += run.count,
            _ => self.runs.push_back(run),
        }
    }

    pub(crate) fn push_front(&mut self, run: Run) {
        self.count += run.count;
        match self.runs.front_mut() {
            Some(first) if run.continues(first) => {
                first.first = run.first;
                first.sequence = run.sequence;
                first.count += run.count;
            }
            _ => self.runs.push_front(run),
        }
    }

    /// Takes at most `limit` messages of the first run.
    pub(crate) fn pop_front(&mut self, limit: u64) -> Option<Run> {
        if limit == 0 {
            return None;
        }
        let first = self.runs.front_mut()?;
        let taken = if first.count > limit { first.split_front(limit) } else { self.runs.pop_front()? };
        self.count -= taken.count;
        Some(taken)
    }
}
