//! Starts a Kafka handshake with a port, and reads its reply. It requests the versions that a broker knows.
//! Then it requests only as much as shows whether the listener requires a login, and by which mechanism
//! (<https://kafka.apache.org/protocol.html>).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::config::Mechanism;
use crate::protocol_guess::guess;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest wait for an answer to a question in another protocol.
const MOMENT: Duration = Duration::from_secs(1);
/// The bytes to read of an answer that is not Kafka's. More bytes would tell nothing new.
const ENOUGH: usize = 256;
/// The largest answer of Kafka, in bytes. A larger size is not Kafka's.
const LARGEST: usize = 1 << 20;

/// Numbers of requests and of errors in the protocol of Kafka.
const API_VERSIONS: i16 = 18;
const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const UNSUPPORTED_MECHANISM: i16 = 33;
const ILLEGAL_SASL_STATE: i16 = 34;

/// The reply of a port.
#[derive(Debug)]
pub(super) enum HandshakeReply {
    /// It is a Kafka broker.
    Kafka(LoginSupport),
    /// The first bytes of an answer that is not Kafka's.
    Bytes(Vec<u8>),
    /// The server closed the connection.
    Closed,
    /// Nothing came within the time limit.
    Silence,
    /// Reading failed; inside TLS the error may hold the cause.
    Failed(io::Error),
}

/// Whether the configured login is what the listener requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LoginSupport {
    /// It is, as far as that is visible without a login.
    AsConfigured,
    /// The listener requires a login, and none is configured.
    Wanted,
    /// A login is configured, and the listener accepts none.
    NotWanted,
    /// The listener offers only these mechanisms.
    Others(Vec<String>),
}

/// Starts a handshake with a broker whose login uses `mechanism`.
pub(super) async fn greet(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mechanism: Mechanism,
) -> HandshakeReply {
    match answer(&mut stream, &request(API_VERSIONS, 0, 1, &[]), PATIENCE).await {
        HandshakeReply::Bytes(bytes) if is_answer(&bytes, 1) => {}
        other => return other,
    }
    let login = match mechanism {
        Mechanism::None => of_metadata(&mut stream).await,
        mechanism => of_handshake(&mut stream, mechanism).await,
    };
    HandshakeReply::Kafka(login)
}

/// A listener that requires a login closes the connection at the first request without one.
async fn of_metadata(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> LoginSupport {
    // Requests no topics: version 1 is the first in which an empty array means none and not all.
    match answer(stream, &request(METADATA, 1, 2, &0_i32.to_be_bytes()), PATIENCE).await {
        HandshakeReply::Closed | HandshakeReply::Failed(_) => LoginSupport::Wanted,
        _ => LoginSupport::AsConfigured,
    }
}

async fn of_handshake(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mechanism: Mechanism,
) -> LoginSupport {
    let name = mechanism.name();
    let mut body = (name.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(name.as_bytes());
    let handshake = request(SASL_HANDSHAKE, 1, 2, &body);
    let HandshakeReply::Bytes(said) = answer(stream, &handshake, PATIENCE).await else {
        return LoginSupport::AsConfigured;
    };
    let mut rest = said.get(8..).unwrap_or_default();
    match short(&mut rest) {
        Some(ILLEGAL_SASL_STATE) => LoginSupport::NotWanted,
        Some(UNSUPPORTED_MECHANISM) => LoginSupport::Others(texts(rest)),
        _ => LoginSupport::AsConfigured,
    }
}

/// Sends a question of another protocol, and reads the first bytes of the answer.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    question: &[u8],
) -> HandshakeReply {
    answer(stream, question, MOMENT).await
}

/// Returns the first message of a TLS handshake, the ClientHello.
pub(super) fn hello(host: &str) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    // Trusts no certificate, because only the first bytes of the answer are read.
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).ok()?.write_tls(&mut hello).ok()?;
    Some(hello)
}

/// Reads the whole answer if it is Kafka's, and only the first bytes of any other.
async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    question: &[u8],
    patience: Duration,
) -> HandshakeReply {
    let mut heard = Vec::new();
    let asked = async {
        // If the server has closed the connection, it may have sent the reason before. So read also after a
        // failed write.
        let sent = stream.write_all(question).await.and(stream.flush().await);
        let mut buffer = [0; 4096];
        while !is_whole(&heard) {
            match stream.read(&mut buffer).await {
                Ok(0) => return sent,
                Ok(count) => heard.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let ended = timeout(patience, asked).await;
    match ended {
        _ if !heard.is_empty() => HandshakeReply::Bytes(heard),
        Err(_) => HandshakeReply::Silence,
        Ok(Ok(())) => HandshakeReply::Closed,
        Ok(Err(error)) if error.get_ref().is_none() => HandshakeReply::Closed,
        Ok(Err(error)) => HandshakeReply::Failed(error),
    }
}

fn is_whole(answer: &[u8]) -> bool {
    match size(answer) {
        Some(size) if size <= LARGEST => answer.len() >= 4 + size,
        _ => answer.len() >= ENOUGH || guess(answer).is_some(),
    }
}

fn size(answer: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(*answer.first_chunk()?)).ok()
}

fn is_answer(bytes: &[u8], number: i32) -> bool {
    let fits = size(bytes).is_some_and(|size| bytes.len() == 4 + size);
    fits && bytes.get(4..8) == Some(&number.to_be_bytes()[..])
}

fn request(api: i16, version: i16, number: i32, body: &[u8]) -> Vec<u8> {
    const CLIENT: &[u8] = b"atdata-bridge-look";
    let mut frame = Vec::new();
    frame.extend_from_slice(&api.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend_from_slice(&(CLIENT.len() as u16).to_be_bytes());
    frame.extend_from_slice(CLIENT);
    frame.extend_from_slice(body);
    [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
}

fn short(bytes: &mut &[u8]) -> Option<i16> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(i16::from_be_bytes(*number))
}

/// Reads an array of texts, up to the first damaged one.
fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    bytes = bytes.get(4..).unwrap_or_default();
    while let Some(length) = short(&mut bytes).and_then(|length| usize::try_from(length).ok()) {
        let Some((text, rest)) = bytes.split_at_checked(length) else { break };
        texts.push(String::from_utf8_lossy(text).into_owned());
        bytes = rest;
    }
    texts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Makes a port that answers the questions in turn and then closes the connection, and starts a handshake
    /// with it.
    async fn at(answers: &[&[u8]], mechanism: Mechanism) -> HandshakeReply {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let answers: Vec<Vec<u8>> = answers.iter().map(|answer| answer.to_vec()).collect();
        tokio::spawn(async move {
            for answer in answers {
                let mut question = [0; 1024];
                let _asked = theirs.read(&mut question).await;
                let _told = theirs.write_all(&answer).await;
            }
        });
        greet(ours, mechanism).await
    }

    const VERSIONS: &[u8] = b"\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0";

    #[tokio::test]
    async fn a_broker_tells_whether_it_wants_a_login() {
        let metadata = b"\0\0\0\x08\0\0\0\x02\0\0\0\0";
        let wants = |answer| match answer {
            HandshakeReply::Kafka(login) => login,
            other => panic!("{other:?}"),
        };
        assert_eq!(wants(at(&[VERSIONS, metadata], Mechanism::None).await), LoginSupport::AsConfigured);
        assert_eq!(wants(at(&[VERSIONS], Mechanism::None).await), LoginSupport::Wanted);
        let none = b"\0\0\0\x0a\0\0\0\x02\0\x22\0\0\0\0";
        assert_eq!(wants(at(&[VERSIONS, none], Mechanism::Plain).await), LoginSupport::NotWanted);
        let others = b"\0\0\0\x15\0\0\0\x02\0\x21\0\0\0\x02\0\x05PLAIN\0\x02AB";
        let offered = ["PLAIN", "AB"].map(str::to_owned).to_vec();
        assert_eq!(
            wants(at(&[VERSIONS, others], Mechanism::ScramSha256).await),
            LoginSupport::Others(offered)
        );
        let fine = b"\0\0\0\x0a\0\0\0\x02\0\0\0\0\0\0";
        assert_eq!(wants(at(&[VERSIONS, fine], Mechanism::Plain).await), LoginSupport::AsConfigured);
    }

    #[tokio::test]
    async fn what_is_no_kafka_is_handed_on() {
        let answer = at(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], Mechanism::None).await;
        assert!(matches!(&answer, HandshakeReply::Bytes(bytes) if bytes.starts_with(b"HTTP/")), "{answer:?}");
        assert!(matches!(at(&[], Mechanism::None).await, HandshakeReply::Closed));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            is_whole(&bytes);
            is_answer(&bytes, 1);
            texts(&bytes);
        }
    }
}
