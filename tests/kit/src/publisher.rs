//! Publishes events to the topic of a namespace, as AtData does.

use std::io;
use std::time::Duration;

use super::broker::Broker;
use super::stomp::{Connection, Frame, Login};

/// The number of events per confirmation. For each confirmation of a persistent event, the broker syncs its
/// journal.
const CONFIRM_EVERY: usize = 500;
/// The maximum number of outstanding confirmations.
const WINDOW: usize = 4;

/// Publishes to `RTO.<namespace>`.
pub struct Publisher {
    connection: Connection,
    head: Frame,
    outstanding: usize,
}

impl Publisher {
    /// Logs in as AtData, to publish persistent text messages.
    pub async fn connect(broker: &Broker, namespace: &str) -> Self {
        let publisher = Self::transient(broker, namespace).await;
        publisher.with_header("persistent", "true")
    }

    /// Like [`connect`](Self::connect), for messages that the broker does not store.
    pub async fn transient(broker: &Broker, namespace: &str) -> Self {
        Self::try_transient(broker, namespace).await.expect("log in to publish")
    }

    async fn try_transient(broker: &Broker, namespace: &str) -> io::Result<Self> {
        let connection = Connection::login(broker.addr(), &Login::producer()).await?;
        let head = Frame::new("SEND").header("destination", format_args!("/topic/RTO.{namespace}"));
        Ok(Self { connection, head, outstanding: 0 })
    }

    /// Publishes each body, persistent, to a broker that may be killed meanwhile. Bodies that it has not
    /// confirmed are published again when it is back, so some may be published twice, as different messages.
    pub async fn publish_through_kills(broker: &Broker, namespace: &str, bodies: &[String]) {
        for some in bodies.chunks(CONFIRM_EVERY) {
            while Self::try_publish(broker, namespace, some).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn try_publish(broker: &Broker, namespace: &str, bodies: &[String]) -> io::Result<()> {
        let publisher = Self::try_transient(broker, namespace).await?;
        publisher.with_header("persistent", "true").publish(bodies.iter().cloned()).await
    }

    /// Adds a header to all later messages.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.head = self.head.header(name, value);
        self
    }

    /// Publishes each body and returns once the broker has confirmed them all.
    ///
    /// # Errors
    /// The broker refused or went away: some of the bodies may be published.
    pub async fn publish<B: Into<Vec<u8>>>(&mut self, bodies: impl IntoIterator<Item = B>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut pending = 0;
        let mut bodies = bodies.into_iter().peekable();
        while let Some(body) = bodies.next() {
            pending += 1;
            let mut frame = self.head.clone().body(body);
            if pending == CONFIRM_EVERY || bodies.peek().is_none() {
                frame = frame.header("receipt", "confirmed");
                frame.write_to(&mut bytes);
                self.connection.send_bytes(&bytes).await?;
                bytes.clear();
                pending = 0;
                self.outstanding += 1;
                self.confirmed_down_to(WINDOW).await?;
            } else {
                frame.write_to(&mut bytes);
            }
        }
        self.confirmed_down_to(0).await
    }

    async fn confirmed_down_to(&mut self, outstanding: usize) -> io::Result<()> {
        while self.outstanding > outstanding {
            self.connection.expect("RECEIPT").await?;
            self.outstanding -= 1;
        }
        Ok(())
    }
}
