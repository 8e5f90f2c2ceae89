//! Tests what the diagnosis says of ports, certificates and logins.

use std::sync::Arc;

use rdkafka::types::RDKafkaErrorCode as Code;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::broker_address::BrokerAddress;
use super::client_error::ClientError;
use super::config::{KafkaConfig, KafkaTlsConfig};
use super::diagnosis::Diagnosis;
use super::handshake::LoginSupport;
use super::names::Names;
use super::validate::tests::{checked, good};
use crate::protocol_guess::testing::openwire_port;

/// Listens with a certificate that the client does not trust, and returns the address.
async fn untrusted() -> String {
    let named = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(named.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![named.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(acceptor.accept(stream).await);
        }
    });
    address
}

/// librdkafka uses OpenSSL, which accepts certificates that rustls refuses, such as those with only a
/// common name.
#[tokio::test(flavor = "multi_thread")]
async fn what_we_say_of_a_certificate_counts_where_librdkafka_failed_at_tls() {
    let config = KafkaConfig {
        brokers: Some(vec![untrusted().await]),
        tls: KafkaTlsConfig { enabled: true, ..KafkaTlsConfig::default() },
        ..good()
    };
    let settings = checked(&config).unwrap();
    let mut diagnosis = Diagnosis::new(Arc::new(settings), Names::of("events"));
    let failed = |code| ClientError { code, words: "it failed".to_owned(), broker: None };
    let mut said = |failure: Option<ClientError>| {
        let said = tokio::task::block_in_place(|| diagnosis.diagnose_brokers(failure.as_ref()));
        said.map(|error| error.to_string())
    };
    assert_eq!(said(None), None);
    assert_eq!(said(Some(failed(Code::BrokerTransportFailure))), None);
    let refused = said(Some(failed(Code::SSL))).expect("it is refused");
    assert!(refused.contains("certificate"), "{refused}");
}

/// MSK with IAM offers only a mechanism of its own.
#[test]
fn mechanisms_that_the_bridge_lacks_are_no_advice() {
    let settings = Arc::new(checked(&good()).unwrap());
    let diagnosis = Diagnosis::new(settings, Names::of("events"));
    let said = |offered: &[&str]| {
        let offered = offered.iter().map(|name| (*name).to_owned()).collect();
        diagnosis.of_login(LoginSupport::Others(offered), &BrokerAddress::of("k:9098")).unwrap().to_string()
    };
    let iam = said(&["AWS_MSK_IAM"]);
    assert!(iam.contains("that the bridge does not have (AWS_MSK_IAM)"), "{iam}");
    let known = said(&["AWS_MSK_IAM", "SCRAM-SHA-512"]);
    assert!(known.ends_with("AWS_MSK_IAM, SCRAM-SHA-512: set sinks.kafka.sasl.mechanism"), "{known}");
}

/// ActiveMQ's port may close before its greeting if it reads another protocol.
#[tokio::test(flavor = "multi_thread")]
async fn an_openwire_port_that_closed_without_its_greeting_is_known() {
    let address = openwire_port().await;
    let config = KafkaConfig { brokers: Some(vec![address.clone()]), ..good() };
    let settings = checked(&config).unwrap();
    let mut diagnosis = Diagnosis::new(Arc::new(settings), Names::of("events"));
    let said = tokio::task::block_in_place(|| diagnosis.diagnose_brokers(None));
    let said = said.expect("it is no Kafka").to_string();
    assert!(said.contains(&format!("{address} speaks OpenWire, not Kafka: set ")), "{said}");
}
