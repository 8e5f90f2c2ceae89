//! Writes records of other programs to a Kafka topic, makes topics with several replicas, and deletes consumer groups,
//! with clients that share no code with the bridge.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Appends records with these values to a partition, and waits until the brokers have them. Blocks.
pub fn write_records(bootstrap: &str, topic: &str, partition: u32, values: impl Iterator<Item = String>) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("queue.buffering.max.messages", "0")
        .create()
        .expect("make a producer");
    let partition = i32::try_from(partition).expect("a partition");
    for value in values {
        let record = BaseRecord::<(), _>::to(topic).partition(partition).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("send a record");
    }
    producer.flush(PATIENCE).expect("write the records");
}

/// Makes a topic with a replica on each of three nodes.
pub async fn create_replicated(bootstrap: &str, topic: &str, partitions: u32) {
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("make a client");
    let partitions = i32::try_from(partitions).expect("few partitions");
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(3));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for made in client.create_topics([&topic], &options).await.expect("ask for a topic") {
        made.expect("make a topic");
    }
}

/// Deletes a consumer group with its offsets, if there is one.
pub async fn delete_group(bootstrap: &str, group: &str) {
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("make a client");
    let _is_gone = client.delete_groups(&[group], &AdminOptions::new()).await.expect("ask for it");
}
