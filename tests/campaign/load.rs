//! Publishes the events of a round at a steady rate, through all faults of the broker.
//!
//! An event is published when it is sent as persistent and the broker has confirmed it with a receipt. Where the
//! connection ends before, nobody knows whether the broker has the events; they are never sent again, so that
//! each number is in the queue once at most, and in the order of the numbers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kit::broker::Broker;
use kit::stomp::{Connection, Frame, Login};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::watch::Watch;
use crate::world::{NAME, World};

/// The time between two groups of events, each with one receipt.
const EVERY: Duration = Duration::from_millis(100);
/// Nothing is published while more events wait.
const MOST_WAITING: u64 = 8000;
/// A receipt takes as long as the longest pause of the broker, and the time that it then needs.
const RECEIPT: Duration = Duration::from_secs(300);

/// For each event by its number, whether the broker has confirmed it.
pub type Confirmed = Vec<bool>;

/// Publishes until the round is over.
pub async fn publish(world: Arc<World>, watch: Arc<Watch>) -> Confirmed {
    let events = world.events();
    let mut confirmed = Confirmed::new();
    let mut connection = None;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let group = world.plan.rate * u64::try_from(EVERY.as_millis()).expect("a short time") / 1000;
    while !world.is_over() || (confirmed.len() as u64) < world.plan.events {
        ticks.tick().await;
        if watch.waiting() > MOST_WAITING {
            continue;
        }
        let Some(mut open) = connection.take() else {
            connection = connect(&world.broker).await.ok();
            continue;
        };
        let first = confirmed.len() as u64;
        let bodies = (first..first + group).map(|number| events.body(number));
        let is_confirmed = send(&mut open, bodies).await.is_ok();
        confirmed.extend((0..group).map(|_| is_confirmed));
        connection = is_confirmed.then_some(open);
    }
    confirmed
}

async fn connect(broker: &Broker) -> io::Result<Connection> {
    Connection::login(broker.addr(), &Login::producer()).await
}

async fn send(connection: &mut Connection, bodies: impl Iterator<Item = String>) -> io::Result<()> {
    let head = Frame::new("SEND")
        .header("destination", format_args!("/topic/RTO.{NAME}"))
        .header("persistent", "true");
    let mut bytes = Vec::new();
    let mut bodies = bodies.peekable();
    while let Some(body) = bodies.next() {
        let frame = head.clone().body(body);
        let frame = if bodies.peek().is_none() { frame.header("receipt", "confirmed") } else { frame };
        frame.write_to(&mut bytes);
    }
    let exchange = async {
        connection.send_bytes(&bytes).await?;
        let frame = connection.next().await?;
        if frame.command() == "RECEIPT" { Ok(()) } else { Err(io::Error::other(frame.command().to_owned())) }
    };
    timeout(RECEIPT, exchange).await.expect("a receipt, or the end of the connection")
}
