//! Provides a bare consumer, as a customer without the bridge would write it. Benchmarks compare the bridge
//! with it.

use std::io;

use super::broker::Broker;
use super::stomp::{Connection, Frame, Login};

/// When messages are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    Never,
    /// After this many messages.
    Every(u64),
    /// When no other message has been read yet.
    Ready,
}

/// A subscription to one queue with cumulative acknowledgement (`ack:client`). If it is dropped,
/// unacknowledged messages return to the broker, as after a kill of the process.
pub struct Consumer {
    connection: Connection,
    acks: Acks,
    unacked: u64,
}

impl Consumer {
    /// Subscribes as a customer to `<destination id>.RTO.<namespace>` and waits for the broker's
    /// confirmation.
    pub async fn subscribe(broker: &Broker, queue: &str, prefetch: u32, acks: Acks) -> Self {
        let connection = Connection::login(broker.addr(), &Login::customer()).await.expect("log in");
        Self::over(connection, queue, &[("activemq.prefetchSize", &prefetch.to_string())], acks)
            .await
            .unwrap_or_else(|error| panic!("subscribe to {queue}: {error}"))
    }

    /// Subscribes with additional headers, on a connection that is logged in.
    ///
    /// # Errors
    /// The broker refused the subscription.
    pub async fn over(
        mut connection: Connection,
        queue: &str,
        headers: &[(&str, &str)],
        acks: Acks,
    ) -> io::Result<Self> {
        let mut subscribe = Frame::new("SUBSCRIBE")
            .header("id", "0")
            .header("destination", format_args!("/queue/{queue}"))
            .header("ack", "client")
            .header("receipt", "subscribed");
        for (name, value) in headers {
            subscribe = subscribe.header(name, value);
        }
        connection.send(&subscribe).await?;
        // The broker sends no MESSAGE before this RECEIPT.
        connection.expect("RECEIPT").await?;
        Ok(Self { connection, acks, unacked: 0 })
    }

    /// The next message, acknowledged according to `acks`. Panics if the broker refuses or sends nothing
    /// soon.
    pub async fn next(&mut self) -> Frame {
        let frame = self.connection.receive().await.expect("a message");
        assert_eq!(frame.command(), "MESSAGE", "{frame:?}");
        self.unacked += 1;
        if self.acks == Acks::Every(self.unacked)
            || (self.acks == Acks::Ready && !self.connection.has_frame())
        {
            self.ack(&frame).await;
        }
        frame
    }

    pub async fn take(&mut self, count: usize) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(count);
        while frames.len() < count {
            frames.push(self.next().await);
        }
        frames
    }

    /// Acknowledges this message and all earlier ones.
    pub async fn ack(&mut self, frame: &Frame) {
        let id = frame.get("ack").expect("an ack id");
        self.connection.send(&Frame::new("ACK").header("id", id)).await.expect("acknowledge");
        self.unacked = 0;
    }

    /// Disconnects and waits until the broker has processed every acknowledgement.
    pub async fn close(self) {
        self.connection.disconnect().await.expect("disconnect");
    }
}
