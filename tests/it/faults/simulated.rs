//! Tests the program with the simulated broker and its faults: nothing is lost, one process duplicates
//! nothing (I5), and every key keeps its order.

use std::time::Duration;

use atdata_bridge::secret::Secret;
use atdata_bridge::simulator::{
    Audit, AuditResult, AuditedPlace, Faults, Generation, Generator, GeneratorConfig, HeartBeats,
    Malformation, Rate, Simulator, SimulatorConfig, SimulatorLogin, Stats,
};
use atdata_bridge::source::config::Protocol;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;

use kit::admin::{Admin, Metrics};
use kit::bridge::{Bridge, Setup};
use kit::disk::HangingFile;
use kit::output::{each_line, json_lines};
use kit::proxy::Proxy;
use kit::scenario::Unusable;
use kit::{SOON, wait_until};

/// A small window, so that a connection can break after few events.
const PREFETCH: u64 = 50;

/// Makes two tests, `name::stomp` and `name::openwire`, of each `async fn name(protocol: Protocol)`.
macro_rules! in_each_protocol {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use atdata_bridge::source::config::Protocol;

            #[tokio::test(flavor = "multi_thread")]
            async fn stomp() {
                super::$name(Protocol::Stomp).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn openwire() {
                super::$name(Protocol::OpenWire).await;
            }
        }
    )+};
}

in_each_protocol!(
    a_connection_that_breaks_repeatedly,
    a_broker_that_stops_sending,
    heart_beats_that_come_too_late,
    a_broker_that_still_holds_the_connection_id,
    a_dead_session_that_is_held_for_a_while,
    a_password_that_is_rotated,
    a_password_that_can_not_be_read_to_its_end,
    an_error_frame_in_the_middle,
    a_body_larger_than_allowed,
    malformed_bodies_that_can_be_repaired,
    more_bytes_than_the_budget,
    bytes_that_arrive_slowly,
);

/// A broker with faults, and a setup for a bridge that notices them and reconnects quickly.
struct SimulatedRun {
    simulator: Simulator,
    setup: Setup,
    generator: GeneratorConfig,
}

fn url(simulator: &Simulator, protocol: Protocol) -> String {
    match protocol {
        Protocol::Stomp => simulator.url(),
        Protocol::OpenWire => simulator.openwire_url(),
    }
}

impl SimulatedRun {
    async fn new(protocol: Protocol, faults: Faults) -> Self {
        Self::on(protocol, SimulatorConfig { faults, ..Default::default() }).await
    }

    async fn on(protocol: Protocol, config: SimulatorConfig) -> Self {
        let simulator = Simulator::start(config).await.unwrap();
        let setup = Setup::at(&url(&simulator, protocol), "acme", "dest1", "acme-dest1-1")
            .set("SOURCE__PREFETCH", PREFETCH.to_string())
            .set("SOURCE__HEART_BEAT", "1s")
            .set("SOURCE__BACKOFF__INITIAL", "10ms")
            .set("SOURCE__BACKOFF__MAX", "100ms");
        let generator = GeneratorConfig { keys: 20, hot_every: 5, ..Default::default() };
        Self { simulator, setup, generator }
    }

    fn malformed(mut self, every: u64, malformations: &[Malformation]) -> Self {
        self.generator.odd_every = every;
        self.generator.malformations = malformations.to_vec();
        self
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.setup = self.setup.set(name, value);
        self
    }

    /// Publishes events, starting when the queue exists.
    fn generate(&self, events: u64, rate: Rate) {
        let generator = self.generator.clone();
        self.simulator.generate("acme", Generation { events: Some(events), rate, generator });
    }

    async fn wait_until_stats(&self, what: &str, wanted: impl FnMut(&Stats) -> bool) -> Stats {
        let waited = timeout(SOON, self.simulator.wait_until(wanted)).await;
        waited.unwrap_or_else(|_| panic!("still waiting until {what}: {:?}", self.simulator.stats()))
    }

    async fn acked(&self, events: u64) -> Stats {
        self.wait_until_stats("all are acknowledged", |stats| stats.total().acked >= events).await
    }

    /// Compares the files and dead letters with the events sent.
    fn audit(&self) -> AuditResult {
        let stats = self.simulator.stats();
        let mut audit = Audit::new(Generator::new(self.generator.clone()));
        each_line(self.setup.files(), |line| audit.see(line.as_bytes(), AuditedPlace::Sink, stats.published));
        if self.setup.dead_letters().exists() {
            for letter in json_lines(self.setup.dead_letters()) {
                let encoded = letter["body_base64"].as_str().map(|text| STANDARD.decode(text).unwrap());
                let body = encoded.unwrap_or_else(|| letter["body"].as_str().unwrap().into());
                audit.see(&body, AuditedPlace::DeadLetters, stats.published);
            }
        }
        audit.finish(stats.total().acked)
    }

    /// Stops the bridge as Kubernetes does, and checks that it has all acknowledged events, once and in
    /// order.
    async fn assert_ends_well(&self, mut bridge: Bridge) -> AuditResult {
        bridge.terminate();
        let status = bridge.ended(SOON).await;
        assert_eq!(status.code(), Some(0), "{status}");
        let audit = self.audit();
        assert!(audit.is_clean(), "{audit:?}");
        audit
    }
}

async fn until_logged(bridge: &Bridge, text: &str) {
    wait_until(&format!("the log says {text:?}"), SOON, || bridge.log().contains(text)).await;
}

fn unlimited_rate() -> Rate {
    Rate::FlatOut { ahead: 100_000 }
}

async fn a_connection_that_breaks_repeatedly(protocol: Protocol) {
    let faults = Faults { drop_every: Some(4 * PREFETCH), ..Default::default() };
    let run = SimulatedRun::new(protocol, faults).await;
    let bridge = run.setup.start();
    run.generate(3000, unlimited_rate());
    let stats = run.acked(3000).await;
    assert!(stats.sessions >= 15 && stats.total().redelivered > 0, "{stats:?}");
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 3000);
}

/// The connection stays open, so that only missing heart-beats show the fault.
async fn a_broker_that_stops_sending(protocol: Protocol) {
    let run = SimulatedRun::new(protocol, Faults { silent_after: Some(300), ..Default::default() }).await;
    let bridge = run.setup.start();
    run.generate(700, unlimited_rate());
    let stats = run.acked(700).await;
    assert!(stats.sessions >= 3, "{stats:?}");
    assert!(bridge.log().contains("nothing heard from the broker for "), "{}", bridge.log());
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 700);
}

async fn heart_beats_that_come_too_late(protocol: Protocol) {
    let late = HeartBeats::Late(Duration::from_secs(60));
    let run = SimulatedRun::new(protocol, Faults { heart_beats: late, ..Default::default() }).await;
    let bridge = run.setup.start();
    run.wait_until_stats("the bridge has closed the idle connection", |stats| stats.sessions >= 2).await;
    assert!(bridge.log().contains("nothing heard from the broker for "), "{}", bridge.log());
    run.simulator.change_faults(|faults| faults.heart_beats = HeartBeats::OnTime);
    run.generate(500, unlimited_rate());
    run.acked(500).await;
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 500);
}

async fn a_broker_that_still_holds_the_connection_id(protocol: Protocol) {
    let run = SimulatedRun::new(protocol, Faults { refuse_reconnects: 3, ..Default::default() }).await;
    let run = run.set("LOG__FILTER", "debug");
    let bridge = run.setup.start();
    run.generate(2000, Rate::PerSecond(1000.try_into().unwrap()));
    run.acked(200).await;
    run.simulator.cut();
    let stats = run.acked(2000).await;
    assert_eq!((stats.refused, stats.sessions), (3, 2));
    let log = bridge.log();
    assert!(log.contains("the connection id is still in use, from tcp://127.0.0.1:"), "{log}");
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 2000);
}

async fn a_dead_session_that_is_held_for_a_while(protocol: Protocol) {
    let config = SimulatorConfig { hold: Duration::from_millis(500), ..Default::default() };
    let run = SimulatedRun::on(protocol, config).await;
    let bridge = run.setup.start();
    run.generate(2000, Rate::PerSecond(1000.try_into().unwrap()));
    run.acked(200).await;
    run.simulator.cut();
    let stats = run.acked(2000).await;
    assert!(stats.refused >= 1, "{stats:?}");
    assert!(!bridge.log().contains("held: "), "a restart does not hold: {}", bridge.log());
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 2000);
}

/// The next login reads the new password from its file.
async fn a_password_that_is_rotated(protocol: Protocol) {
    const NEW: &str = "fedcba9876543210fedcba9876543210";
    let run = SimulatedRun::new(protocol, Faults::default()).await;
    let login = SimulatorLogin { password: Secret::new(NEW), ..Default::default() };
    let config = SimulatorConfig { logins: vec![login], ..Default::default() };
    let next = SimulatedRun::on(protocol, config).await;
    let file = run.setup.files().with_file_name("password");
    std::fs::write(&file, SimulatorLogin::default().password.reveal()).unwrap();
    let setup = run
        .setup
        .unset("SOURCE__PASSWORD")
        .unset("SOURCE__URL")
        .set("SOURCE__PASSWORD_FILE", file.display().to_string())
        .set(
            "SOURCE__URLS",
            format!("{}, {}", url(&run.simulator, protocol), url(&next.simulator, protocol)),
        );
    let bridge = setup.start();
    wait_until("it is logged in", SOON, || run.simulator.stats().sessions == 1).await;
    std::fs::write(&file, format!("{NEW}\n")).unwrap();
    run.simulator.stop().await;
    next.generate(100, unlimited_rate());
    next.acked(100).await;
    assert!(!bridge.log().contains("refused the login"), "{}", bridge.log());
}

/// The file system hangs. The login takes the password that was read last, and nothing else waits for it.
async fn a_password_that_can_not_be_read_to_its_end(protocol: Protocol) {
    let mut run = SimulatedRun::new(protocol, Faults::default()).await.set("SOURCE__CONNECT_TIMEOUT", "1s");
    let file = run.setup.files().with_file_name("password");
    std::fs::write(&file, SimulatorLogin::default().password.reveal()).unwrap();
    run.setup = run.setup.unset("SOURCE__PASSWORD").set("SOURCE__PASSWORD_FILE", file.display().to_string());
    let bridge = run.setup.start();
    let admin = Admin::of(&bridge).await;
    run.wait_until_stats("it is logged in", |stats| stats.sessions == 1).await;
    let password = HangingFile::replace(&file);
    run.simulator.cut();
    wait_until("the password is read", SOON, || password.is_read()).await;
    assert_eq!(timeout(SOON, admin.get("/livez")).await.unwrap().status, 200);
    run.generate(100, unlimited_rate());
    run.acked(100).await;
    let log = bridge.log();
    let why = "password can't be read: the file system does not answer; taking the secret that was read last";
    assert!(log.contains(why), "{log}");
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 100);
}

/// Events received before the ERROR frame are settled and acknowledged on the same connection (D2). They are
/// not redelivered, so no event is suppressed.
async fn an_error_frame_in_the_middle(protocol: Protocol) {
    let run =
        SimulatedRun::new(protocol, Faults { error_after: Some(4 * PREFETCH), ..Default::default() }).await;
    let bridge = run.setup.start();
    // The last session ends without an error frame, which could come between DISCONNECT and its receipt.
    run.generate(950, unlimited_rate());
    let stats = run.acked(950).await;
    assert!(stats.sessions >= 5, "{stats:?}");
    let log = bridge.log_file();
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 950);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("the broker reported an error: \"simulated error\""), "{log}");
    let summary = log.lines().rfind(|line| line.contains("sink=\"file\"")).unwrap();
    assert!(summary.contains("durable=950 ") && summary.contains(" suppressed=0 "), "{summary}");
}

/// As with a consumer that is too slow: the bridge notices it, and its unacknowledged events are redelivered
/// once.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_the_broker_removes() {
    let faults = Faults { close_consumers_after: Some(4 * PREFETCH), ..Default::default() };
    let run = SimulatedRun::new(Protocol::OpenWire, faults).await;
    let bridge = run.setup.start();
    run.generate(1000, unlimited_rate());
    let stats = run.acked(1000).await;
    assert!(stats.sessions >= 5, "{stats:?}");
    assert!(bridge.log().contains("the broker has taken the subscription away"), "{}", bridge.log());
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 1000);
}

/// Over STOMP no client can read past this message. After three sessions the log names it, and the bridge
/// stays alive and can be stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_nul_inside_a_body() {
    let run =
        SimulatedRun::new(Protocol::Stomp, Faults::default()).await.malformed(300, &[Malformation::Nul]);
    let mut bridge = run.setup.start();
    run.generate(400, unlimited_rate());
    until_logged(&bridge, "has ended 3 sessions in a row and stays in the queue: ").await;
    until_logged(&bridge, "consume over OpenWire (tcp://… in source.url), which reads it; or ask AtData")
        .await;
    let stats = run.acked(299).await;
    assert_eq!((stats.total().acked, stats.sessions), (299, 3));
    assert!(
        bridge
            .log()
            .lines()
            .any(|line| line.contains("held: message ID:simulator-") && line.contains(":300 "))
    );
    assert_eq!(bridge.status(), None);
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 299);
}

async fn a_body_larger_than_allowed(protocol: Protocol) {
    let run = SimulatedRun::new(protocol, Faults::default()).await.malformed(300, &[Malformation::Large]);
    let run = run.set("SOURCE__MAX_BODY", "64KiB");
    let mut bridge = run.setup.start();
    run.generate(700, unlimited_rate());
    until_logged(&bridge, "raise source.max_body").await;
    assert_eq!(run.acked(299).await.total().acked, 299);
    let names =
        |line: &str| line.contains("held: message ID:simulator-") && line.contains(":300 is too large: ");
    assert!(bridge.log().lines().any(names), "{}", bridge.log());
    assert_eq!(bridge.status(), None);
    run.assert_ends_well(bridge).await;

    let run = run.set("SOURCE__MAX_BODY", "2MiB");
    let bridge = run.setup.start();
    run.acked(700).await;
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 700);
}

/// Two large bodies fill the budget: the bridge reads nothing more until they are settled, but sends
/// heart-beats meanwhile (I4, I7).
async fn more_bytes_than_the_budget(protocol: Protocol) {
    const BEATS: u64 = 6;
    const ROOM: f64 = 2_097_152.0;
    let run = SimulatedRun::new(protocol, Faults::default()).await.malformed(2, &[Malformation::Large]);
    let address = |url: String| url.rsplit('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(address(url(&run.simulator, protocol))).await;
    let scheme = match protocol {
        Protocol::Stomp => "stomp",
        Protocol::OpenWire => "tcp",
    };
    let run = run
        .set("SOURCE__URL", &format!("{scheme}://{}", proxy.addr()))
        .set("SOURCE__HEART_BEAT", "2s")
        .set("SOURCE__MAX_BODY", "2MiB")
        .set("SOURCE__MAX_IN_FLIGHT", "2MiB");
    std::fs::create_dir(run.setup.files()).unwrap();
    let unusable = Unusable::make(run.setup.files());
    let bridge = run.setup.start();
    run.generate(40, unlimited_rate());
    let admin = Admin::of(&bridge).await;
    let in_flight = |metrics: &Metrics| metrics.value("atdata_bridge_in_flight_bytes");
    admin.metrics_until("the room is used up", |metrics| in_flight(metrics) >= ROOM).await;
    let (before, _) = proxy.beats();
    wait_until("the bridge has sent enough heart-beats", SOON, || proxy.beats().0 - before >= BEATS).await;
    // The bridge may read one body and one read buffer more than the budget.
    let used = in_flight(&admin.metrics().await);
    assert!(used < 2.0 * ROOM, "{used} bytes are in flight");
    assert_eq!(run.simulator.stats().total().acked, 0);
    unusable.restore();
    let stats = run.acked(40).await;
    assert_eq!((stats.sessions, stats.total().redelivered), (1, 0));
    assert_eq!(run.assert_ends_well(bridge).await.delivered, 40);
}

/// CESU-8 is repaired, an upper-case MD5 becomes lower case, and a body with line breaks stays one line.
async fn malformed_bodies_that_can_be_repaired(protocol: Protocol) {
    let malformations = [Malformation::Cesu8, Malformation::UpperCase, Malformation::Lines];
    let run = SimulatedRun::new(protocol, Faults::default()).await.malformed(3, &malformations);
    let run = run.set("SINKS__FILE__FORMAT", "envelope");
    let mut bridge = run.setup.start();
    run.generate(900, unlimited_rate());
    run.acked(900).await;
    bridge.terminate();
    assert_eq!(bridge.ended(SOON).await.code(), Some(0));

    let lines = json_lines(run.setup.files());
    assert_eq!(lines.len(), 900);
    let (mut repaired, mut folded) = (0, 0);
    for (serial, line) in lines.iter().enumerate() {
        assert_eq!(line["body"]["serial"], serial);
        let (key, md5) = (line["key"].as_str().unwrap(), line["body"]["md5_email"].as_str().unwrap());
        assert_eq!(key, md5.to_lowercase());
        folded += usize::from(key != md5);
        repaired += usize::from(line["body"]["name"] == "😀");
    }
    assert_eq!((repaired, folded), (100, 100));
    assert!(!run.setup.dead_letters().exists() || json_lines(run.setup.dead_letters()).is_empty());
}

/// The network splits the frames into pieces of seven bytes, and some messages are malformed. A map message
/// has no body over STOMP, and no STOMP client can read past a NUL; over OpenWire a NUL only makes a body
/// that is not JSON.
async fn bytes_that_arrive_slowly(protocol: Protocol) {
    let malformations: Vec<_> = Malformation::all()
        .filter(|malformation| *malformation != Malformation::Large)
        .filter(|malformation| {
            protocol == Protocol::OpenWire || !matches!(malformation, Malformation::Map | Malformation::Nul)
        })
        .collect();
    let faults = Faults { dribble: Some(7), ..Default::default() };
    let run = SimulatedRun::new(protocol, faults).await.malformed(20, &malformations);
    let bridge = run.setup.start();
    run.generate(800, unlimited_rate());
    run.acked(800).await;
    let audit = run.assert_ends_well(bridge).await;
    let dead =
        malformations.iter().cycle().take(40).filter(|malformation| !malformation.usable()).count() as u64;
    assert_eq!((audit.delivered, audit.dead), (800 - dead, dead));
}
