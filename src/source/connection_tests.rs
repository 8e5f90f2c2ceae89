//! Tests a connection with sessions that follow a script.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Incoming;
use super::connection::{ConnectionHandles, run_session};
use super::error::{SourceError, SuspectMessage};
use super::protocol::session::SessionProgress;
use super::testing::{Scripted, message};
use crate::budget::Budget;
use crate::event::{Message, SessionId};
use crate::telemetry::counters::SubscriptionCounters;

/// Runs a session that its supervisor never closes.
async fn run(
    session: Box<Scripted>,
    stream: DuplexStream,
    incoming: mpsc::Sender<Incoming>,
    mut acks: watch::Receiver<(SessionId, u64)>,
    budget: &Budget,
    last_message: &str,
) -> Result<(), SourceError> {
    let handles = ConnectionHandles {
        id: SessionId(1),
        incoming: &incoming,
        acks: &mut acks,
        close: &CancellationToken::new(),
        budget,
        counters: &SubscriptionCounters::default(),
        last_message: &mut last_message.to_owned(),
        grace: Duration::from_secs(10),
        on_subscribed: &|_| {},
        ending: &CancellationToken::new(),
        is_confirmed: &mut false,
    };
    run_session(session, Box::new(stream), handles).await
}

/// Returns the error after a session that has read one byte and nothing else.
async fn after(error: SourceError, subscribed: bool, last_message: &str) -> SourceError {
    let (ours, mut broker) = duplex(1 << 10);
    broker.write_all(b"?").await.unwrap();
    broker.shutdown().await.unwrap();
    let (incoming, _messages) = mpsc::channel(4);
    let (_acks, acked) = watch::channel((SessionId(0), 0));
    let brings = SessionProgress { subscribed, ..SessionProgress::default() };
    let session = Scripted::new([(brings, Err(error))], None);
    run(session, ours, incoming, acked, &Budget::new(1 << 20), last_message).await.unwrap_err()
}

#[tokio::test]
async fn trouble_without_a_message_is_blamed_on_what_comes_after_the_last_one() {
    let gibberish = || SourceError::protocol("gibberish");
    let next = SuspectMessage::After("7".to_owned());
    assert_eq!(after(gibberish(), true, "7").await.suspect(), Some(&next));
    assert_eq!(after(gibberish(), true, "").await.suspect(), Some(&SuspectMessage::First));
    assert_eq!(after(gibberish(), false, "7").await.suspect(), None, "no message can have come");
    let complaint = SourceError::from_broker("out of luck", false);
    assert_eq!(after(complaint, true, "7").await.suspect(), None, "no message has come");
}

/// A session stops in the middle when the budget is used up. It goes on once the messages that came before
/// are acknowledged. If only its own unprocessed bytes use up the budget, it goes on at once.
#[tokio::test(start_paused = true)]
async fn what_is_unread_waits_for_room_and_never_for_itself() {
    for first_brings_a_message in [true, false] {
        let (ours, mut broker) = duplex(1 << 10);
        broker.write_all(b"?").await.unwrap();
        let budget = Budget::new(50);
        let large = budget.freeze(vec![0; 100]);
        let mut first = SessionProgress { subscribed: true, unread: true, ..SessionProgress::default() };
        let mut unread = None;
        if first_brings_a_message {
            first.messages.push(Message { body: large, ..message("1") });
        } else {
            unread = Some(large);
        }
        let second = SessionProgress { messages: vec![message("2")], ..SessionProgress::default() };
        let session = Scripted::new([(first, Ok(())), (second, Ok(()))], unread);

        let (incoming, mut messages) = mpsc::channel(4);
        let (acks, acked) = watch::channel((SessionId(0), 0));
        let dispatcher = async {
            assert!(matches!(messages.recv().await, Some(Incoming::Session(_))));
            if first_brings_a_message {
                let first = messages.recv().await;
                assert!(matches!(&first, Some(Incoming::Messages(came)) if came[0].id == "1"));
                let more = timeout(Duration::from_secs(1), messages.recv()).await;
                assert!(more.is_err(), "there is no room: {more:?}");
                acks.send_replace((SessionId(1), 1));
            }
            let second = messages.recv().await;
            assert!(matches!(&second, Some(Incoming::Messages(came)) if came[0].id == "2"));
            drop(messages);
        };
        let running = run(session, ours, incoming, acked, &budget, "");
        tokio::select! {
            ended = running => panic!("{ended:?}"),
            came = timeout(Duration::from_secs(30), dispatcher) => came.expect("the session stands still"),
        }
    }
}

/// The paused clock moves only while no task has work to do, so the broker is never late.
#[tokio::test(start_paused = true)]
async fn trouble_lets_the_broker_read_the_last_acknowledgement() {
    let (ours, broker) = duplex(1 << 10);
    let running = tokio::spawn(async move {
        let (incoming, mut messages) = mpsc::channel(4);
        let (acks, acked) = watch::channel((SessionId(0), 0));
        let settles = tokio::spawn(async move {
            messages.recv().await;
            acks.send_replace((SessionId(1), 1));
            acks.closed().await;
        });
        let brings = SessionProgress { messages: vec![message("1")], ..SessionProgress::default() };
        let error =
            SourceError::BodyTooLarge { detail: String::new(), message_id: "2".to_owned(), remedy: "" };
        let session = Scripted::new([(brings, Err(error))], None);
        let outcome = run(session, ours, incoming, acked, &Budget::new(1 << 20), "").await;
        settles.await.unwrap();
        outcome
    });
    // Far more than fits: the rest is still on the way when the session ends.
    let (mut reads, mut writes) = split(broker);
    let unread = tokio::spawn(async move {
        writes.write_all(&[0; 100 << 10]).await.unwrap();
        writes
    });
    let mut heard = String::new();
    reads.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "ack goodbye after 1");
    let writes = unread.await.unwrap();
    assert!(!running.is_finished(), "it has left before the broker has let go");
    drop((reads, writes));
    assert!(matches!(running.await.unwrap(), Err(SourceError::BodyTooLarge { .. })));
}
