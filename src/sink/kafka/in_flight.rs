//! What the client's threads tell the lane: verdicts, how the opening ends, and how the brokers are.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::Notify;

use crate::display::one_line;
use crate::sink::{DeliveryId, Rejection, SinkError, SinkErrorKind, Verdict};

/// The most deliveries without a verdict.
pub(super) const MAX_DELIVERIES: usize = 16_384;
/// The most bytes of bodies without a verdict; one more is taken when nothing is in flight.
pub(super) const MAX_BYTES: usize = 32 << 20;
/// So few in flight are no reason to wait: that they go in pieces costs nothing.
const FEW: usize = 64;
/// So long without a report while something is in flight, and the trouble is shown.
const PATIENCE: Duration = Duration::from_secs(10);

/// Until the next statistics (`client.rs`) brokers that throttled count as throttling.
const THROTTLED_FOR: Duration = Duration::from_secs(10);
/// Throttling that begins again within this time is no news.
const THROTTLED_AGAIN: Duration = Duration::from_secs(600);

/// Bounded by what was submitted: one verdict for each delivery.
pub(super) struct KafkaInFlight {
    state: Mutex<KafkaInFlightState>,
    news: Notify,
    /// How long the deliveries of a wave are taken, where they go out in waves (`distance.rs`).
    gathering: Option<Duration>,
}

struct KafkaInFlightState {
    verdicts: Vec<(DeliveryId, Verdict)>,
    /// Accepted, and the lane has not taken the verdict yet.
    open: usize,
    /// Accepted, and librdkafka has not reported yet.
    flying: usize,
    /// Of those that fly.
    bytes: usize,
    /// When the first delivery of the last wave was taken.
    wave: Option<Instant>,
    /// Nothing more is taken, and once nothing flies any more the opening is broken.
    ending: Option<SinkError>,
    /// What is not in a request yet is to come back.
    purge: bool,
    /// Since when the oldest in flight waits, or the last report.
    heard: Instant,
    /// When a record was durable last.
    durable: Option<Instant>,
    /// What ended the opening before; gone with the first durable record.
    carried: Option<SinkError>,
    /// What the brokers, or the lack of them, said last.
    trouble: Option<SinkError>,
    /// Why a connection failed last, in librdkafka's words.
    failure: Option<ClientError>,
    /// librdkafka has lost its connections to all brokers.
    all_down: bool,
    /// Until when the brokers answer late on purpose.
    throttled: Option<Instant>,
}

/// How many deliveries, from the front, may go.
pub(super) enum Room {
    /// So many; they count as in flight from now on.
    For(usize),
    /// None; the opening ends, is full, or has a wave under way.
    None,
}

impl KafkaInFlight {
    /// For a new opening after one that ended with `carried`. With `gathering`, what is not taken within that
    /// time after the first waits until nearly all of the wave has come back.
    pub(super) fn new(carried: Option<SinkError>, gathering: Option<Duration>) -> Self {
        let state = KafkaInFlightState {
            verdicts: Vec::new(),
            open: 0,
            flying: 0,
            bytes: 0,
            wave: None,
            ending: None,
            purge: false,
            heard: Instant::now(),
            durable: None,
            carried,
            trouble: None,
            failure: None,
            all_down: false,
            throttled: None,
        };
        Self { state: Mutex::new(state), news: Notify::new(), gathering }
    }

    /// Makes room for the first of the deliveries with these sizes.
    ///
    /// # Errors
    /// The opening is broken and nothing is in flight any more.
    pub(super) fn reserve(&self, sizes: impl Iterator<Item = usize>) -> Result<Room, SinkError> {
        let mut state = self.lock();
        if let Some(error) = &state.ending {
            return if state.open == 0 { Err(error.clone()) } else { Ok(Room::None) };
        }
        let now = Instant::now();
        if state.flying == 0 {
            state.heard = now;
        }
        if let Some(gathering) = self.gathering
            && state.wave.is_none_or(|began| now.duration_since(began) > gathering)
        {
            if state.flying >= FEW {
                return Ok(Room::None);
            }
            state.wave = Some(now);
        }
        let mut taken = 0;
        for size in sizes {
            let is_full = state.open >= MAX_DELIVERIES || state.bytes + size > MAX_BYTES;
            if is_full && state.open > 0 {
                break;
            }
            state.open += 1;
            state.flying += 1;
            state.bytes += size;
            taken += 1;
        }
        Ok(if taken == 0 { Room::None } else { Room::For(taken) })
    }

    /// Gives back the room of deliveries that librdkafka did not take.
    pub(super) fn give_back(&self, sizes: impl Iterator<Item = usize>) {
        let mut state = self.lock();
        for size in sizes {
            state.open = state.open.saturating_sub(1);
            state.answered(size);
        }
    }

    /// librdkafka refused this delivery at once.
    pub(super) fn refuse(&self, id: DeliveryId, bytes: usize, rejection: Rejection) {
        self.report(id, bytes, Verdict::Reject(rejection));
    }

    /// The report on a delivery.
    pub(super) fn report(&self, id: DeliveryId, bytes: usize, verdict: Verdict) {
        let mut state = self.lock();
        state.answered(bytes);
        state.heard = Instant::now();
        if matches!(verdict, Verdict::Durable) {
            state.durable = Some(state.heard);
            state.carried = None;
            state.clear_health();
        }
        state.verdicts.push((id, verdict));
        let is_first = state.verdicts.len() == 1;
        let is_last = state.flying == 0;
        drop(state);
        if is_first || is_last {
            self.news.notify_one();
        }
    }

    /// Ends the opening because of `error`, unless it ends already.
    pub(super) fn end(&self, error: SinkError) {
        self.change(|state| {
            state.ending.get_or_insert(error);
        });
    }

    /// Ends the opening because of `error`, which says more than what may have ended it before.
    pub(super) fn end_since(&self, error: SinkError) {
        self.change(|state| state.ending = Some(error));
    }

    /// Whether a delivery has no verdict yet, or one that the lane has not taken.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().open > 0
    }

    /// Whether a record was durable within the last `time`.
    pub(super) fn was_durable_within(&self, time: Duration) -> bool {
        self.lock().durable.is_some_and(|durable| durable.elapsed() < time)
    }

    /// Why the opening ends, if it does.
    pub(super) fn ending(&self) -> Option<SinkError> {
        self.lock().ending.clone()
    }

    /// Why a record comes back that failed with others.
    pub(super) fn collateral_failure(&self) -> SinkError {
        let unknown = || SinkError::unavailable("the record came back with others that failed");
        self.ending().unwrap_or_else(unknown)
    }

    /// From now on whatever is not in a request comes back.
    pub(super) fn purge(&self) {
        self.change(|state| state.purge = true);
    }

    /// Whether something is to be purged now.
    pub(super) fn wants_purge(&self) -> bool {
        let state = self.lock();
        state.purge && state.flying > 0
    }

    /// The brokers are in trouble, or no longer.
    pub(super) fn set_health(&self, trouble: Option<SinkError>) {
        let mut state = self.lock();
        match trouble {
            Some(trouble) => state.trouble = Some(trouble),
            None => state.clear_health(),
        }
    }

    /// A connection failed: with several brokers no trouble by itself. A refused login says more than a
    /// connection that was closed after it.
    pub(super) fn set_failure(&self, code: Code, words: &str) {
        let passes = [Code::BrokerTransportFailure, Code::Resolve, Code::OperationTimedOut];
        let mut state = self.lock();
        let is_less = |known: &ClientError| passes.contains(&code) && !passes.contains(&known.code);
        if !state.failure.as_ref().is_some_and(is_less) {
            state.failure = Some(ClientError::new(code, words));
        }
    }

    /// Why a connection failed last, if none has succeeded since.
    pub(super) fn failure(&self) -> Option<ClientError> {
        self.lock().failure.clone()
    }

    /// librdkafka has lost its connections to all brokers.
    pub(super) fn set_all_down(&self) {
        self.lock().all_down = true;
    }

    /// Whether it has, since it was asked last.
    pub(super) fn take_all_down(&self) -> bool {
        std::mem::take(&mut self.lock().all_down)
    }

    /// The brokers have delayed their answers by so much. Whether that is news.
    pub(super) fn set_throttled(&self, delay: Duration) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let was = state.throttled.is_some_and(|until| now < until + THROTTLED_AGAIN);
        state.throttled = Some(now + delay + THROTTLED_FOR);
        !was
    }

    /// Whether they delay them at the moment.
    pub(super) fn is_throttled(&self) -> bool {
        self.lock().throttled.is_some_and(|until| Instant::now() < until)
    }

    /// The trouble, if the brokers are in one.
    pub(super) fn health_error(&self) -> Option<SinkError> {
        self.lock().trouble.clone()
    }

    /// See [`crate::sink::Verdicts::health`].
    pub(super) fn health(&self) -> Result<(), SinkError> {
        let state = self.lock();
        let known = [&state.trouble, &state.carried].into_iter().flatten();
        // What an operator must do is said first.
        if let Some(error) = known.max_by_key(|error| error.kind == SinkErrorKind::Misconfigured) {
            return Err(error.clone());
        }
        // Late on purpose is not silent; the log has it.
        let is_throttled = state.throttled.is_some_and(|until| Instant::now() < until);
        if state.flying > 0 && !is_throttled && state.heard.elapsed() > PATIENCE {
            let silent =
                format!("events wait, and the brokers are silent for more than {} s", PATIENCE.as_secs());
            return Err(SinkError::unavailable(silent));
        }
        Ok(())
    }

    /// Returns once there is a verdict or the opening is broken. Cancel-safe.
    pub(super) async fn wait(&self) {
        loop {
            {
                let state = self.lock();
                if !state.verdicts.is_empty() || (state.ending.is_some() && state.flying == 0) {
                    return;
                }
            }
            self.news.notified().await;
        }
    }

    /// Takes all verdicts there are.
    pub(super) fn take(&self) -> Vec<(DeliveryId, Verdict)> {
        let mut state = self.lock();
        state.open = state.open.saturating_sub(state.verdicts.len());
        std::mem::take(&mut state.verdicts)
    }

    fn change(&self, change: impl FnOnce(&mut KafkaInFlightState)) {
        change(&mut self.lock());
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, KafkaInFlightState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KafkaInFlightState {
    fn clear_health(&mut self) {
        self.trouble = None;
        self.failure = None;
        self.all_down = false;
    }

    fn answered(&mut self, bytes: usize) {
        self.flying = self.flying.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Why a connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientError {
    /// As librdkafka counts it.
    pub(super) code: Code,
    /// What of its words tells the cause: which broker it was, times and counts make every failure a new one.
    pub(super) words: String,
    /// The broker, unless it is known by one of the configured addresses only: number and address.
    pub(super) broker: Option<(i32, String)>,
}

impl ClientError {
    fn new(code: Code, words: &str) -> Self {
        let words = words.split(" (after ").next().unwrap_or(words);
        // `sasl_ssl://host:9092/bootstrap: what has failed`, or `host:9092/1: what has failed`.
        let named = words.split_once(": ").and_then(|(who, what)| {
            let (address, id) = who.rsplit_once('/').filter(|_| !who.contains(' '))?;
            let address = address.split_once("://").map_or(address, |(_, address)| address);
            Some((id.parse().ok().map(|id| (id, one_line(address).into_owned())), what))
        });
        let (broker, what) = named.unwrap_or((None, words));
        Self { code, words: one_line(what).into_owned(), broker }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(outbox: &KafkaInFlight, sizes: &[usize]) -> usize {
        match outbox.reserve(sizes.iter().copied()).unwrap() {
            Room::For(count) => count,
            Room::None => 0,
        }
    }

    #[tokio::test]
    async fn it_is_bounded_by_count_and_bytes_and_takes_one_when_idle() {
        let outbox = KafkaInFlight::new(None, None);
        assert_eq!(reserved(&outbox, &[MAX_BYTES + 1, 1]), 1);
        outbox.report(DeliveryId(0), MAX_BYTES + 1, Verdict::Durable);
        assert_eq!(outbox.take().len(), 1);
        assert_eq!(reserved(&outbox, &[MAX_BYTES, 1]), 1);
        outbox.give_back([MAX_BYTES].into_iter());
        assert_eq!(reserved(&outbox, &vec![1; MAX_DELIVERIES + 1]), MAX_DELIVERIES);
        assert_eq!(reserved(&outbox, &[1]), 0);
        // Only what the lane has taken makes room.
        outbox.report(DeliveryId(1), 1, Verdict::Durable);
        assert_eq!(reserved(&outbox, &[1]), 0);
        outbox.take();
        assert_eq!(reserved(&outbox, &[1, 1]), 1);
    }

    #[tokio::test]
    async fn a_wave_is_followed_by_the_next_once_nearly_all_of_it_is_back() {
        let outbox = KafkaInFlight::new(None, Some(Duration::ZERO));
        assert_eq!(reserved(&outbox, &[1; FEW + 1]), FEW + 1);
        let back = |id| outbox.report(DeliveryId(id), 1, Verdict::Durable);
        back(0);
        assert_eq!(reserved(&outbox, &[1]), 0, "a wave is under way");
        back(1);
        assert_eq!(reserved(&outbox, &[1; FEW + 1]), FEW + 1, "few of it are left");
        assert_eq!(reserved(&outbox, &[1]), 0, "the next is under way");

        let outbox = KafkaInFlight::new(None, Some(Duration::MAX));
        assert_eq!(reserved(&outbox, &[1; FEW]), FEW);
        assert_eq!(reserved(&outbox, &[1; FEW]), FEW, "the wave is gathered");
    }

    #[tokio::test]
    async fn an_ending_opening_breaks_only_when_every_report_is_in() {
        let outbox = KafkaInFlight::new(None, None);
        assert_eq!(reserved(&outbox, &[1, 1]), 2);
        outbox.end(SinkError::unavailable("first"));
        outbox.end(SinkError::unavailable("second"));
        assert_eq!(reserved(&outbox, &[1]), 0);
        let waits = || tokio::time::timeout(Duration::from_millis(20), outbox.wait());
        assert!(waits().await.is_err(), "broken while two are in flight");
        outbox.report(DeliveryId(0), 1, Verdict::Durable);
        outbox.report(DeliveryId(1), 1, Verdict::Durable);
        outbox.wait().await;
        assert!(matches!(outbox.reserve([1].into_iter()), Ok(Room::None)), "the lane does not know yet");
        assert_eq!(outbox.take().len(), 2);
        outbox.wait().await;
        let Err(error) = outbox.reserve([1].into_iter()) else { panic!("open") };
        assert_eq!(error.to_string(), "first");
    }

    #[test]
    fn words_of_librdkafka_are_the_same_each_time_and_a_refused_login_is_not_overwritten() {
        let words = "sasl_plaintext://127.0.0.1:9092/1: SASL authentication error: Authentication failed: Invalid \
                     username or password (after 302ms in state AUTH_REQ, 1 identical error(s) suppressed)";
        let short = "SASL authentication error: Authentication failed: Invalid username or password";
        let failure = ClientError::new(Code::Authentication, words);
        assert_eq!((failure.words.as_str(), failure.broker), (short, Some((1, "127.0.0.1:9092".to_owned()))));
        for (words, what, broker) in [
            ("Failed to resolve 'a:1': no", "Failed to resolve 'a:1': no", None),
            ("a:1/bootstrap: Connect to ipv4#a:1 failed: no", "Connect to ipv4#a:1 failed: no", None),
            ("a:1/2: Connect failed: no", "Connect failed: no", Some((2, "a:1".to_owned()))),
        ] {
            let failure = ClientError::new(Code::BrokerTransportFailure, words);
            assert_eq!((failure.words.as_str(), failure.broker), (what, broker));
        }
        let outbox = KafkaInFlight::new(None, None);
        outbox.set_failure(Code::Authentication, words);
        outbox.set_failure(
            Code::BrokerTransportFailure,
            "ssl://a:1/bootstrap: Disconnected (after 3ms in state UP)",
        );
        assert_eq!(outbox.failure().map(|failure| failure.words), Some(short.to_owned()));
        outbox.set_health(None);
        assert_eq!(outbox.failure(), None);
    }

    #[test]
    fn throttling_is_news_once_and_is_not_silence() {
        let outbox = KafkaInFlight::new(None, None);
        assert!(!outbox.is_throttled());
        assert!(outbox.set_throttled(Duration::from_secs(1)));
        assert!(!outbox.set_throttled(Duration::from_secs(1)));
        assert!(outbox.is_throttled());
    }

    #[tokio::test]
    async fn a_trouble_is_shown_until_a_record_is_durable() {
        let outbox = KafkaInFlight::new(Some(SinkError::misconfigured("read-only")), None);
        outbox.set_health(Some(SinkError::unavailable("away")));
        assert_eq!(outbox.health().unwrap_err().to_string(), "read-only");
        outbox.set_health(None);
        assert_eq!(outbox.health().unwrap_err().to_string(), "read-only");
        assert!(!outbox.was_durable_within(Duration::MAX));
        reserved(&outbox, &[1]);
        outbox.report(DeliveryId(0), 1, Verdict::Durable);
        assert!(outbox.health().is_ok());
        assert!(outbox.was_durable_within(Duration::MAX) && !outbox.was_durable_within(Duration::ZERO));
    }
}
