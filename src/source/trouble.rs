//! Why a session could not begin or has ended, and what to do about it.

use crate::source::config::Endpoint;
use crate::tls::TlsError;

/// How the link goes on after trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After the usual back-off.
    Soon,
    /// After 30 to 60 seconds: only a person can help, and brokers lock accounts that hammer.
    Slowly,
}

/// What ended a session or kept it from beginning. The text is one line for people; [`Trouble::label`] is
/// the short fixed word for metrics.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Trouble {
    /// Name not resolved, nothing listening, no route.
    #[error("can't reach {endpoint}: {detail}; check source.url and the network")]
    Unreachable {
        /// Where to.
        endpoint: Endpoint,
        /// The system's words.
        detail: String,
    },
    /// Certificate or handshake.
    #[error("TLS with {endpoint} failed: {error}")]
    Tls {
        /// Where to.
        endpoint: Endpoint,
        /// Why, and what to do.
        error: TlsError,
    },
    /// The same after the handshake, as we see it.
    #[error("the broker refused the TLS connection: {0}")]
    TlsRefused(TlsError),
    /// Something else listens there, or the same otherwise.
    #[error("{0}")]
    WrongPort(String),
    /// The trouble of a session in which nothing came, not even a wrong answer.
    #[error("{trouble}; nothing at all came from {address}: if that lasts, see whether it is {expected}")]
    Unanswered {
        /// How it showed.
        trouble: Box<Trouble>,
        /// Host and port.
        address: String,
        /// Which port it should be, and which option says so.
        expected: String,
    },
    /// No answer in time.
    #[error("the broker did not answer {what} within {seconds} s")]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// Wrong username or password.
    #[error("the broker refused the login: {0:?}; check source.username and source.password")]
    Credentials(String),
    /// Logged in, but may not read the queue.
    #[error(
        "the broker refused to let this user read the queue: {0:?}; check source.namespace and \
         source.destination_id, and ask AtData whether the user may read this namespace \
         (a refused ActiveMQ.Advisory topic is the broker's own bookkeeping for a new queue)"
    )]
    NotAuthorized(String),
    /// The client id is taken: by our own dead session, or by somebody else.
    #[error(
        "the connection id is still in use, from {peer}; if that is this process's own earlier connection \
         the broker lets it go soon, otherwise give each process a source.connection_id of its own"
    )]
    AlreadyConnected {
        /// Who holds it, in the broker's words.
        peer: String,
    },
    /// Any other error that it reports.
    #[error("the broker reported an error: {message:?}")]
    Broker {
        /// Its words.
        message: String,
        /// What may be to blame.
        suspect: Option<Suspect>,
    },
    /// Nothing heard for twice the heart-beat.
    #[error("nothing heard from the broker for {0} s, twice the heart-beat")]
    Silent(u64),
    /// Nothing received for so long that the subscription may be dead.
    #[error("no event for {0} s; connecting anew in case the broker has dropped the subscription")]
    Idle(u64),
    /// The broker has removed the consumer: slow ones are, where its policy says so.
    #[error("the broker has taken the subscription away, as some do when acknowledgements are late")]
    ConsumerClosed,
    /// End of stream, or the system's error.
    #[error("the connection was closed: {0}")]
    Closed(String),
    /// Not the protocol.
    #[error("the broker sent something that can't be understood: {detail}")]
    Protocol {
        /// What.
        detail: String,
        /// What may be to blame.
        suspect: Option<Suspect>,
    },
    /// Larger than `source.max_body`.
    #[error("message {message_id} is too large: {detail}; raise source.max_body (and source.max_in_flight)")]
    BodyTooLarge {
        /// How large.
        detail: String,
        /// Which message.
        message_id: String,
    },
    /// The same message ended several sessions.
    #[error(
        "{suspect} has ended {sessions} sessions in a row and stays in the queue; ask AtData to remove it. \
         The last time: {detail}"
    )]
    Poison {
        /// What is to blame.
        suspect: Suspect,
        /// How many sessions.
        sessions: u32,
        /// What happened last.
        detail: String,
    },
}

/// The message that may have ended a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Suspect {
    /// The trouble is in the message with this id.
    #[error("message {0}")]
    Itself(String),
    /// The trouble came next after the message with this id.
    #[error("what comes after message {0}")]
    After(String),
}

/// So many characters of the broker's words are kept.
const LONGEST_WORDS: usize = 500;

impl Trouble {
    /// What can't be understood, in the message of that id if it is known.
    pub fn protocol(detail: impl Into<String>, message_id: Option<String>) -> Self {
        Self::Protocol { detail: detail.into(), suspect: message_id.map(Suspect::Itself) }
    }

    /// What `words` of the broker mean, the same in every protocol. `logging_in`: it has not confirmed the
    /// login yet.
    pub fn from_broker(words: &str, logging_in: bool) -> Self {
        let message: String = words.chars().filter(|c| !c.is_control()).take(LONGEST_WORDS).collect();
        if let Some((_, peer)) = message.split_once("already connected from ") {
            return Self::AlreadyConnected { peer: peer.to_owned() };
        }
        if message.contains("is not authorized to") {
            return Self::NotAuthorized(message);
        }
        let of_login = ["password is invalid", "User name [", "authentication", "Authentication"];
        if logging_in && of_login.iter().any(|words| message.contains(words)) {
            return Self::Credentials(message);
        }
        Self::Broker { message, suspect: None }
    }

    /// A short fixed word.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } | Self::TlsRefused(_) => "tls",
            Self::WrongPort(_) => "wrong_port",
            Self::Unanswered { trouble, .. } => trouble.label(),
            Self::Timeout { .. } => "timeout",
            Self::Credentials(_) => "credentials",
            Self::NotAuthorized(_) => "not_authorized",
            Self::AlreadyConnected { .. } => "already_connected",
            Self::Broker { .. } => "broker_error",
            Self::Silent(_) => "silent",
            Self::Idle(_) => "idle",
            Self::ConsumerClosed => "consumer_closed",
            Self::Closed(_) => "closed",
            Self::Protocol { .. } => "protocol",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Poison { .. } => "poison",
        }
    }

    /// When to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Tls { error, .. } | Self::TlsRefused(error) if error.needs_operator() => Retry::Slowly,
            Self::WrongPort(_)
            | Self::Credentials(_)
            | Self::NotAuthorized(_)
            | Self::BodyTooLarge { .. }
            | Self::Poison { .. } => Retry::Slowly,
            _ => Retry::Soon,
        }
    }

    /// The message that may be to blame.
    pub fn suspect(&self) -> Option<&Suspect> {
        match self {
            Self::Broker { suspect, .. } | Self::Protocol { suspect, .. } => suspect.as_ref(),
            _ => None,
        }
    }

    /// The same, which came next after the message of that id: blames what came after it, if a message may be
    /// to blame and none is known.
    pub fn after(mut self, message_id: &str) -> Self {
        if let Self::Broker { suspect, .. } | Self::Protocol { suspect, .. } = &mut self {
            suspect.get_or_insert_with(|| Suspect::After(message_id.to_owned()));
        }
        self
    }

    /// Whether messages received before it can still be acknowledged on this connection.
    pub fn leaves_the_connection_open(&self) -> bool {
        matches!(
            self,
            Self::Broker { .. } | Self::Protocol { .. } | Self::BodyTooLarge { .. } | Self::Idle(_)
        )
    }
}
