//! Fuzzes the simulator with a client that sends any bytes over a real socket, in OpenWire if the first byte
//! is zero, otherwise in STOMP. The simulator must not panic (a panic of any task ends the process), must end
//! the connection when the client has left, and must serve the next client.

#![no_main]

use std::time::Duration;

use atdata_bridge::secret::Secret;
use atdata_bridge::simulator::{Simulator, SimulatorConfig};
use atdata_bridge::source::openwire::wire::command::Command;
use atdata_bridge::source::openwire::wire::ids::{ConsumerId, Destination};
use atdata_bridge::source::openwire::wire::info::{ConnectionInfo, ConsumerInfo, SessionInfo};
use atdata_bridge::source::openwire::wire::wire_format::WireFormatInfo;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const LOGIN: &[u8] =
    b"CONNECT\naccept-version:1.2\nhost:a\nlogin:12345\npasscode:0123456789abcdef0123456789abcdef\n\n\0";
const SOON: Duration = Duration::from_secs(10);

thread_local! {
    static SERVING: (Runtime, Simulator) = serving();
}

fn serving() -> (Runtime, Simulator) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("start a runtime");
    let simulator = runtime.block_on(Simulator::start(SimulatorConfig::default())).expect("listen");
    simulator.declare_queue("acme", "fuzz");
    runtime.block_on(async { simulator.publish("acme", "{}") });
    (runtime, simulator)
}

/// Encodes a login and a consumer.
fn openwire() -> Vec<u8> {
    let consumer = ConsumerId { connection: b"ID:fuzz".as_slice().into(), session: 1, value: 1 };
    let connection = consumer.connection.clone();
    let commands = [
        Command::WireFormatInfo(WireFormatInfo::offer(Duration::ZERO, Duration::ZERO, i64::MAX)),
        Command::ConnectionInfo(ConnectionInfo {
            connection: connection.clone(),
            client_id: Some("fuzz".to_owned()),
            password: Some(Secret::new("0123456789abcdef0123456789abcdef")),
            user_name: Some("12345".to_owned()),
        }),
        Command::SessionInfo(SessionInfo { connection, value: 1 }),
        Command::ConsumerInfo(ConsumerInfo::new(consumer, Destination::queue("fuzz.RTO.acme"), 100)),
    ];
    let mut bytes = Vec::new();
    for (command, number) in commands.iter().zip(1..) {
        command.encode(number, false, &mut bytes);
    }
    bytes
}

async fn exchange(simulator: &Simulator, bytes: &[u8]) {
    // The magic is after the size and the type of WireFormatInfo.
    let (login, bytes, at, welcome) = match bytes.split_first() {
        Some((0, rest)) => (openwire(), rest, 5, b"ActiveMQ".as_slice()),
        _ => (LOGIN.to_vec(), bytes, 0, b"CONNECTED".as_slice()),
    };
    let mut client = TcpStream::connect(simulator.address()).await.expect("the simulator listens");
    // If the simulator has already closed the connection, it does not read the rest.
    let written = async {
        client.write_all(&login).await?;
        client.write_all(bytes).await?;
        client.shutdown().await
    };
    let received = written.await.is_ok();
    let mut answer = Vec::new();
    let ended =
        timeout(SOON, client.read_to_end(&mut answer)).await.expect("the simulator closes the connection");
    let accepted = answer.get(at..).is_some_and(|rest| rest.starts_with(welcome));
    assert!(!received || ended.is_err() || accepted, "no answer to a login");
}

fuzz_target!(|bytes: &[u8]| {
    SERVING.with(|(runtime, simulator)| {
        runtime.block_on(exchange(simulator, bytes));
    });
});
