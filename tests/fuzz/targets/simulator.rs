//! A client that says anything to the simulator, over a real socket: no panic (a panic of any task ends the
//! process), the connection ends when the client has left, and the next client is served.

#![no_main]

use std::time::Duration;

use atdata_bridge::simulator::{Simulator, SimulatorConfig};
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
    (runtime, simulator)
}

async fn say(simulator: &Simulator, bytes: &[u8]) {
    let mut client = TcpStream::connect(simulator.address()).await.expect("the simulator listens");
    // Where the simulator has hung up already, the rest is not heard.
    let written = async {
        client.write_all(LOGIN).await?;
        client.write_all(bytes).await?;
        client.shutdown().await
    };
    let heard = written.await.is_ok();
    let mut answer = Vec::new();
    let ended = timeout(SOON, client.read_to_end(&mut answer)).await.expect("the simulator hangs up");
    assert!(!heard || ended.is_err() || answer.starts_with(b"CONNECTED"), "no answer to a login");
}

fuzz_target!(|bytes: &[u8]| {
    SERVING.with(|(runtime, simulator)| {
        runtime.block_on(say(simulator, bytes));
    });
});
