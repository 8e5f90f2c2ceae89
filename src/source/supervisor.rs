//! Keeps a session running, whatever the protocol: connects, tries the addresses in turn, waits between
//! attempts, reports the status of the source, and sends sessions and their messages to the dispatcher.

mod probation;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::addresses::Addresses;
use super::config::{Endpoint, SourceSettings};
use super::connection::{self, ConnectionHandles};
use super::error::{Retry, SourceError};
use super::login_errors::LoginErrors;
use super::network::{BrokerStream, Network};
use super::protocol::session::Session;
use super::suspicion::Suspicion;
use super::{Disconnect, Incoming, Source, wrong_port};
use crate::backoff::Backoff;
use crate::budget::Budget;
use crate::event::SessionId;
use crate::protocol_guess::FirstBytes;
use crate::telemetry::counters::SubscriptionCounters;
use crate::telemetry::status::{Status, StatusReporter};
use crate::telemetry::watchdog::LoopMark;

/// Batches between connection and dispatcher. Few, since what the dispatcher has not taken should wait in the
/// broker.
const QUEUE: usize = 4;

/// A session that lasted this long, or that delivered a message, was a success: the back-off starts again
/// from the beginning.
const LASTING: Duration = Duration::from_secs(10);

/// The longest wait between attempts while the broker still holds our own dead session.
const LONGEST_WAIT_FOR_OURSELVES: Duration = Duration::from_secs(5);

/// Makes the session for a new connection to an address. Everything else in this module is the same for each
/// protocol.
pub type NewSession =
    Box<dyn Fn(&Endpoint, Arc<SourceSettings>, Budget, Instant) -> Box<dyn Session> + Send + Sync>;

/// A source that reconnects by itself, over STOMP or OpenWire.
pub struct Supervisor {
    incoming: mpsc::Receiver<Incoming>,
    acks: watch::Sender<(SessionId, u64)>,
    given_up: watch::Sender<SessionId>,
    close: CancellationToken,
    counters: Arc<SubscriptionCounters>,
    /// `None` once [`Source::close`] has waited for its end.
    task: Option<AbortOnDropHandle<Disconnect>>,
}

impl Supervisor {
    /// Starts to connect at once. Dropping the supervisor abandons the connection.
    pub fn start(
        settings: Arc<SourceSettings>,
        network: Arc<dyn Network>,
        new_session: NewSession,
        budget: Budget,
        counters: Arc<SubscriptionCounters>,
        reporter: StatusReporter,
        loop_mark: LoopMark,
    ) -> Self {
        let (supervisor, incoming, acks) =
            SupervisorTask::new(settings, network, new_session, budget, Arc::clone(&counters), reporter);
        let (close, given_up) = (supervisor.close.clone(), supervisor.given_up.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(loop_mark.during(supervisor.run())));
        Self { incoming, acks, given_up, close, counters, task: Some(task) }
    }
}

#[async_trait]
impl Source for Supervisor {
    async fn next(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    fn ack(&mut self, session: SessionId, through: u64) {
        self.acks.send_replace((session, through));
    }

    fn give_up(&mut self, session: SessionId) {
        self.given_up.send_replace(session);
    }

    async fn close(&mut self) -> Disconnect {
        self.close.cancel();
        // What still waits between connection and dispatcher is unacknowledged and comes again.
        while let Some(incoming) = self.incoming.recv().await {
            if let Incoming::Messages(messages) = incoming {
                self.counters.left.add(messages.len() as u64);
            }
        }
        let Some(task) = self.task.take() else { return Disconnect::Unconfirmed };
        task.await.unwrap_or(Disconnect::Unconfirmed)
    }
}

struct SupervisorTask {
    settings: Arc<SourceSettings>,
    network: Arc<dyn Network>,
    new_session: NewSession,
    budget: Budget,
    counters: Arc<SubscriptionCounters>,
    reporter: StatusReporter,
    incoming: mpsc::Sender<Incoming>,
    acks: watch::Receiver<(SessionId, u64)>,
    /// The last session that the dispatcher has given up.
    given_up: watch::Sender<SessionId>,
    close: CancellationToken,
    backoff: Backoff,
    session: SessionId,
    /// How the last session that delivered messages ended, unless the broker confirmed its end.
    unconfirmed: Option<String>,
    addresses: Addresses,
    /// The last attempt failed: its reason stays in the status until an attempt succeeds.
    last_failed: bool,
    /// The last session ended in a way that may also end the next one.
    on_probation: bool,
    suspicion: Suspicion,
    login_errors: LoginErrors,
    last_message: String,
    /// When the broker first answered "already connected", in the current run of such answers.
    refused_since: Option<Instant>,
}

impl SupervisorTask {
    /// Returns also where its messages come out and where the acknowledgements go in.
    fn new(
        settings: Arc<SourceSettings>,
        network: Arc<dyn Network>,
        new_session: NewSession,
        budget: Budget,
        counters: Arc<SubscriptionCounters>,
        reporter: StatusReporter,
    ) -> (Self, mpsc::Receiver<Incoming>, watch::Sender<(SessionId, u64)>) {
        let (incoming, messages) = mpsc::channel(QUEUE);
        let (acks, acked) = watch::channel((SessionId(0), 0));
        let supervisor = Self {
            backoff: Backoff::new(settings.backoff),
            addresses: Addresses::new(settings.endpoints.len()),
            settings,
            network,
            new_session,
            budget,
            counters,
            reporter,
            incoming,
            acks: acked,
            given_up: watch::Sender::new(SessionId(0)),
            close: CancellationToken::new(),
            session: SessionId(0),
            unconfirmed: None,
            last_failed: false,
            on_probation: false,
            suspicion: Suspicion::default(),
            login_errors: LoginErrors::default(),
            last_message: String::new(),
            refused_since: None,
        };
        (supervisor, messages, acks)
    }

    async fn run(mut self) -> Disconnect {
        self.reconnect_until_closed().await;
        let Some(why) = self.unconfirmed else { return Disconnect::Confirmed };
        tracing::warn!("the broker did not confirm our disconnect ({why}): the last events may come again");
        Disconnect::Unconfirmed
    }

    async fn reconnect_until_closed(&mut self) {
        let settings = Arc::clone(&self.settings);
        let (network, close) = (Arc::clone(&self.network), self.close.clone());
        loop {
            let endpoint = &settings.endpoints[self.addresses.at];
            if !self.last_failed {
                self.reporter.report(Status::Starting(format!("connecting to {endpoint}")));
            }
            let first = FirstBytes::default();
            let connected = tokio::select! {
                biased;
                () = close.cancelled() => return,
                connected = network.connect(endpoint, &settings, &first) => connected,
            };
            let outcome = match connected {
                Ok(stream) => self.run_session(endpoint, stream).await,
                Err(error) => Err(error),
            };
            let Err(error) = outcome else { return };
            if self.close.is_cancelled() || self.incoming.is_closed() {
                return;
            }
            let error = tokio::select! {
                biased;
                () = close.cancelled() => return,
                error = self.true_cause(error, endpoint, &first) => error,
            };
            let error = self.login_errors.of(error, self.addresses.at, self.patience());
            let is_renewal = matches!(error, SourceError::Renewal);
            let due = Instant::now() + self.wait_after(error);
            // A session that only renews its subscription had a good address: it stays there.
            let next = if is_renewal { due } else { self.addresses.next(due) };
            tokio::select! {
                biased;
                () = close.cancelled() => return,
                () = sleep_until(next) => {}
            }
        }
    }

    /// Finds out what listens at the address, unless a session has succeeded there before.
    async fn true_cause(&self, error: SourceError, endpoint: &Endpoint, first: &FirstBytes) -> SourceError {
        match self.addresses.is_known() {
            true => error,
            false => wrong_port::true_cause(error, endpoint, first, &self.settings, &*self.network).await,
        }
    }

    async fn run_session(
        &mut self,
        endpoint: &Endpoint,
        stream: Box<dyn BrokerStream>,
    ) -> Result<(), SourceError> {
        self.session.0 += 1;
        let began = Instant::now();
        let (before, sessions) = (self.counters.received.get(), self.counters.sessions.get());
        let session = (self.new_session)(endpoint, Arc::clone(&self.settings), self.budget.clone(), began);
        let (outcome, is_confirmed) = self.run_to_its_end(session, stream).await;
        self.last_failed = false;
        if self.counters.sessions.get() > sessions {
            self.addresses.subscribed();
            if let Err(error) = &outcome {
                self.on_probation = error.comes_with_a_message() || began.elapsed() < probation::LASTS;
            }
        }
        let (lasted, brought_messages) = (began.elapsed(), self.counters.received.get() > before);
        match &outcome {
            Err(_) if !brought_messages => {}
            Err(error) if !is_confirmed => self.unconfirmed = Some(error.to_string()),
            _ => self.unconfirmed = None,
        }
        self.ended_after(lasted, brought_messages);
        let lost = self.incoming.send(Incoming::Lost(self.session));
        tokio::select! {
            biased;
            () = self.close.cancelled() => {}
            // The dispatcher is gone and needs no message.
            _ = lost => {}
        }
        outcome
    }

    /// Returns also whether the broker knows every acknowledgement of the session.
    async fn run_to_its_end(
        &mut self,
        session: Box<dyn Session>,
        stream: Box<dyn BrokerStream>,
    ) -> (Result<(), SourceError>, bool) {
        let (subscribed, on_probation) = (Notify::new(), self.on_probation);
        let on_subscribed = |_| {
            self.counters.sessions.add(1);
            match on_probation {
                true => subscribed.notify_one(),
                false => self.reporter.report(Status::Ready),
            }
        };
        let (ending, mut is_confirmed) = (CancellationToken::new(), false);
        let handles = ConnectionHandles {
            id: self.session,
            incoming: &self.incoming,
            acks: &mut self.acks,
            close: &self.close,
            budget: &self.budget,
            counters: &self.counters,
            last_message: &mut self.last_message,
            grace: self.settings.connect_timeout,
            on_subscribed: &on_subscribed,
            ending: &ending,
            is_confirmed: &mut is_confirmed,
        };
        let mut given_up = self.given_up.subscribe();
        let running = async {
            tokio::select! {
                biased;
                outcome = connection::run_session(session, stream, handles) => outcome,
                // Dropping the connection leaves its messages to the broker.
                _ = given_up.wait_for(|session| *session == self.session) => Err(SourceError::GivenUp),
            }
        };
        let passed = || {
            self.on_probation = false;
            self.reporter.report(Status::Ready);
        };
        let outcome = probation::run(running, &subscribed, &ending, passed).await;
        (outcome, is_confirmed)
    }

    fn ended_after(&mut self, lasted: Duration, brought_messages: bool) {
        if brought_messages || lasted >= LASTING {
            self.backoff.reset();
        }
        // A session that a message ends lasts at most as long as the messages before it may take to be
        // settled.
        if lasted > self.settings.connect_timeout + LASTING {
            self.suspicion.clear();
        }
    }

    /// Returns how long to wait before the next attempt after `error`, and reports the error.
    fn wait_after(&mut self, error: SourceError) -> Duration {
        self.last_failed = true;
        if matches!(error, SourceError::Renewal) {
            // The source works and goes on at once. Only a new session that can't begin would be worth
            // reporting.
            tracing::debug!("{error}");
            return Duration::ZERO;
        }
        let error = self.suspicion.of(error);
        self.counters.reconnects.add(error.label(), 1);
        let retry = error.retry();
        let state = match (&error, retry) {
            (SourceError::AlreadyConnected { .. }, _) if self.is_normal_after_a_restart() => {
                Status::Starting(error.to_string())
            }
            // A quiet queue is no error; neither is a standby of strict ordering.
            (SourceError::Idle(_), _) => Status::Starting(error.to_string()),
            _ if error.needs_operator() => Status::Held(error.to_string()),
            _ => Status::Retrying(error.to_string()),
        };
        if !matches!(error, SourceError::AlreadyConnected { .. }) {
            self.refused_since = None;
        }
        let state = self.next_address(state, &error);
        self.reporter.report(state);
        let wait = match retry {
            // The broker drops the dead session at a time of its own choice; retry soon after that.
            Retry::Soon if matches!(error, SourceError::AlreadyConnected { .. }) => {
                self.backoff.next_wait().min(LONGEST_WAIT_FOR_OURSELVES)
            }
            Retry::Soon => self.backoff.next_wait(),
            Retry::Slowly => Duration::from_secs(30).mul_f64(1.0 + fastrand::f64()),
        };
        self.reporter.next_try((Instant::now() + wait).into_std());
        wait
    }

    /// Returns the status for all addresses after the current one has failed.
    fn next_address(&mut self, state: Status, error: &SourceError) -> Status {
        let is_normal = matches!(state, Status::Starting(_));
        self.addresses.failed(state).unwrap_or_else(|| {
            let going_on = format!("{error}; trying the next address");
            if !is_normal {
                tracing::warn!("{going_on}");
            }
            Status::Starting(going_on)
        })
    }

    /// How long the broker may keep a dead session: three heart-beats (`protocols.md §1.10`).
    fn patience(&self) -> Duration {
        self.settings.heart_beat.unwrap_or(Duration::from_secs(20)) * 3
    }

    /// As long as the broker may keep a dead session, its refusal is a normal part of a restart (D4).
    fn is_normal_after_a_restart(&mut self) -> bool {
        let since = *self.refused_since.get_or_insert_with(|| {
            tracing::info!("the broker still holds our last connection; waiting until it lets go");
            Instant::now()
        });
        since.elapsed() < self.patience()
    }
}

#[cfg(test)]
mod tests;
