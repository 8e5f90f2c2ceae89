//! Tests what a supervisor makes of sessions that end.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::source::error::SuspectMessage;
use crate::source::network::Tcp;
use crate::source::protocol::session::SessionMode;
use crate::source::protocol::session::SessionProgress;
use crate::source::session_factory::new_session;
use crate::source::testing::{Scripted, message, settings};
use crate::telemetry::status::StatusRegistry;

fn supervisor(
    states: &StatusRegistry,
) -> (SupervisorTask, mpsc::Receiver<Incoming>, watch::Sender<(SessionId, u64)>) {
    let new_session = new_session(SessionMode::Subscribe);
    SupervisorTask::new(
        Arc::new(settings()),
        Arc::new(Tcp),
        new_session,
        Budget::new(1),
        Arc::default(),
        states.reporter("source"),
    )
}

#[tokio::test]
async fn what_ends_three_sessions_in_a_row_is_named_and_held() {
    let states = StatusRegistry::default();
    let (mut supervisor, ..) = supervisor(&states);
    let inside = || SourceError::Protocol {
        detail: "gibberish".to_owned(),
        suspect: Some(SuspectMessage::Itself("8".to_owned())),
        remedy: None,
    };
    let first = || SourceError::protocol("gibberish").after("");
    let after = || SourceError::protocol("gibberish").after("7");
    for (error, named) in [
        (inside(), None),
        (after(), None),
        (after(), None),
        (after(), Some("what comes after message 7 has ended 3 sessions in a row and stays in the queue")),
        (inside(), None),
        (inside(), None),
        (inside(), Some("message 8 has ended 3 sessions in a row and stays in the queue")),
        (first(), None),
        (first(), None),
        (first(), Some("the first message of the queue has ended 3 sessions in a row and stays")),
    ] {
        supervisor.ended_after(Duration::from_secs(10), true);
        let wait = supervisor.wait_after(error);
        let state = states.all().remove(0).1;
        match named {
            Some(words) => {
                assert!(matches!(&state, Status::Held(said) if said.starts_with(words)), "{state:?}");
                assert!(wait >= Duration::from_secs(30), "{wait:?}");
            }
            None => assert!(matches!(state, Status::Retrying(_)), "{state:?}"),
        }
    }
    supervisor.ended_after(Duration::from_secs(3600), true);
    supervisor.wait_after(inside());
    let state = states.all().remove(0).1;
    assert!(matches!(state, Status::Retrying(_)), "it was well for an hour in between: {state:?}");
}

/// Runs a session that subscribes, delivers a message, and then fails with `error`. The broker closes at
/// once.
async fn run_scripted(supervisor: &mut SupervisorTask, error: SourceError) -> Result<(), SourceError> {
    let brings =
        || SessionProgress { subscribed: true, messages: vec![message("1")], ..SessionProgress::default() };
    run_bringing(supervisor, brings, error).await
}

async fn run_bringing(
    supervisor: &mut SupervisorTask,
    brings: fn() -> SessionProgress,
    error: SourceError,
) -> Result<(), SourceError> {
    let (ours, mut broker) = tokio::io::duplex(1 << 10);
    broker.write_all(b"?").await.unwrap();
    broker.shutdown().await.unwrap();
    supervisor.new_session =
        Box::new(move |_, _, _, _| Scripted::new([(brings(), Err(error.clone()))], None));
    let endpoint = supervisor.settings.endpoints[0].clone();
    supervisor.run_session(&endpoint, Box::new(ours)).await
}

/// The broker may not have read the last acknowledgements, whichever side ended the connection, and
/// whenever.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_lost_leaves_the_disconnect_unconfirmed() {
    let gibberish = || SourceError::protocol("gibberish");
    for (error, settles, confirmed) in [
        (SourceError::Closed("reset".to_owned()), false, false),
        (gibberish(), false, false),
        // The session ends once all is acknowledged, and the broker has read that before it closes.
        (gibberish(), true, true),
        // It closes by itself after an error of its own, whatever it has read.
        (SourceError::from_broker("out of memory", false), true, false),
    ] {
        let states = StatusRegistry::default();
        let (mut supervisor, mut taken, acks) = supervisor(&states);
        let dispatcher = tokio::spawn(async move {
            while let Some(incoming) = taken.recv().await {
                if settles && matches!(incoming, Incoming::Messages(_)) {
                    acks.send_replace((SessionId(1), 1));
                }
            }
        });
        run_scripted(&mut supervisor, error.clone()).await.unwrap_err();
        // A session that brings nothing says nothing of the one before.
        run_bringing(&mut supervisor, SessionProgress::default, gibberish()).await.unwrap_err();
        supervisor.close.cancel();
        let disconnect = supervisor.run().await;
        dispatcher.await.unwrap();
        assert_eq!(matches!(disconnect, Disconnect::Confirmed), confirmed, "{error}: {disconnect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_ending_does_not_become_ready() {
    let states = StatusRegistry::default();
    let (mut supervisor, _taken, _acks) = supervisor(&states);
    supervisor.on_probation = true;
    let began = Instant::now();
    run_scripted(&mut supervisor, SourceError::protocol("gibberish")).await.unwrap_err();
    assert!(began.elapsed() > probation::LASTS, "what it brought is not settled");
    let state = states.all().remove(0).1;
    assert!(!matches!(state, Status::Ready), "{state:?}");
}

#[tokio::test]
async fn a_session_that_is_given_up_ends_and_another_follows() {
    let states = StatusRegistry::default();
    let (mut supervisor, mut incoming, _acks) = supervisor(&states);
    let (ours, mut broker) = tokio::io::duplex(1 << 10);
    broker.write_all(b"?").await.unwrap();
    let subscribed = || SessionProgress { subscribed: true, ..SessionProgress::default() };
    supervisor.new_session = Box::new(move |_, _, _, _| Scripted::new([(subscribed(), Ok(()))], None));
    let given_up = supervisor.given_up.clone();
    given_up.send_replace(SessionId(7));
    let endpoint = settings().endpoints[0].clone();
    let ended;
    {
        let run = supervisor.run_session(&endpoint, Box::new(ours));
        tokio::pin!(run);
        let still_runs = tokio::time::timeout(Duration::from_millis(50), &mut run).await;
        assert!(still_runs.is_err(), "another session was given up");
        given_up.send_replace(SessionId(1));
        ended = run.await;
    }
    assert!(matches!(ended, Err(SourceError::GivenUp)), "{ended:?}");
    let mut last = None;
    while let Ok(next) = incoming.try_recv() {
        last = Some(next);
    }
    assert!(matches!(last, Some(Incoming::Lost(SessionId(1)))), "{last:?}");
    supervisor.wait_after(SourceError::GivenUp);
    let state = states.all().remove(0).1;
    assert!(
        matches!(&state, Status::Retrying(why) if why.contains("the broker decides which bridge is active")),
        "{state:?}"
    );
}
