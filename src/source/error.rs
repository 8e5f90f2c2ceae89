//! Lists the reasons why a session could not begin or has ended, and decides when to retry.

use std::fmt;

use crate::display::one_line;
use crate::source::config::Endpoint;
use crate::tls::TlsError;

/// How long the supervisor waits after an error: as the back-off says, or longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Soon,
    /// Retry after 30 to 60 seconds: only a person can help, and brokers lock accounts that retry too often.
    Slowly,
}

/// An error that ended a session or prevented it. The text is one line for people; [`SourceError::label`] is
/// the short fixed word for metrics.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// The name was not resolved, nothing listens, or there is no route.
    #[error("can't reach {endpoint}: {detail}; check source.url and the network")]
    Unreachable { endpoint: Endpoint, detail: String },
    /// The certificate or the TLS handshake failed.
    #[error("TLS with {endpoint} failed: {error}")]
    Tls { endpoint: Endpoint, error: TlsError },
    /// A TLS failure that shows only after the handshake, as we see it.
    #[error("the broker refused the TLS connection: {0}")]
    TlsRefused(TlsError),
    /// Another protocol listens there, or the same protocol with other TLS use.
    #[error("{0}")]
    WrongPort(String),
    /// The error of a session that received nothing, not even a wrong answer.
    #[error("{error}; nothing at all came from {address}: if that lasts, see whether it is {expected}")]
    Unanswered {
        error: Box<SourceError>,
        address: String,
        /// The port that it should be, and the option that says so.
        expected: String,
    },
    /// The broker did not answer a request, `what`, in time.
    #[error("the broker did not answer {what} within {seconds} s")]
    Timeout { what: &'static str, seconds: u64 },
    /// Wrong username or password; holds the broker's message.
    #[error("the broker refused the login: {0:?}; check source.username and source.password")]
    Credentials(String),
    /// The login succeeded, but the user may not read the queue.
    #[error(
        "the broker refused to let this user read the queue: {0:?}; check source.namespace and \
         source.destination_id, and ask AtData whether the user may read this namespace \
         (a refused ActiveMQ.Advisory topic is the broker's own bookkeeping for a new queue)"
    )]
    NotAuthorized(String),
    /// The broker has no virtual host of that name, or the user may not use it.
    #[error(
        "the broker refused the virtual host: {0:?}; set source.virtual_host to the one that AtData tells"
    )]
    VirtualHost(String),
    /// The client id is in use, by our own dead session or by another client.
    #[error(
        "the connection id is still in use, from {}; if that is this process's own earlier connection \
         the broker lets it go soon, otherwise give each process a source.connection_id of its own",
        one_line(peer)
    )]
    AlreadyConnected {
        /// The client that holds it, in the broker's words.
        peer: String,
    },
    /// Any other error that the broker reports.
    #[error("the broker reported an error: {message:?}")]
    Broker {
        /// The broker's message, at most 500 characters.
        message: String,
        /// The message that may have caused it.
        suspect: Option<SuspectMessage>,
    },
    /// The broker answers the login or the subscription with an error that is none of those above.
    #[error(
        "the broker answers with an error instead of a subscription: {message:?}; if that lasts, check \
         source.username, source.password, source.connection_id, source.namespace and source.destination_id, \
         and ask AtData"
    )]
    Refused {
        /// The broker's message, at most 500 characters.
        message: String,
        /// Whether it has answered so for longer than it takes to start or stop.
        lasts: bool,
    },
    /// Nothing heard for twice the heart-beat; holds the seconds.
    #[error("nothing heard from the broker for {0} s, twice the heart-beat")]
    Silent(u64),
    /// Nothing received for this many seconds, so that the subscription may be dead.
    #[error("no event for {0} s; connecting anew in case the broker has dropped the subscription")]
    Idle(u64),
    /// After late acknowledgements the broker still had the consumer. The session had to remove the consumer
    /// to find that out, so it subscribes again.
    #[error("acknowledgements were late; the subscription was still there and is made anew")]
    Renewal,
    /// A sink can't go on in this session, because another bridge has taken over the queue, or may have.
    #[error(
        "a sink with exactly_once has lost its connection or its right to write, as its own line says; connecting \
         anew, so that the broker decides which bridge is active"
    )]
    GivenUp,
    /// The broker has removed the consumer. It does that to slow consumers if its policy says so.
    #[error("the broker has taken the subscription away, as some do when acknowledgements are late")]
    ConsumerClosed,
    /// End of stream, or an error of the operating system.
    #[error("the connection was closed: {}", one_line(.0))]
    Closed(String),
    /// The received bytes do not follow the protocol.
    #[error("the broker sent something that can't be understood: {}{}{}", one_line(detail), place(suspect.as_ref()), also(*remedy))]
    Protocol {
        detail: String,
        /// The message that may have caused it.
        suspect: Option<SuspectMessage>,
        remedy: Option<&'static str>,
    },
    /// A message is larger than `source.max_body` or `source.max_header_size`.
    #[error("message {} is too large: {detail}; {remedy}", one_line(message_id))]
    BodyTooLarge {
        /// Its size and the limit, in bytes.
        detail: String,
        message_id: String,
        remedy: &'static str,
    },
    /// The same message has ended several sessions in a row. `detail` is what the last one said.
    #[error(
        "{suspect} has ended {sessions} sessions in a row and stays in the queue: {}; {}",
        one_line(detail),
        remedy.map_or("ask AtData to remove it".into(), |remedy| format!("{remedy}; or ask AtData to remove it"))
    )]
    Poison { suspect: SuspectMessage, sessions: u32, detail: String, remedy: Option<&'static str> },
}

/// Returns `suspect` in parentheses, for the middle of a text.
fn place(suspect: Option<&SuspectMessage>) -> String {
    suspect.map_or_else(String::new, |suspect| format!(" ({suspect})"))
}

/// Returns `remedy` for the end of a text.
fn also(remedy: Option<&'static str>) -> String {
    remedy.map_or_else(String::new, |remedy| format!("; {remedy}"))
}

/// The message that may have ended a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuspectMessage {
    /// The error is in the message with this id.
    Itself(String),
    /// The error came directly after the message with this id.
    After(String),
    /// The error came before any message.
    First,
}

impl fmt::Display for SuspectMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself(id) => write!(f, "message {}", one_line(id)),
            Self::After(id) => write!(f, "what comes after message {}", one_line(id)),
            Self::First => f.write_str("the first message of the queue"),
        }
    }
}

/// Parts of the messages with which brokers refuse a login: ActiveMQ, RabbitMQ, Artemis.
const OF_LOGINS: [&str; 6] = [
    "password is invalid",
    "User name [",
    "authentication",
    "Authentication",
    "Access refused for user",
    "Unable to validate user",
];

/// Parts of their messages about a missing permission, in the same order.
const OF_RIGHTS: [&str; 3] = ["is not authorized to", "ACCESS_REFUSED", "does not have permission"];

/// Parts of the messages of RabbitMQ and Artemis about a virtual host.
const OF_VIRTUAL_HOSTS: [&str; 3] = ["Virtual host", "virtual host", "match server host"];

/// The most characters kept of a broker's message.
const LONGEST_WORDS: usize = 500;

impl SourceError {
    /// Makes the error for bytes that can't be understood, in no message that is known.
    pub fn protocol(detail: impl Into<String>) -> Self {
        Self::Protocol { detail: detail.into(), suspect: None, remedy: None }
    }

    /// Makes the error for a broker that answers with the error `message` before it has confirmed the
    /// subscription.
    pub fn refused(message: String) -> Self {
        Self::Refused { message, lasts: false }
    }

    /// Classifies the message `words` of a broker, the same in every protocol. `logging_in`: the broker has
    /// not confirmed the login yet.
    pub fn from_broker(words: &str, logging_in: bool) -> Self {
        let message: String = one_line(words).chars().take(LONGEST_WORDS).collect();
        if let Some((_, peer)) = message.split_once("already connected from ") {
            return Self::AlreadyConnected { peer: peer.to_owned() };
        }
        let has_any = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        if logging_in && has_any(&OF_VIRTUAL_HOSTS) {
            return Self::VirtualHost(message);
        }
        if has_any(&OF_RIGHTS) {
            return Self::NotAuthorized(message);
        }
        if logging_in && has_any(&OF_LOGINS) {
            return Self::Credentials(message);
        }
        Self::Broker { message, suspect: None }
    }

    /// Returns the short fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } | Self::TlsRefused(_) => "tls",
            Self::WrongPort(_) => "wrong_port",
            Self::Unanswered { error, .. } => error.label(),
            Self::Timeout { .. } => "timeout",
            Self::Credentials(_) => "credentials",
            Self::NotAuthorized(_) => "not_authorized",
            Self::VirtualHost(_) => "virtual_host",
            Self::AlreadyConnected { .. } => "already_connected",
            Self::Broker { .. } | Self::Refused { .. } => "broker_error",
            Self::Silent(_) => "silent",
            Self::Idle(_) => "idle",
            Self::Renewal => "renewal",
            Self::GivenUp => "given_up",
            Self::ConsumerClosed => "consumer_closed",
            Self::Closed(_) => "closed",
            Self::Protocol { .. } => "protocol",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Poison { .. } => "poison",
        }
    }

    /// Returns how long to wait before the next attempt.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Tls { error, .. } | Self::TlsRefused(error) if error.needs_operator() => Retry::Slowly,
            Self::WrongPort(_)
            | Self::Credentials(_)
            | Self::NotAuthorized(_)
            | Self::VirtualHost(_)
            | Self::Refused { lasts: true, .. }
            | Self::BodyTooLarge { .. }
            | Self::Poison { .. } => Retry::Slowly,
            _ => Retry::Soon,
        }
    }

    /// Returns whether an operator must act, because the error does not pass by itself.
    pub fn needs_operator(&self) -> bool {
        // The broker would have dropped a dead session of our own by the next attempt.
        matches!(self, Self::AlreadyConnected { .. }) || self.retry() == Retry::Slowly
    }

    /// Returns the message that may have caused the error.
    pub fn suspect(&self) -> Option<&SuspectMessage> {
        match self {
            Self::Broker { suspect, .. } | Self::Protocol { suspect, .. } => suspect.as_ref(),
            _ => None,
        }
    }

    /// Adds that the error came directly after the message with this id, or before any message if the id is
    /// empty. Changes only errors that a message may cause, and only while no message is named.
    pub fn after(mut self, message_id: &str) -> Self {
        if let Self::Broker { suspect, .. } | Self::Protocol { suspect, .. } = &mut self {
            suspect.get_or_insert_with(|| match message_id {
                "" => SuspectMessage::First,
                id => SuspectMessage::After(id.to_owned()),
            });
        }
        self
    }

    /// Whether a message of the queue may have caused it, so that the error comes again with the message.
    pub fn comes_with_a_message(&self) -> bool {
        self.suspect().is_some() || matches!(self, Self::BodyTooLarge { .. })
    }

    /// Returns the advice for the operator, and the text without the advice and without the suspect.
    pub fn split_remedy(mut self) -> (Option<&'static str>, String) {
        let remedy = match &mut self {
            Self::Protocol { suspect, remedy, .. } => {
                *suspect = None;
                remedy.take()
            }
            _ => None,
        };
        (remedy, self.to_string())
    }

    /// Whether the broker closes the connection by itself after it: it may have done so before it has read our last
    /// acknowledgement.
    pub fn is_closed_by_the_broker(&self) -> bool {
        matches!(self, Self::Broker { .. })
    }

    /// Whether messages received before the error can still be acknowledged on this connection.
    pub fn leaves_the_connection_open(&self) -> bool {
        matches!(
            self,
            Self::Broker { .. }
                | Self::Protocol { .. }
                | Self::BodyTooLarge { .. }
                | Self::Idle(_)
                | Self::Renewal
        )
    }
}
