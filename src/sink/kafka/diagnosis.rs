//! Finds out why no broker answers. librdkafka says that a connection failed, and little more: it can't tell
//! that a port talks another protocol, and for a certificate it repeats OpenSSL's text. So after a failure
//! this module checks the address with a connection of its own, which does not log in and requests nothing.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::broker_address::BrokerAddress;
use super::classify;
use super::client_error::ClientError;
use super::config::Mechanism;
use super::handshake::{HandshakeReply, LoginSupport, ask, greet, hello};
use super::names::Names;
use super::settings::KafkaSettings;
use crate::display::one_line;
use crate::finding::codes;
use crate::protocol_guess::{ASK_STOMP, LISTEN, WireProtocol, guess};
use crate::sink::{SinkError, SinkErrorKind};
use crate::tls::{self, Cause, TlsError, TlsOptions};

/// The time limit of one step: a connection, a handshake, an answer.
const STEP: Duration = Duration::from_secs(2);
/// The time limit of all addresses together.
const ALL: Duration = Duration::from_secs(8);
/// How long a result stays valid, so that an outage does not repeat the check all the time.
const BELIEVED: Duration = Duration::from_secs(10);

/// Checks addresses, and keeps the last result.
pub(super) struct Diagnosis {
    settings: Arc<KafkaSettings>,
    names: Names,
    /// The addresses, when they were checked, and what is wrong with them.
    found: Option<(String, Instant, Option<SinkError>)>,
    /// Whether librdkafka's last connection failed at TLS.
    failed_at_tls: bool,
}

impl Diagnosis {
    pub(super) fn new(settings: Arc<KafkaSettings>, names: Names) -> Self {
        Self { settings, names, found: None, failed_at_tls: false }
    }

    /// Makes a TLS connection with each configured broker, so that the expiry of its certificate is known: librdkafka
    /// does not tell it. Does nothing without TLS.
    pub(super) async fn see_certificates(&self) {
        if !self.settings.tls.enabled {
            return;
        }
        let options = &self.tls_options();
        let seen = self.settings.client.brokers().split(',').map(|address| async move {
            let place = BrokerAddress::of(address);
            if let Ok(stream) = place.connect(STEP).await {
                // The sink's own connection tells errors.
                let _seen = tls::connect(stream, place.host, options, STEP).await;
            }
        });
        join_all(seen).await;
    }

    /// Returns what is wrong with all configured brokers. `None` if one of them is good. Blocks.
    pub(super) fn diagnose_brokers(&mut self, failure: Option<&ClientError>) -> Option<SinkError> {
        let brokers = self.settings.client.brokers().to_owned();
        self.found(&brokers, failure)
    }

    /// Returns why a broker can't be reached at the address that it advertises. Blocks.
    pub(super) fn diagnose_advertised(
        &mut self,
        id: i32,
        address: &str,
        failure: Option<&ClientError>,
    ) -> SinkError {
        let why = match (self.found(address, failure), failure) {
            (Some(found), _) => {
                let text = at_advertised(id, address, &found.to_string());
                return found.with_message(text).coded(codes::KAFKA_ADVERTISED_ADDRESS);
            }
            (None, Some(ClientError { code, words, .. })) if classify::needs_operator(*code) => {
                return classify::classify_failure(*code, words, &self.names);
            }
            (None, Some(ClientError { words, .. })) => words.as_str(),
            (None, None) => "it does not answer",
        };
        SinkError::unavailable(at_advertised(id, address, why)).coded(codes::KAFKA_ADVERTISED_ADDRESS)
    }

    /// Returns what is wrong with all addresses; `None` if nothing is wrong with one of them, as far as that is
    /// visible without a login.
    fn found(&mut self, addresses: &str, failure: Option<&ClientError>) -> Option<SinkError> {
        let failed_at_tls = failure.is_some_and(|failure| failure.code == Code::SSL);
        if let Some((of, at, found)) = &self.found
            && of == addresses
            && self.failed_at_tls == failed_at_tls
            && at.elapsed() < BELIEVED
        {
            return found.clone();
        }
        self.failed_at_tls = failed_at_tls;
        let found = self.diagnose(addresses);
        self.found = Some((addresses.to_owned(), Instant::now(), found.clone()));
        found
    }

    fn diagnose(&self, addresses: &str) -> Option<SinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return None };
        // `timeout` must be called inside a runtime.
        let found = runtime.block_on(async { timeout(ALL, self.all(addresses)).await });
        // Does not wait for a name that is still being resolved.
        runtime.shutdown_background();
        found.ok().flatten()
    }

    /// One good address means that all is good. Otherwise an error that somebody must correct comes first.
    async fn all(&self, addresses: &str) -> Option<SinkError> {
        let mut worst: Option<SinkError> = None;
        for address in addresses.split(',') {
            let found = self.at(address).await?;
            let is_worse = found.kind == SinkErrorKind::Misconfigured
                && worst.as_ref().is_some_and(|worst| worst.kind == SinkErrorKind::Unavailable);
            if worst.is_none() || is_worse {
                worst = Some(found);
            }
        }
        worst
    }

    /// Returns what is wrong with one address, as far as that is visible without a login.
    pub(super) async fn at(&self, address: &str) -> Option<SinkError> {
        let place = BrokerAddress::of(address);
        let stream = match place.connect(STEP).await {
            Ok(stream) => stream,
            Err(why) => return Some(self.does_not_run(&why)),
        };
        if self.settings.tls.enabled {
            return self.behind_tls(stream, &place).await;
        }
        match greet(stream, self.settings.mechanism).await {
            HandshakeReply::Kafka(login) => self.of_login(login, &place),
            answer => Some(self.of_another(answer, &place).await),
        }
    }

    async fn behind_tls(&self, stream: TcpStream, place: &BrokerAddress<'_>) -> Option<SinkError> {
        let options = self.tls_options();
        let error = match tls::connect(stream, place.host, &options, STEP).await {
            Ok(stream) => return self.of_answer_in_tls(greet(stream, self.settings.mechanism).await, place),
            Err(error) => error,
        };
        match error.cause() {
            Cause::ClientCertificate if self.hides_its_key() => None,
            Cause::Plaintext(Some(wire)) => Some(self.of_wire(wire, place)),
            // rustls may refuse a certificate that OpenSSL accepts.
            Cause::Certificate | Cause::Protocol if !self.failed_at_tls => None,
            Cause::Plaintext(None) | Cause::Cut | Cause::Late => {
                Some(self.of_questions(place).await.unwrap_or_else(|| of_tls(&error, place)))
            }
            _ => Some(SinkError::misconfigured(format!("{place}: {error}")).coded(codes::KAFKA_TLS)),
        }
    }

    /// Explains the answer of a port with which a TLS connection was made.
    fn of_answer_in_tls(&self, answer: HandshakeReply, place: &BrokerAddress<'_>) -> Option<SinkError> {
        match answer {
            HandshakeReply::Kafka(login) => self.of_login(login, place),
            HandshakeReply::Bytes(bytes) => guess(&bytes).map(|wire| self.of_wire(wire, place)),
            HandshakeReply::Failed(error) => {
                let told = told(&error)?;
                // The server's answer about a certificate that we can't show tells nothing about librdkafka's
                // connection.
                let is_ours_alone =
                    self.hides_its_key() || (told.cause() == Cause::Protocol && !self.failed_at_tls);
                (!is_ours_alone).then(|| of_tls(told, place))
            }
            HandshakeReply::Closed | HandshakeReply::Silence => None,
        }
    }

    fn tls_options(&self) -> TlsOptions {
        let tls = &self.settings.tls;
        let shown = |file: &Option<PathBuf>| file.clone().filter(|_| !self.hides_its_key());
        TlsOptions {
            table: self.names.option("tls"),
            address: self.names.option("brokers"),
            ca_file: tls.ca_file.clone(),
            certificate_file: shown(&tls.certificate_file),
            key_file: shown(&tls.key_file),
        }
    }

    /// Whether the key of our certificate is encrypted: only librdkafka reads such keys.
    fn hides_its_key(&self) -> bool {
        let tls = &self.settings.tls;
        tls.key_password.is_some() || tls.key_password_file.is_some()
    }

    pub(super) fn of_login(&self, login: LoginSupport, place: &BrokerAddress<'_>) -> Option<SinkError> {
        let mechanism = self.names.option("sasl.mechanism");
        let is_known = |name: &String| Mechanism::LOGINS.iter().any(|known| known.name() == name);
        let message = match login {
            LoginSupport::AsConfigured => return None,
            LoginSupport::Wanted => format!(
                "{place} closed at the first request: does this listener want a login? set {mechanism}"
            ),
            LoginSupport::NotWanted => format!(
                "{place} takes no login: set {mechanism} = \"none\", or {} to the port that takes one",
                self.names.option("brokers")
            ),
            LoginSupport::Others(offered) if !offered.iter().any(is_known) => format!(
                "{place} offers only logins that the bridge does not have ({}): let the brokers offer SCRAM-SHA-512 or \
                 another that {mechanism} can name, or {} name a port that does",
                one_line(&offered.join(", ")),
                self.names.option("brokers")
            ),
            LoginSupport::Others(offered) => format!(
                "{place} offers no login by {}, but by {}: set {mechanism}",
                self.settings.mechanism.name(),
                one_line(&offered.join(", "))
            ),
        };
        Some(SinkError::misconfigured(message).coded(codes::KAFKA_LOGIN))
    }

    /// Explains a port that did not answer as a Kafka broker does.
    async fn of_another(&self, answer: HandshakeReply, place: &BrokerAddress<'_>) -> SinkError {
        if let HandshakeReply::Bytes(bytes) = &answer
            && let Some(wire) = guess(bytes)
        {
            return self.of_wire(wire, place);
        }
        if let Some(found) = self.of_questions(place).await {
            return found;
        }
        match answer {
            HandshakeReply::Silence => {
                self.does_not_run(&format!("{place} takes the connection and says nothing"))
            }
            HandshakeReply::Bytes(_) => {
                let brokers = self.names.option("brokers");
                let message = format!("{place} answers, but not as Kafka does: look at {brokers}");
                SinkError::misconfigured(message).coded(codes::KAFKA_WRONG_PORT)
            }
            _ => self.does_not_run(&format!("{place} closes every connection without a word")),
        }
    }

    fn of_wire(&self, wire: WireProtocol, place: &BrokerAddress<'_>) -> SinkError {
        let (brokers, tls) = (self.names.option("brokers"), self.names.option("tls.enabled"));
        let message = match wire {
            WireProtocol::Tls => format!("{place} speaks TLS: set {tls} = true"),
            wire => format!("{place} speaks {wire}, not Kafka: set {brokers} to brokers of Kafka"),
        };
        SinkError::misconfigured(message).coded(codes::KAFKA_WRONG_PORT)
    }

    /// Asks a port that did not answer the configured request in other protocols.
    async fn of_questions(&self, place: &BrokerAddress<'_>) -> Option<SinkError> {
        if self.settings.tls.enabled {
            let stream = place.connect(STEP).await.ok()?;
            match greet(stream, Mechanism::None).await {
                HandshakeReply::Kafka(_) => {
                    let tls = self.names.option("tls.enabled");
                    let brokers = self.names.option("brokers");
                    let message = format!(
                        "{place} speaks Kafka without TLS: set {tls} = false, or {brokers} to the port with TLS"
                    );
                    return Some(SinkError::misconfigured(message).coded(codes::KAFKA_WRONG_PORT));
                }
                HandshakeReply::Bytes(bytes) => {
                    if let Some(wire) = guess(&bytes).filter(|wire| *wire != WireProtocol::Tls) {
                        return Some(self.of_wire(wire, place));
                    }
                }
                _ => {}
            }
        }
        let hello = if self.settings.tls.enabled { None } else { hello(place.host) };
        let questions = [hello.as_deref(), Some(HTTP), Some(ASK_STOMP), Some(LISTEN)];
        for question in questions.into_iter().flatten() {
            let mut stream = place.connect(STEP).await.ok()?;
            if let HandshakeReply::Bytes(bytes) = ask(&mut stream, question).await
                && let Some(wire) = guess(&bytes)
            {
                return Some(self.of_wire(wire, place));
            }
        }
        None
    }

    fn does_not_run(&self, why: &str) -> SinkError {
        let brokers = self.names.option("brokers");
        let message = format!(
            "{why}: see that the brokers run and can be reached from here, and that {brokers} is right"
        );
        SinkError::unavailable(message).coded(codes::KAFKA_UNREACHABLE)
    }
}

const HTTP: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// Returns the TLS error inside an error of a TLS stream.
fn told(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

fn of_tls(error: &TlsError, place: &BrokerAddress<'_>) -> SinkError {
    let text = format!("{place}: {error}");
    let error =
        if error.needs_operator() { SinkError::misconfigured(text) } else { SinkError::unavailable(text) };
    error.coded(codes::KAFKA_TLS)
}

/// Says that a broker can't be reached at the address that it advertises.
pub(super) fn at_advertised(id: i32, address: &str, why: &str) -> String {
    format!(
        "broker {id} is not reached at {address}, the address that it advertises: {why}; look at advertised.listeners of \
         that broker"
    )
}
