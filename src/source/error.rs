//! Why a session could not begin or has ended, and what to do about it.

use crate::display::one_line;
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
pub enum SourceError {
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
        trouble: Box<SourceError>,
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
    /// The broker has no virtual host of that name, or keeps this user out of it.
    #[error(
        "the broker refused the virtual host: {0:?}; set source.virtual_host to the one that AtData tells"
    )]
    VirtualHost(String),
    /// The client id is taken: by our own dead session, or by somebody else.
    #[error(
        "the connection id is still in use, from {}; if that is this process's own earlier connection \
         the broker lets it go soon, otherwise give each process a source.connection_id of its own",
        one_line(peer)
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
    /// After late acknowledgements the broker still had the consumer; it is made anew, since it had to be removed to
    /// know that.
    #[error("acknowledgements were late; the subscription was still there and is made anew")]
    Renewal,
    /// The broker has removed the consumer: slow ones are, where its policy says so.
    #[error("the broker has taken the subscription away, as some do when acknowledgements are late")]
    ConsumerClosed,
    /// End of stream, or the system's error.
    #[error("the connection was closed: {}", one_line(.0))]
    Closed(String),
    /// Not the protocol.
    #[error("the broker sent something that can't be understood: {}{}{}", one_line(detail), place(suspect.as_ref()), also(*remedy))]
    Protocol {
        /// What.
        detail: String,
        /// What may be to blame.
        suspect: Option<Suspect>,
        /// What its reader can do about it.
        remedy: Option<&'static str>,
    },
    /// Larger than `source.max_body` or `source.max_header_size`.
    #[error("message {} is too large: {detail}; {remedy}", one_line(message_id))]
    BodyTooLarge {
        /// How large.
        detail: String,
        /// Which message.
        message_id: String,
        /// What its reader can do about it.
        remedy: &'static str,
    },
    /// The same message ended several sessions.
    #[error(
        "{suspect} has ended {sessions} sessions in a row and stays in the queue: {}; {}",
        one_line(detail),
        remedy.map_or("ask AtData to remove it".into(), |remedy| format!("{remedy}; or ask AtData to remove it"))
    )]
    Poison {
        /// What is to blame.
        suspect: Suspect,
        /// How many sessions.
        sessions: u32,
        /// What happened last.
        detail: String,
        /// What its reader can do about it.
        remedy: Option<&'static str>,
    },
}

/// `suspect` as a part of a text.
fn place(suspect: Option<&Suspect>) -> String {
    suspect.map_or_else(String::new, |suspect| format!(" ({suspect})"))
}

/// `remedy` as the end of a text.
fn also(remedy: Option<&'static str>) -> String {
    remedy.map_or_else(String::new, |remedy| format!("; {remedy}"))
}

/// The message that may have ended a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Suspect {
    /// The trouble is in the message with this id.
    #[error("message {}", one_line(.0))]
    Itself(String),
    /// The trouble came next after the message with this id.
    #[error("what comes after message {}", one_line(.0))]
    After(String),
    /// The trouble came before any message.
    #[error("the first message of the queue")]
    First,
}

/// What brokers say of a login that they refuse: ActiveMQ, RabbitMQ, Artemis.
const OF_LOGINS: [&str; 6] = [
    "password is invalid",
    "User name [",
    "authentication",
    "Authentication",
    "Access refused for user",
    "Unable to validate user",
];

/// What they say of a right that is missing, in the same order.
const OF_RIGHTS: [&str; 3] = ["is not authorized to", "ACCESS_REFUSED", "does not have permission"];

/// What RabbitMQ and Artemis say of a virtual host.
const OF_VIRTUAL_HOSTS: [&str; 3] = ["Virtual host", "virtual host", "match server host"];

/// So many characters of the broker's words are kept.
const LONGEST_WORDS: usize = 500;

impl SourceError {
    /// What can't be understood, in the message of that id if it is known.
    pub fn protocol(detail: impl Into<String>, message_id: Option<String>) -> Self {
        Self::Protocol { detail: detail.into(), suspect: message_id.map(Suspect::Itself), remedy: None }
    }

    /// What `words` of the broker mean, the same in every protocol. `logging_in`: it has not confirmed the
    /// login yet.
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
            Self::VirtualHost(_) => "virtual_host",
            Self::AlreadyConnected { .. } => "already_connected",
            Self::Broker { .. } => "broker_error",
            Self::Silent(_) => "silent",
            Self::Idle(_) => "idle",
            Self::Renewal => "renewal",
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
            | Self::VirtualHost(_)
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

    /// The same, which came next after the message of that id, or before any if it is empty: blames what came
    /// there, if a message may be to blame and none is known.
    pub fn after(mut self, message_id: &str) -> Self {
        if let Self::Broker { suspect, .. } | Self::Protocol { suspect, .. } = &mut self {
            suspect.get_or_insert_with(|| match message_id {
                "" => Suspect::First,
                id => Suspect::After(id.to_owned()),
            });
        }
        self
    }

    /// Whether a message of the queue may have brought it, so that it comes again with the message.
    pub fn comes_with_a_message(&self) -> bool {
        self.suspect().is_some() || matches!(self, Self::BodyTooLarge { .. })
    }

    /// What its reader can do about it, and its text without that and without the suspect.
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

    /// Whether messages received before it can still be acknowledged on this connection.
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
