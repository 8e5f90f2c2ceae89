//! The thread that looks after the topic while the clients run, and says what is wrong.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use super::broker_refresh::BrokerRefresh;
use super::classify;
use super::client::ANSWER_WITHIN;
use super::context::Client;
use super::diagnosis::Diagnosis;
use super::in_flight::{ClientError, KafkaInFlight};
use super::names::Names;
use super::permissions;
use super::topic::{Leader, Topic};
use super::topic_lookup::{TopicLookupError, look, reaches};
use crate::sink::SinkError;

/// While nothing has been said, and between two questions.
const POLL: Duration = Duration::from_millis(100);
/// Between two looks at the topic, unless something asks for one.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// So long for the others, once one connection has failed.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);
/// One question of the first look.
const QUESTION: Duration = Duration::from_secs(1);
/// The question of a later one. librdkafka drops the connection on which an answer comes too late, and behind
/// records on a slow way it comes late.
const LATER_QUESTION: Duration = Duration::from_secs(5);

/// Looks after the topic while the client runs.
pub(super) struct TopicMonitor {
    pub(super) names: Names,
    /// `event.partitions`.
    pub(super) pinned: Option<NonZeroU32>,
    pub(super) reminder: BrokerRefresh,
    pub(super) outbox: Arc<KafkaInFlight>,
    pub(super) doctor: Diagnosis,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) looks: Receiver<()>,
}

impl TopicMonitor {
    pub(super) fn run(mut self, client: &Client, found: oneshot::Sender<Result<Topic, SinkError>>) {
        let first = self.first_look(client);
        let count = first.as_ref().map(|topic| topic.partitions).ok();
        let taken = found.send(first);
        let (Some(count), Ok(())) = (count, taken) else { return };
        loop {
            match self.looks.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(()) | Err(RecvTimeoutError::Timeout) if self.is_over() => return,
                // A topic that takes records is there, and a question would only wait behind them. One that takes
                // them late on purpose would answer late, too.
                Err(RecvTimeoutError::Timeout)
                    if self.outbox.was_durable_within(LOOK_EVERY) || self.outbox.is_throttled() =>
                {
                    self.reminder.heard();
                }
                Ok(()) | Err(RecvTimeoutError::Timeout) => self.check_again(client, count),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Asks until there is an answer, a trouble is known, or the time is over.
    fn first_look(&mut self, client: &Client) -> Result<Topic, SinkError> {
        let began = Instant::now();
        loop {
            match look(client, &self.names, self.pinned, QUESTION) {
                Ok(topic) => return self.checked_topic(client, topic),
                Err(TopicLookupError::Wrong(error)) => return Err(error),
                Err(TopicLookupError::NoAnswer(error)) => {
                    if let Some(ending) = self.outbox.ending() {
                        return Err(ending);
                    }
                    let failure = self.outbox.failure();
                    let patience = if failure.is_some() { REFUSED_WITHIN } else { ANSWER_WITHIN };
                    let is_clear = failure.is_some_and(|failure| classify::needs_operator(failure.code));
                    if is_clear || self.is_over() || began.elapsed() >= patience {
                        return Err(self.explain(&error));
                    }
                    // An answer that names no broker comes at once, and would again.
                    let _news = self.looks.recv_timeout(POLL);
                }
            }
        }
    }

    /// The topic is there: is it one to write to?
    fn checked_topic(&mut self, client: &Client, topic: Topic) -> Result<Topic, SinkError> {
        if permissions::may_write(client, &self.names.topic) == Some(false) {
            return Err(classify::not_allowed(&self.names));
        }
        let topic = self.with_round_trip(client, topic);
        // Other partitions may work: the opening goes on, in trouble.
        let unreached = self.unreached(client, &topic, REFUSED_WITHIN);
        self.outbox.set_health(unreached);
        Ok(topic)
    }

    /// Answers that waited for a connection took longer than the way: the quickest of a few tells the distance.
    fn with_round_trip(&self, client: &Client, topic: Topic) -> Topic {
        let goes_on = |_: &u8| !self.is_over();
        let others =
            (0..3).take_while(goes_on).filter_map(|_| look(client, &self.names, self.pinned, QUESTION).ok());
        let round_trip = others.map(|other| other.round_trip).min().unwrap_or(topic.round_trip);
        Topic { round_trip: round_trip.min(topic.round_trip), ..topic }
    }

    fn check_again(&mut self, client: &Client, count: NonZeroU32) {
        // Without any connection a question would only wait: what is wrong shows at once.
        if self.outbox.take_all_down()
            && let Some(error) = self.doctor.diagnose_brokers(self.outbox.failure().as_ref())
        {
            self.reminder.silent(client);
            return self.outbox.set_health(Some(error));
        }
        let found = look(client, &self.names, None, LATER_QUESTION);
        match &found {
            Err(TopicLookupError::NoAnswer(_)) => self.reminder.silent(client),
            Ok(_) | Err(TopicLookupError::Wrong(_)) => self.reminder.heard(),
        }
        match found {
            Ok(topic) if topic.partitions == count => {
                let unreached = self.unreached(client, &topic, LATER_QUESTION);
                self.outbox.set_health(unreached);
            }
            Ok(topic) => {
                let (now, before) = (topic.partitions, count);
                let text =
                    format!("the topic {} has {now} partitions now, and had {before}", self.names.topic);
                self.outbox.end(SinkError::unavailable(text));
                if now < before {
                    // Another topic of the same name: what waits must not go to it by the old count.
                    self.outbox.purge();
                }
            }
            Err(TopicLookupError::Wrong(error)) => self.outbox.set_health(Some(error)),
            Err(TopicLookupError::NoAnswer(error)) => {
                let error = self.explain(&error);
                self.outbox.set_health(Some(error));
            }
        }
    }

    /// A leader that does not answer, or a partition without one.
    fn unreached(&mut self, client: &Client, topic: &Topic, within: Duration) -> Option<SinkError> {
        if let Some(partition) = topic.leaderless {
            return Some(SinkError::unavailable(format!(
                "partition {partition} of the topic {} has no leader: see that the brokers with its replicas run",
                self.names.topic
            )));
        }
        // Whoever has stopped this waits for it: one question and no more.
        let silent = |leader: &&Leader| !self.is_over() && !reaches(client, &self.names, leader, within);
        let leader = topic.leaders.iter().find(silent)?.clone();
        if self.is_over() {
            return None;
        }
        Some(self.doctor.diagnose_advertised(leader.id, &leader.address, self.outbox.failure().as_ref()))
    }

    /// No broker has answered for the topic: why.
    fn explain(&mut self, otherwise: &KafkaError) -> SinkError {
        let failure = self.outbox.failure();
        if !self.is_over()
            && let Some(error) = self.doctor.diagnose_brokers(failure.as_ref())
        {
            return error;
        }
        match &failure {
            Some(ClientError { broker: Some((id, address)), .. }) if !self.is_over() => {
                self.doctor.diagnose_advertised(*id, address, failure.as_ref())
            }
            Some(ClientError { code, words, .. }) => classify::classify_failure(*code, words, &self.names),
            None => classify::no_answer(None, &otherwise.to_string(), &self.names),
        }
    }
}
