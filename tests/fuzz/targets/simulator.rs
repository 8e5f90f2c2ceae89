//! A client that says anything to the simulator, over a real socket, in STOMP or, where the first byte is a zero, in
//! OpenWire: no panic (a panic of any task ends the process), the connection ends when the client has left, and the
//! next client is served.

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

/// A login and a consumer.
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

async fn say(simulator: &Simulator, bytes: &[u8]) {
    // WireFormatInfo begins with its size and its type.
    let (login, bytes, at, welcome) = match bytes.split_first() {
        Some((0, rest)) => (openwire(), rest, 5, b"ActiveMQ".as_slice()),
        _ => (LOGIN.to_vec(), bytes, 0, b"CONNECTED".as_slice()),
    };
    let mut client = TcpStream::connect(simulator.address()).await.expect("the simulator listens");
    // Where the simulator has hung up already, the rest is not heard.
    let written = async {
        client.write_all(&login).await?;
        client.write_all(bytes).await?;
        client.shutdown().await
    };
    let heard = written.await.is_ok();
    let mut answer = Vec::new();
    let ended = timeout(SOON, client.read_to_end(&mut answer)).await.expect("the simulator hangs up");
    let welcomed = answer.get(at..).is_some_and(|rest| rest.starts_with(welcome));
    assert!(!heard || ended.is_err() || welcomed, "no answer to a login");
}

fuzz_target!(|bytes: &[u8]| {
    SERVING.with(|(runtime, simulator)| {
        runtime.block_on(say(simulator, bytes));
    });
});
