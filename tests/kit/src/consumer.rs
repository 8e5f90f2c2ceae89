//! A bare consumer: what a customer without the bridge would write, and the yardstick of its speed.

use std::io;

use super::broker::Broker;
use super::stomp::{Connection, Frame, Login};

/// When messages are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    Never,
    /// After so many.
    Every(u64),
    /// Whenever nothing more has been read already.
    Ready,
}

/// A subscription to one queue with cumulative acknowledgement (`ack:client`). Dropping it leaves what is
/// not acknowledged to the broker, as a kill of the process would.
pub struct Consumer {
    connection: Connection,
    acks: Acks,
    unacked: u64,
}

impl Consumer {
    /// Subscribes as a customer to `<destination id>.RTO.<namespace>` and waits for the broker's word.
    pub async fn subscribe(broker: &Broker, queue: &str, prefetch: u32, acks: Acks) -> Self {
        let connection = Connection::login(broker.addr(), &Login::customer()).await.expect("log in");
        Self::over(connection, queue, &[("activemq.prefetchSize", &prefetch.to_string())], acks)
            .await
            .unwrap_or_else(|error| panic!("subscribe to {queue}: {error}"))
    }

    /// Subscribes on a connection that is logged in, with more headers.
    ///
    /// # Errors
    /// The broker's refusal.
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

    /// The next message, acknowledged as agreed; panics when the broker refuses or none comes soon.
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

    /// The next `count` messages.
    pub async fn take(&mut self, count: usize) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(count);
        while frames.len() < count {
            frames.push(self.next().await);
        }
        frames
    }

    /// Acknowledges this message and all before it.
    pub async fn ack(&mut self, frame: &Frame) {
        let id = frame.get("ack").expect("an ack id");
        self.connection.send(&Frame::new("ACK").header("id", id)).await.expect("acknowledge");
        self.unacked = 0;
    }

    /// Says goodbye and waits until the broker has processed every acknowledgement.
    pub async fn close(self) {
        self.connection.disconnect().await.expect("disconnect");
    }
}
