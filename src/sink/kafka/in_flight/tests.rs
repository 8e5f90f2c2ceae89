//! Tests the bounds, the end and the failures of what is in flight.

use super::*;

fn reserved(in_flight: &KafkaInFlight, sizes: &[usize]) -> usize {
    in_flight.reserve(sizes.iter().copied()).unwrap()
}

#[tokio::test]
async fn it_is_bounded_by_count_and_bytes_and_takes_one_when_idle() {
    let in_flight = KafkaInFlight::new(None, None);
    assert_eq!(reserved(&in_flight, &[MAX_BYTES + 1, 1]), 1);
    in_flight.report(DeliveryId(0), MAX_BYTES + 1, Verdict::Durable);
    assert_eq!(in_flight.take().len(), 1);
    assert_eq!(reserved(&in_flight, &[MAX_BYTES, 1]), 1);
    in_flight.give_back([MAX_BYTES].into_iter());
    assert_eq!(reserved(&in_flight, &vec![1; MAX_DELIVERIES + 1]), MAX_DELIVERIES);
    assert_eq!(reserved(&in_flight, &[1]), 0);
    // Only verdicts that the sink worker has taken make room.
    in_flight.report(DeliveryId(1), 1, Verdict::Durable);
    assert_eq!(reserved(&in_flight, &[1]), 0);
    in_flight.take();
    assert_eq!(reserved(&in_flight, &[1, 1]), 1);
}

#[tokio::test]
async fn a_wave_is_followed_by_the_next_once_nearly_all_of_it_is_back() {
    let in_flight = KafkaInFlight::new(None, Some(Duration::ZERO));
    assert_eq!(reserved(&in_flight, &[1; FEW + 1]), FEW + 1);
    let back = |id| in_flight.report(DeliveryId(id), 1, Verdict::Durable);
    back(0);
    assert_eq!(reserved(&in_flight, &[1]), 0, "a wave is under way");
    back(1);
    assert_eq!(reserved(&in_flight, &[1; FEW + 1]), FEW + 1, "few of it are left");
    assert_eq!(reserved(&in_flight, &[1]), 0, "the next is under way");

    let in_flight = KafkaInFlight::new(None, Some(Duration::MAX));
    assert_eq!(reserved(&in_flight, &[1; FEW]), FEW);
    assert_eq!(reserved(&in_flight, &[1; FEW]), FEW, "the wave is gathered");
}

#[tokio::test]
async fn an_ending_opening_breaks_only_when_every_report_is_in() {
    let in_flight = KafkaInFlight::new(None, None);
    assert_eq!(reserved(&in_flight, &[1, 1]), 2);
    in_flight.end(SinkError::unavailable("first"));
    in_flight.end(SinkError::unavailable("second"));
    assert_eq!(reserved(&in_flight, &[1]), 0);
    let waits = || tokio::time::timeout(Duration::from_millis(20), in_flight.wait());
    assert!(waits().await.is_err(), "broken while two are in flight");
    in_flight.report(DeliveryId(0), 1, Verdict::Durable);
    in_flight.report(DeliveryId(1), 1, Verdict::Durable);
    in_flight.wait().await;
    assert_eq!(reserved(&in_flight, &[1]), 0, "the worker does not know yet");
    assert_eq!(in_flight.take().len(), 2);
    in_flight.wait().await;
    let error = in_flight.reserve([1].into_iter()).unwrap_err();
    assert_eq!(error.to_string(), "first");
}

#[test]
fn a_refused_login_is_not_overwritten_by_a_connection_that_was_closed_after_it() {
    let in_flight = KafkaInFlight::new(None, None);
    in_flight.set_failure(Code::Authentication, "a:1/1: Invalid username or password");
    in_flight.set_failure(
        Code::BrokerTransportFailure,
        "ssl://a:1/bootstrap: Disconnected (after 3ms in state UP)",
    );
    assert_eq!(
        in_flight.failure().map(|failure| failure.words),
        Some("Invalid username or password".to_owned())
    );
    in_flight.set_health(None);
    assert_eq!(in_flight.failure(), None);
}

#[test]
fn throttling_is_news_once_and_is_not_silence() {
    let in_flight = KafkaInFlight::new(None, None);
    assert!(!in_flight.is_throttled());
    assert!(in_flight.set_throttled(Duration::from_secs(1)));
    assert!(!in_flight.set_throttled(Duration::from_secs(1)));
    assert!(in_flight.is_throttled());
}

#[tokio::test]
async fn a_trouble_is_shown_until_a_record_is_durable() {
    let in_flight = KafkaInFlight::new(Some(SinkError::misconfigured("read-only")), None);
    in_flight.set_health(Some(SinkError::unavailable("away")));
    assert_eq!(in_flight.health().unwrap_err().to_string(), "read-only");
    in_flight.set_health(None);
    assert_eq!(in_flight.health().unwrap_err().to_string(), "read-only");
    assert!(!in_flight.has_accepted_within(Duration::MAX));
    reserved(&in_flight, &[1]);
    in_flight.report(DeliveryId(0), 1, Verdict::Durable);
    assert!(in_flight.health().is_ok());
    assert!(in_flight.has_accepted_within(Duration::MAX) && !in_flight.has_accepted_within(Duration::ZERO));
}
