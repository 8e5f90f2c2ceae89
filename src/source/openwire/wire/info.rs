//! Reads and writes the commands that create and remove connections, sessions, consumers and producers
//! (`protocols.md §3.5`).

use bytes::Bytes;

use super::ids::{ConsumerId, Destination, ProducerId, read_connection, skip_brokers, write_connection};
use super::primitives::{FieldError, FieldReader, FieldWriter};
use super::types;
use crate::secret::Secret;

/// The broker's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    pub id: String,
    pub url: Option<String>,
    pub name: String,
}

impl BrokerInfo {
    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        writer.object(types::BROKER);
        writer.string(Some(&self.id));
        writer.string(self.url.as_deref());
        writer.null(); // peerBrokerInfos
        writer.string(Some(&self.name));
        writer.raw(&[0; 5]); // slaveBroker, masterBroker, faultTolerantConfiguration, duplexConnection, networkConnection
        writer.long(0); // connectionId
        writer.null(); // brokerUploadUrl
        writer.null(); // networkProperties
    }
}

/// The login of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The connection id: any unique text. With the id of a live connection it takes that one over
    /// (`protocols.md §3.6`).
    pub connection: Bytes,
    /// The client id; brokers refuse a connection without one.
    pub client_id: Option<String>,
    pub password: Option<Secret>,
    pub user_name: Option<String>,
}

impl ConnectionInfo {
    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        let connection = read_connection(reader)?.ok_or("it has no connection id")?;
        let client_id = reader.string()?;
        let password = reader.string()?.map(Secret::new);
        let user_name = reader.string()?;
        skip_brokers(reader)?;
        let _broker_manageable_master = (reader.bool()?, reader.bool()?, reader.bool()?);
        let _fault_tolerant_reconnect = (reader.bool()?, reader.bool()?);
        reader.skip_text()?;
        Ok(Self { connection, client_id, password, user_name })
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        write_connection(&self.connection, writer);
        writer.string(self.client_id.as_deref());
        writer.string(self.password.as_ref().map(Secret::reveal));
        writer.string(self.user_name.as_deref());
        writer.null(); // brokerPath
        writer.bool(false); // brokerMasterConnector
        writer.bool(false); // manageable: the broker sends no ConnectionControl
        writer.bool(true); // clientMaster: not a broker
        writer.bool(false); // faultTolerant
        writer.bool(false); // failoverReconnect
        writer.null(); // clientIp
    }
}

/// A session of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    pub connection: Bytes,
    /// Its number in the connection.
    pub value: i64,
}

impl SessionInfo {
    fn read_fields(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        Ok(Self { connection: reader.some_text()?, value: reader.long()? })
    }

    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        reader.object_of(types::SESSION, Self::read_fields)?.ok_or("it has no session id")
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        writer.object(types::SESSION);
        writer.text(Some(&self.connection));
        writer.long(self.value);
    }
}

/// A consumer in a session, as it subscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    pub consumer: ConsumerId,
    /// Whether it only browses and consumes nothing.
    pub browser: bool,
    pub destination: Destination,
    /// The most messages it wants to have unacknowledged; exactly 1000 lets the broker's own policy replace
    /// it (`protocols.md §0.14`).
    pub prefetch: i32,
    /// An SQL condition that selects its messages.
    pub selector: Option<String>,
    /// Whether it wants to be the queue's only active consumer.
    pub exclusive: bool,
    /// The broker serves consumers with a higher priority first; 0 to 127.
    pub priority: u8,
}

impl ConsumerInfo {
    /// Makes a consumer without selector or exclusive use.
    pub fn new(consumer: ConsumerId, destination: Destination, prefetch: i32) -> Self {
        Self {
            consumer,
            browser: false,
            destination,
            prefetch,
            selector: None,
            exclusive: false,
            priority: 0,
        }
    }

    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        let consumer = ConsumerId::read(reader)?.ok_or("it has no consumer id")?;
        let browser = reader.bool()?;
        let destination = Destination::read(reader)?.ok_or("it names no destination")?;
        let prefetch = reader.int()?;
        let _maximum_pending = reader.int()?;
        let _dispatch_async = reader.bool()?;
        let selector = reader.string()?;
        let _client_and_subscription = (reader.skip_text()?, reader.skip_text()?);
        let _no_local = reader.bool()?;
        let exclusive = reader.bool()?;
        let _retroactive = reader.bool()?;
        let priority = reader.byte()?;
        skip_brokers(reader)?;
        if reader.object()?.is_some() {
            return Err("it has a predicate besides its selector");
        }
        let _network_optimized_single = (reader.bool()?, reader.bool()?, reader.bool()?);
        for _ in 0..reader.count()? {
            ConsumerId::skip(reader)?;
        }
        Ok(Self { consumer, browser, destination, prefetch, selector, exclusive, priority })
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        ConsumerId::write(Some(&self.consumer), writer);
        writer.bool(self.browser);
        Destination::write(Some(&self.destination), writer);
        writer.int(self.prefetch);
        writer.int(0); // maximumPendingMessageLimit
        writer.bool(true); // dispatchAsync
        writer.string(self.selector.as_deref());
        writer.null(); // clientId
        writer.null(); // subscriptionName
        writer.bool(false); // noLocal
        writer.bool(self.exclusive);
        writer.bool(false); // retroactive
        writer.byte(self.priority);
        writer.null(); // brokerPath
        writer.null(); // additionalPredicate
        writer.bool(false); // networkSubscription
        writer.bool(false); // optimizedAcknowledge
        writer.bool(false); // noRangeAcks
        writer.null(); // networkConsumerPath
    }
}

/// The object that a command removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    Connection(Bytes),
    Session(SessionInfo),
    Consumer(ConsumerId),
    Producer(ProducerId),
}

/// A command that removes an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveInfo {
    pub object: Removed,
    /// The last message ([`super::ids::MessageId::broker_sequence`]) that the consumer has really received:
    /// later ones come back without a redelivery mark. -1 for none, -2 for unknown (all are marked).
    pub last_delivered: i64,
}

impl RemoveInfo {
    /// The `last_delivered` of a consumer to which nothing was delivered.
    pub const NONE_DELIVERED: i64 = -1;

    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        let object = match reader.object()?.ok_or("it does not say of what")? {
            types::CONNECTION => Removed::Connection(reader.some_text()?),
            types::SESSION => Removed::Session(SessionInfo::read_fields(reader)?),
            types::CONSUMER => Removed::Consumer(ConsumerId::read_fields(reader)?),
            types::PRODUCER => Removed::Producer(ProducerId::read_fields(reader)?),
            _ => return Err("it removes an object of an unknown type"),
        };
        Ok(Self { object, last_delivered: reader.long()? })
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        match &self.object {
            Removed::Connection(connection) => write_connection(connection, writer),
            Removed::Session(session) => session.write(writer),
            Removed::Consumer(consumer) => ConsumerId::write(Some(consumer), writer),
            Removed::Producer(producer) => producer.write(writer),
        }
        writer.long(self.last_delivered);
    }
}
