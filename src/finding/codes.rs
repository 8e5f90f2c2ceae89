//! Lists the codes of the findings of this crate.

use super::Code;

pub(crate) const PASSED: Code = Code::new("passed");
pub(crate) const CONFIGURATION_REFUSED: Code = Code::new("configuration-refused");
pub(crate) const CONFIGURATION_WARNING: Code = Code::new("configuration-warning");

pub(crate) const SOURCE_LOGIN: Code = Code::new("source-login");
pub(crate) const SOURCE_QUEUE: Code = Code::new("source-queue");
pub(crate) const SOURCE_ADDRESSES: Code = Code::new("source-addresses");
pub(crate) const SOURCE_ADDRESS_SILENT: Code = Code::new("source-address-silent");
pub(crate) const SOURCE_SOME_KEYS_MISSING: Code = Code::new("source-some-keys-missing");
pub(crate) const SOURCE_ALL_KEYS_MISSING: Code = Code::new("source-all-keys-missing");

pub(crate) const SINK_UNAVAILABLE: Code = Code::new("sink-unavailable");
pub(crate) const SINK_MISCONFIGURED: Code = Code::new("sink-misconfigured");

pub(crate) const KAFKA_TOPIC: Code = Code::new("kafka-topic");
pub(crate) const KAFKA_LARGE_EVENTS: Code = Code::new("kafka-large-events");
pub(crate) const KAFKA_GROUP_DENIED: Code = Code::new("kafka-group-denied");
pub(crate) const KAFKA_TRANSACTIONS: Code = Code::new("kafka-transactions");
pub(crate) const KAFKA_READ_DENIED: Code = Code::new("kafka-read-denied");
pub(crate) const KAFKA_UNREACHABLE: Code = Code::new("kafka-unreachable");
pub(crate) const KAFKA_WRONG_PORT: Code = Code::new("kafka-wrong-port");
pub(crate) const KAFKA_TLS: Code = Code::new("kafka-tls");
pub(crate) const KAFKA_LOGIN: Code = Code::new("kafka-login");
pub(crate) const KAFKA_ADVERTISED_ADDRESS: Code = Code::new("kafka-advertised-address");
pub(crate) const KAFKA_BOOTSTRAP_ADDRESS: Code = Code::new("kafka-bootstrap-address");
pub(crate) const KAFKA_ONE_BOOTSTRAP: Code = Code::new("kafka-one-bootstrap");
pub(crate) const KAFKA_TOPIC_MISSING: Code = Code::new("kafka-topic-missing");
pub(crate) const KAFKA_PARTITIONS_DIFFER: Code = Code::new("kafka-partitions-differ");
pub(crate) const KAFKA_WRITE_DENIED: Code = Code::new("kafka-write-denied");
pub(crate) const KAFKA_TRANSACTIONS_DENIED: Code = Code::new("kafka-transactions-denied");
pub(crate) const KAFKA_NO_LEADER: Code = Code::new("kafka-no-leader");
pub(crate) const KAFKA_NOT_IN_SYNC: Code = Code::new("kafka-not-in-sync");
pub(crate) const KAFKA_REPLICA_AWAY: Code = Code::new("kafka-replica-away");
pub(crate) const KAFKA_SETTINGS_NOT_KNOWN: Code = Code::new("kafka-settings-not-known");
pub(crate) const KAFKA_RIGHTS_NOT_KNOWN: Code = Code::new("kafka-rights-not-known");
pub(crate) const KAFKA_RETENTION_BYTES: Code = Code::new("kafka-retention-bytes");
pub(crate) const KAFKA_TIMESTAMP_LIMIT: Code = Code::new("kafka-timestamp-limit");
pub(crate) const KAFKA_RECOMPRESSION: Code = Code::new("kafka-recompression");
pub(crate) const KAFKA_COMPACTED_TOPIC: Code = Code::new("kafka-compacted-topic");
pub(crate) const KAFKA_SHORT_RETENTION: Code = Code::new("kafka-short-retention");
pub(crate) const KAFKA_UNCLEAN_ELECTION: Code = Code::new("kafka-unclean-election");
pub(crate) const KAFKA_SMALL_RECORDS: Code = Code::new("kafka-small-records");
pub(crate) const KAFKA_TOO_FEW_REPLICAS: Code = Code::new("kafka-too-few-replicas");
pub(crate) const KAFKA_ONE_REPLICA: Code = Code::new("kafka-one-replica");
pub(crate) const KAFKA_ONE_IN_SYNC: Code = Code::new("kafka-one-in-sync");
pub(crate) const KAFKA_NO_SPARE_REPLICA: Code = Code::new("kafka-no-spare-replica");

pub(crate) const NATS_SERVER: Code = Code::new("nats-server");
pub(crate) const NATS_STREAM: Code = Code::new("nats-stream");
pub(crate) const NATS_STREAM_TO_BE_MADE: Code = Code::new("nats-stream-to-be-made");
pub(crate) const NATS_STREAM_IN_MEMORY: Code = Code::new("nats-stream-in-memory");
pub(crate) const NATS_PERSIST_ASYNC: Code = Code::new("nats-persist-async");
pub(crate) const NATS_ONE_REPLICA: Code = Code::new("nats-one-replica");
pub(crate) const NATS_DUPLICATE_WINDOW_SHORT: Code = Code::new("nats-duplicate-window-short");
pub(crate) const NATS_DUPLICATE_WINDOW_ONLY: Code = Code::new("nats-duplicate-window-only");
pub(crate) const NATS_MAX_MSG_SIZE_SMALL: Code = Code::new("nats-max-msg-size-small");
pub(crate) const NATS_MAX_PAYLOAD_SMALL: Code = Code::new("nats-max-payload-small");
pub(crate) const NATS_MAX_AGE: Code = Code::new("nats-max-age");
pub(crate) const NATS_MAX_AGE_SHORT: Code = Code::new("nats-max-age-short");
pub(crate) const NATS_DISCARDS_OLD: Code = Code::new("nats-discards-old");
pub(crate) const NATS_ONE_PER_SUBJECT: Code = Code::new("nats-one-per-subject");
pub(crate) const NATS_INTEREST: Code = Code::new("nats-interest");
pub(crate) const NATS_INTEREST_WITHOUT_CONSUMER: Code = Code::new("nats-interest-without-consumer");
pub(crate) const NATS_WORKQUEUE: Code = Code::new("nats-workqueue");
pub(crate) const NATS_FAULTY_VERSION: Code = Code::new("nats-faulty-version");
pub(crate) const NATS_STREAM_LIMITS: Code = Code::new("nats-stream-limits");
pub(crate) const NATS_STREAM_NEARLY_FULL: Code = Code::new("nats-stream-nearly-full");
pub(crate) const NATS_SYNC: Code = Code::new("nats-sync");
pub(crate) const NATS_SYNC_NOT_KNOWN: Code = Code::new("nats-sync-not-known");
pub(crate) const NATS_SYNC_LATE: Code = Code::new("nats-sync-late");
pub(crate) const NATS_MONITOR_UNREADABLE: Code = Code::new("nats-monitor-unreadable");

pub(crate) const FILES_DIRECTORY: Code = Code::new("files-directory");
pub(crate) const FILES_DIRECTORY_TO_BE_MADE: Code = Code::new("files-directory-to-be-made");
pub(crate) const FILES_OPEN_TO_OTHERS: Code = Code::new("files-open-to-others");
pub(crate) const FILES_LOCKED: Code = Code::new("files-locked");
pub(crate) const FILES_IN_MEMORY: Code = Code::new("files-in-memory");
pub(crate) const FILES_IN_CONTAINER: Code = Code::new("files-in-container");
pub(crate) const FILES_ON_NETWORK: Code = Code::new("files-on-network");
pub(crate) const FILES_ROOM: Code = Code::new("files-room");
pub(crate) const FILES_LITTLE_ROOM: Code = Code::new("files-little-room");
pub(crate) const FILES_SYNC: Code = Code::new("files-sync");
pub(crate) const FILES_SLOW_SYNC: Code = Code::new("files-slow-sync");

pub(crate) const CERTIFICATE: Code = Code::new("certificate");
pub(crate) const CERTIFICATE_EXPIRES_SOON: Code = Code::new("certificate-expires-soon");

pub(crate) const STDOUT: Code = Code::new("stdout");
pub(crate) const MEMORY: Code = Code::new("memory");
