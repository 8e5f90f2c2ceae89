//! Reads the topic back ([`Sink::read_back`](crate::sink::Sink::read_back)): one partition after the other, from
//! its beginning to the end that it has at the start. It joins no consumer group and stores nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;

use super::client::{ANSWER_WITHIN, CALL};
use super::client_threads::THREADS;
use super::in_flight::KafkaInFlight;
use super::tail::{PROPERTIES, Quiet, is_refusal};
use super::tail_end::{TopicEnd, is_leader_change};
use super::topic_monitor::Access;
use super::{KafkaSink, permissions};
use crate::sink::{Position, RecordSender, SinkError, StoredRecord};

impl KafkaSink {
    /// Sends the committed records of the topic. Reads in a thread of its own, because librdkafka's calls block.
    pub(super) async fn read_topic(
        &self,
        from: Option<Position>,
        records: RecordSender,
    ) -> Result<(), SinkError> {
        let first = match from {
            None => (0, 0),
            Some(Position::Offset { partition, offset }) => (partition, offset),
            Some(other) => return Err(other.wrong_form("partition:offset")),
        };
        // The connection finds the cause of an error, which a consumer can't tell.
        let in_flight = KafkaInFlight::new(None, None).into();
        let opened = self.connect(&in_flight, Access::Read).await?;
        in_flight.health_error().map_or(Ok(()), Err)?;
        let partitions = i32::try_from(opened.topic.partitions.get()).unwrap_or(i32::MAX);
        drop(opened);
        let client = &self.settings.client;
        let mut config = client.config(&self.context.connection_id, client.batch_bytes(), Duration::ZERO);
        // librdkafka requires a name, also of a consumer that joins no group.
        config.set("group.id", self.names.group());
        for (name, value) in PROPERTIES.into_iter().chain(OWN_PROPERTIES) {
            config.set(name, value);
        }
        let reading = TopicReading { topic: self.names.topic.clone(), partitions, first, records };
        let (answer, asked) = oneshot::channel();
        let thread = THREADS.one_more(&self.threads);
        let started =
            thread.start(format!("{}-read", self.context.sink), move || reading.answer(&config, answer));
        started.map_err(|error| SinkError::unavailable("cannot start a thread").caused_by(error))?;
        let read = asked.await.map_err(|_| KafkaError::Canceled).flatten();
        read.map_err(|error| match is_refusal(&error) {
            true => permissions::may_not_read(&self.names),
            false => {
                SinkError::unavailable(format!("can't read the topic {}", self.names.topic)).caused_by(error)
            }
        })
    }
}

/// The receiver may take its time.
const OWN_PROPERTIES: [(&str, &str); 1] = [("max.poll.interval.ms", "86400000")];

/// The wait before the leaders are asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// One reading of the topic.
struct TopicReading {
    topic: String,
    partitions: i32,
    /// The partition and the offset at which it begins.
    first: (i32, i64),
    records: RecordSender,
}

impl TopicReading {
    /// Ends the records and answers before it destroys the client, which may take long. Blocks.
    fn answer(self, config: &ClientConfig, answer: oneshot::Sender<KafkaResult<()>>) {
        let consumer = config.create_with_context::<_, BaseConsumer<Quiet>>(Quiet);
        let read = consumer.as_ref().map_err(Clone::clone).and_then(|consumer| self.read(consumer));
        drop(self);
        let _nobody_waits = answer.send(read);
    }

    fn read(&self, consumer: &BaseConsumer<Quiet>) -> KafkaResult<()> {
        for (&partition, &end) in self.end(consumer)?.places().range(self.first.0..) {
            let offset = if partition == self.first.0 { self.first.1 } else { 0 };
            if offset < end && !self.records.is_closed() {
                self.read_partition(consumer, partition, offset..end)?;
            }
        }
        Ok(())
    }

    /// Finds out where the partitions end. While a leader changes, this tries again.
    fn end(&self, consumer: &BaseConsumer<Quiet>) -> KafkaResult<TopicEnd> {
        let (began, is_over) = (Instant::now(), || self.records.is_closed());
        loop {
            let found = TopicEnd::find(consumer, &self.topic, self.partitions, ANSWER_WITHIN, is_over);
            match &found {
                Err(error) if is_leader_change(error) && began.elapsed() < ANSWER_WITHIN && !is_over() => {
                    drop(consumer.poll(PAUSE));
                }
                _ => return found,
            }
        }
    }

    /// Reads one partition. Where it has lost its first records, it begins behind them.
    fn read_partition(
        &self,
        consumer: &BaseConsumer<Quiet>,
        partition: i32,
        offsets: std::ops::Range<i64>,
    ) -> KafkaResult<()> {
        let mut assignment = TopicPartitionList::new();
        let start = if offsets.start == 0 { Offset::Beginning } else { Offset::Offset(offsets.start) };
        assignment.add_partition_offset(&self.topic, partition, start)?;
        consumer.assign(&assignment)?;
        let mut heard = Instant::now();
        while heard.elapsed() < ANSWER_WITHIN && !self.records.is_closed() {
            match consumer.poll(CALL) {
                Some(Ok(record)) if record.partition() == partition => {
                    if record.offset() < offsets.end && !self.send(partition, &record) {
                        return Ok(());
                    }
                    if record.offset() + 1 >= offsets.end {
                        return Ok(());
                    }
                    heard = Instant::now();
                }
                // The last offsets may have no record: a transaction's end takes one.
                Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => return Ok(()),
                Some(Err(error)) if is_refusal(&error) => return Err(error),
                // The consumer goes on by itself after an error that passes.
                Some(_) | None => {}
            }
        }
        match self.records.is_closed() {
            true => Ok(()),
            false => Err(KafkaError::MessageConsumption(Code::OperationTimedOut)),
        }
    }

    /// Returns whether the receiver wants more.
    fn send(&self, partition: i32, record: &impl Message) -> bool {
        let position = Position::Offset { partition, offset: record.offset() };
        let content = Bytes::copy_from_slice(record.payload().unwrap_or_default());
        self.records.blocking_send(StoredRecord { position, content }).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as NOT_LEADER;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::RDKafkaApiKey;

    use super::*;

    /// The metadata may name a leader that does not know this yet: a topic was just created, or a broker has ended.
    #[test]
    fn a_leader_that_does_not_know_it_yet_is_asked_again() {
        let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("letters", 1, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "test");
        let consumer = config.create_with_context(Quiet).unwrap();
        let (records, _stored) = tokio::sync::mpsc::channel(1);
        let reading = TopicReading { topic: "letters".to_owned(), partitions: 1, first: (0, 0), records };
        cluster.request_errors(RDKafkaApiKey::ListOffsets, &[NOT_LEADER, NOT_LEADER]);
        assert_eq!(reading.end(&consumer).unwrap(), TopicEnd::at(&[0]));
    }
}
