//! Runs servers that send the error texts of brokers other than ActiveMQ.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::Scenario;
use kit::bridge::Setup;

pub(super) const CONNECTED: &str = "CONNECTED\nversion:1.2\nheart-beat:0,0\nserver:foreign\n\n";

/// RabbitMQ puts the cause into the body (`rabbit_stomp_processor`).
pub(super) const RABBITMQ_HOST: &str = "ERROR\nmessage:Bad CONNECT\ncontent-type:text/plain\nversion:1.0,1.1,1.2\n\nVirtual host '127.0.0.1' access denied\n";
pub(super) const RABBITMQ_LOGIN: &str = "ERROR\nmessage:Bad CONNECT\ncontent-type:text/plain\nversion:1.0,1.1,1.2\n\nAccess refused for user '12345'\n";
pub(super) const RABBITMQ_RIGHT: &str = "ERROR\nmessage:access_refused\ncontent-type:text/plain\n\nACCESS_REFUSED - read access to queue 'main' in vhost '/' refused for user '12345'\n";

/// Artemis numbers its error texts (`ActiveMQStompProtocolMessageBundle`, `ActiveMQMessageBundle`).
pub(super) const ARTEMIS_HOST: &str = "ERROR\nmessage:AMQ339005: Header host doesn't match server host\n\nhost 127.0.0.1 doesn't match server host name";
pub(super) const ARTEMIS_LOGIN: &str =
    "ERROR\nmessage:AMQ229031: Unable to validate user from /127.0.0.1:40000. Username: 12345\n\n";
pub(super) const ARTEMIS_RIGHT: &str =
    "ERROR\nmessage:AMQ229032: User: 12345 does not have permission='CONSUME' on address main\n\n";

/// A login module of ActiveMQ sends the words of what it has asked.
pub(super) const LDAP: &str = "ERROR\nmessage:[LDAP: error code 49 - Invalid Credentials]\n\n";

/// Tests a broker that sends these answers, one for each frame of a client.
pub(super) async fn answers(answers: &'static [&'static str], id: &str) {
    Scenario::new(setup(answers, id).await).shows(id).await;
}

/// The same for a broker that refuses the subscription, after the login.
pub(super) async fn refuses_the_queue(answers: &'static [&'static str], id: &str) {
    Scenario::new(setup(answers, id).await).seen_by_subscribing().shows(id).await;
}

pub(super) async fn setup(answers: &'static [&'static str], id: &str) -> Setup {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("stomp://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, answers));
        }
    });
    Setup::at(&url, "acme", "main", id)
}

async fn serve(mut client: TcpStream, answers: &'static [&'static str]) {
    for answer in answers {
        while client.read_u8().await.is_ok_and(|byte| byte != 0) {}
        drop(client.write_all(format!("{answer}\0\n").as_bytes()).await);
    }
    // Until the client closes the connection.
    while client.read_u8().await.is_ok() {}
}
