//! Explains the errors of the server and the client library: names the cause, the option, and what to do.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::settings::{Auth, NatsSettings};
use super::template::Subject;
use crate::display::one_line;
use crate::finding::codes;
use crate::sink::{SinkContext, SinkError};
use crate::tls::TlsOptions;

/// What is known about the JetStream that a server offers.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedStream<'a> {
    /// The configured domain, if it is not that of the server.
    pub(super) domain: Option<&'a str>,
    /// The server says that it has JetStream.
    pub(super) offered: bool,
    /// JetStream has answered this process before.
    pub(super) seen: bool,
}

/// Explains errors with the settings and the names of their options.
#[derive(Clone, Debug)]
pub(super) struct Explainer {
    pub(super) settings: Arc<NatsSettings>,
    context: SinkContext,
    subject: Subject,
}

impl Explainer {
    pub(super) fn new(settings: Arc<NatsSettings>, context: SinkContext, subject: Subject) -> Self {
        Self { settings, context, subject }
    }

    /// The subject that events are published to.
    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Returns the full key of one of the sink's options.
    pub(super) fn option(&self, option: &str) -> String {
        self.context.option(option)
    }

    /// Explains the server's `-ERR`. Returns `None` if the end of the connection follows and is explanation
    /// enough. A subject in the server's text may contain a key, which must not be shown (D14).
    pub(super) fn server_error(&self, said: &str) -> Option<SinkError> {
        let lower = said.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| lower.contains(words));
        let named = || said.split('"').nth(1).unwrap_or_default();
        if says(&["permissions violation for subscription"]) {
            Some(SinkError::misconfigured(format!(
                "this user may not subscribe to {0}.>, where the acknowledgements arrive: allow it, or set {1}",
                self.settings.inbox_prefix,
                self.option("inbox_prefix")
            )))
        } else if says(&["permissions violation"]) {
            Some(self.may_not_publish(named()))
        } else if says(&["maximum payload violation"]) {
            Some(SinkError::misconfigured(
                "an event is larger than the server takes from this user (Maximum Payload Violation): raise the \
                 payload limit of its account, or the server's max_payload",
            ))
        } else if says(&["maximum connections exceeded", "maximum account active connections exceeded"]) {
            Some(SinkError::unavailable(format!(
                "the NATS server takes no more connections now ({}): it passes when another client leaves; raise \
                 max_connections if these are wanted",
                one_line(said)
            )))
        } else if says(&["route port", "leaf node port", "gateway port", "leafnode port"]) {
            Some(SinkError::misconfigured(format!(
                "{} names a port for other NATS servers ({}): write the port for clients, usually 4222",
                self.option("url"),
                one_line(said)
            )))
        } else if says(&["authentication timeout"]) {
            Some(SinkError::unavailable("the NATS server did not get the login in time: the network is slow"))
        } else if says(&["authentication", "authorization", "credentials"]) {
            Some(self.login_refused(said))
        } else {
            None
        }
    }

    /// The error for a user that may not publish all events.
    pub(super) fn may_not_publish_events(&self) -> SinkError {
        self.may_not_publish(&self.subject.to_string())
    }

    fn may_not_publish(&self, named: &str) -> SinkError {
        if let Some((api, request)) = named.split_once(".CONSUMER.") {
            return self.may_not_read(api, request);
        }
        let message = match named.starts_with('$') {
            true => format!(
                "this user may not publish to {}, by which JetStream is asked about the stream: allow it, and {}.>",
                one_line(named),
                self.settings.inbox_prefix
            ),
            false => format!(
                "this user may not publish to {}: give it the permission for {}, or change {}",
                self.subject.without_key(named),
                self.subject.pattern(),
                self.option("subject")
            ),
        };
        SinkError::misconfigured(message).coded(codes::NATS_PUBLISH_DENIED)
    }

    /// The subjects of requests about a consumer end with its name, which differs each time.
    pub(super) fn may_not_read(&self, api: &str, request: &str) -> SinkError {
        let stream = self.settings.stream.as_deref().unwrap_or_default();
        let request = request.rsplit_once('.').map_or(request, |(request, _consumer)| request);
        SinkError::misconfigured(format!(
            "this user may not publish to {}.CONSUMER.{}.>, by which the sink reads the last messages: allow \
             {api}.CONSUMER.CREATE.{stream}.>, {api}.CONSUMER.MSG.NEXT.{stream}.> and {api}.CONSUMER.DELETE.{stream}.>",
            one_line(api),
            one_line(request)
        ))
    }

    pub(super) fn login_refused(&self, said: &str) -> SinkError {
        let key = |option| self.option(option);
        let advice = match &self.settings.auth {
            Auth::None => format!(
                "it wants one, and none is set: set {} and {}, or one of {}, {}, {}",
                key("username"),
                key("password_file"),
                key("token_file"),
                key("nkey_file"),
                key("credentials_file")
            ),
            Auth::Password { username, password } => format!(
                "check {}, now {}, and {}",
                key("username"),
                one_line(username),
                key(password.option("password", "password_file"))
            ),
            Auth::Token(token) => format!("check {}", key(token.option("token", "token_file"))),
            Auth::Nkey(seed) => format!(
                "check {}: does the server know its public key?",
                key(seed.option("nkey", "nkey_file"))
            ),
            Auth::Credentials(path) => format!(
                "check {} = {}: does the server know its account, and has it not expired?",
                key("credentials_file"),
                path.display()
            ),
        };
        let message = format!("the NATS server refuses the login ({}): {advice}", one_line(said));
        SinkError::misconfigured(message).coded(codes::NATS_LOGIN)
    }

    pub(super) fn no_stream(&self, name: &str) -> SinkError {
        let message = format!(
            "there is no stream {name}: make it, or let the bridge make it with {} = true",
            self.option("create_stream.enabled")
        );
        SinkError::misconfigured(message).coded(codes::NATS_STREAM_MISSING)
    }

    /// The error for a JetStream request that has no responder.
    pub(super) fn no_jetstream(&self, known: CheckedStream<'_>) -> SinkError {
        let domain = known.domain.map_or(String::new(), |domain| format!(" domain {domain}"));
        if known.seen || known.offered || known.domain.is_some() {
            return SinkError::unavailable(format!(
                "nobody answers for JetStream{domain} now: its servers, or a leaf node's connection to its hub, are away; \
                 if it was never there, check {}",
                self.option("domain")
            ))
            .coded(codes::NATS_NO_JETSTREAM);
        }
        SinkError::misconfigured(format!(
            "the NATS server offers no JetStream: switch it on, or set {}, or {} = \"core\"; a leaf node without \
             JetStream of its own says the same while its hub is away",
            self.option("domain"),
            self.option("delivery")
        ))
        .coded(codes::NATS_NO_JETSTREAM)
    }

    pub(super) fn unusable_credentials(&self, path: &Path, error: &io::Error) -> SinkError {
        SinkError::misconfigured(format!(
            "{} = {} can't be used: {}; it must hold a user's JWT and its seed, as `nsc generate creds` writes them",
            self.option("credentials_file"),
            path.display(),
            one_line(&error.to_string())
        ))
    }

    /// Returns the files for TLS, and the options that name them.
    pub(super) fn tls_options(&self) -> TlsOptions {
        let tls = &self.settings.tls;
        TlsOptions {
            table: self.option("tls"),
            address: self.option("url"),
            ca_file: tls.ca_file.clone(),
            certificate_file: tls.certificate_file.clone(),
            key_file: tls.key_file.clone(),
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::diagnostics::Diagnostics;
    use crate::sink::factory::BuildContext;
    use crate::sink::nats::config::NatsConfig;
    use crate::sink::nats::validate::check;

    /// An explainer for a sink that publishes to this subject.
    pub(in crate::sink::nats) fn explainer(subject: &str) -> Explainer {
        let config = NatsConfig {
            url: Some("nats://a:4222".to_owned()),
            stream: Some("EVENTS".to_owned()),
            subject: subject.to_owned(),
            ..NatsConfig::default()
        };
        let build_context =
            BuildContext { partitions: None, prefetch: 1024, is_strict: false, is_for_dead_letters: false };
        let settings = check(&config, &build_context, &mut Diagnostics::default()).unwrap();
        let context = SinkContext {
            table: "sinks.nats".to_owned(),
            namespace: "acme".to_owned(),
            ..SinkContext::default()
        };
        let subject = settings.subject.bind(&context);
        Explainer::new(Arc::new(settings), context, subject)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::explainer;
    use crate::sink::SinkErrorKind;

    #[test]
    fn what_the_server_forbids_is_the_operator_s_and_names_no_one() {
        let explainer = explainer("e.{namespace}.{key}");
        for (said, part) in [
            (
                r#"Permissions Violation for Publish to "e.acme.9e107d9d372bb6826bd81d3542a419d6""#,
                "publish to e.acme.{key}: give it the permission for e.acme.*, or change sinks.nats.subject",
            ),
            (r#"Permissions Violation for Publish to "$JS.API.STREAM.INFO.E""#, "$JS.API.STREAM.INFO.E"),
            (
                r#"Permissions Violation for Publish to "$JS.hub.API.CONSUMER.MSG.NEXT.EVENTS.atdata-bridge-1""#,
                "publish to $JS.hub.API.CONSUMER.MSG.NEXT.EVENTS.>, by which the sink reads the last messages: allow \
                 $JS.hub.API.CONSUMER.CREATE.EVENTS.>, $JS.hub.API.CONSUMER.MSG.NEXT.EVENTS.> and",
            ),
            (r#"Permissions Violation for Subscription to "_INBOX.x.*""#, "sinks.nats.inbox_prefix"),
            ("User Authentication Expired", "the login (User Authentication Expired)"),
            ("Authorization Violation", "set sinks.nats.username"),
            ("Maximum Payload Violation", "payload limit"),
            ("Attempted To Connect To Route Port", "sinks.nats.url names a port for other NATS servers"),
        ] {
            let error = explainer.server_error(said).unwrap();
            assert_eq!(error.kind, SinkErrorKind::Misconfigured);
            let shown = error.to_string();
            assert!(shown.contains(part) && !shown.contains("9e107"), "{shown}");
        }
        let full = explainer.server_error("maximum connections exceeded").unwrap();
        assert_eq!(full.kind, SinkErrorKind::Unavailable, "{full}");
        assert!(explainer.server_error("Stale Connection").is_none(), "the end of the connection follows");
    }
}
