//! The program against a broker in which things go wrong on purpose: nothing is lost, nothing comes twice
//! out of one process (I5), every key keeps its order.

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
use kit::output::{each_line, json_lines};
use kit::proxy::Proxy;
use kit::scenario::Unusable;
use kit::{SOON, wait_until};

/// Small, so that a connection can break after few events.
const PREFETCH: u64 = 50;

/// Makes of each `async fn name(protocol: Protocol)` one test for each protocol, `name::stomp` and
/// `name::openwire`.
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
    a_connection_that_breaks_again_and_again,
    a_broker_that_falls_silent,
    heart_beats_that_come_too_late,
    a_broker_that_still_holds_the_connection_id,
    a_dead_session_that_is_held_for_a_while,
    a_password_that_is_rotated,
    an_error_frame_in_the_middle,
    a_body_larger_than_allowed,
    odd_bodies_that_can_be_used,
    more_bytes_than_there_is_room_for,
    bytes_that_dribble,
);

/// A broker with faults, and the settings of a bridge that notices and comes back quickly.
struct Rehearsal {
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

impl Rehearsal {
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

    fn odd(mut self, every: u64, oddities: &[Malformation]) -> Self {
        self.generator.odd_every = every;
        self.generator.malformations = oddities.to_vec();
        self
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.setup = self.setup.set(name, value);
        self
    }

    /// Sends events, from the moment at which the queue exists.
    fn generate(&self, events: u64, pace: Rate) {
        let generator = self.generator.clone();
        self.simulator.generate("acme", Generation { events: Some(events), rate: pace, generator });
    }

    async fn until(&self, what: &str, wanted: impl FnMut(&Stats) -> bool) -> Stats {
        let waited = timeout(SOON, self.simulator.wait_until(wanted)).await;
        waited.unwrap_or_else(|_| panic!("still waiting until {what}: {:?}", self.simulator.stats()))
    }

    async fn acked(&self, events: u64) -> Stats {
        self.until("all are acknowledged", |stats| stats.total().acked >= events).await
    }

    /// Holds files and dead letters against what was sent.
    fn findings(&self) -> AuditResult {
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

    /// Stops the bridge as Kubernetes does, and expects all that was acknowledged, once and in order.
    async fn ends_well(&self, mut bridge: Bridge) -> AuditResult {
        bridge.terminate();
        let status = bridge.ended(SOON).await;
        assert_eq!(status.code(), Some(0), "{status}");
        let findings = self.findings();
        assert!(findings.is_clean(), "{findings:?}");
        findings
    }
}

async fn until_logged(bridge: &Bridge, text: &str) {
    wait_until(&format!("the log says {text:?}"), SOON, || bridge.log().contains(text)).await;
}

fn flat_out() -> Rate {
    Rate::FlatOut { ahead: 100_000 }
}

async fn a_connection_that_breaks_again_and_again(protocol: Protocol) {
    let faults = Faults { drop_every: Some(4 * PREFETCH), ..Default::default() };
    let rehearsal = Rehearsal::new(protocol, faults).await;
    let bridge = rehearsal.setup.start();
    rehearsal.generate(3000, flat_out());
    let stats = rehearsal.acked(3000).await;
    assert!(stats.sessions >= 15 && stats.total().redelivered > 0, "{stats:?}");
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 3000);
}

/// The connection stays open, and only the missing heart-beats tell.
async fn a_broker_that_falls_silent(protocol: Protocol) {
    let rehearsal = Rehearsal::new(protocol, Faults { silent_after: Some(300), ..Default::default() }).await;
    let bridge = rehearsal.setup.start();
    rehearsal.generate(700, flat_out());
    let stats = rehearsal.acked(700).await;
    assert!(stats.sessions >= 3, "{stats:?}");
    assert!(bridge.log().contains("nothing heard from the broker for "), "{}", bridge.log());
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 700);
}

async fn heart_beats_that_come_too_late(protocol: Protocol) {
    let late = HeartBeats::Late(Duration::from_secs(60));
    let rehearsal = Rehearsal::new(protocol, Faults { heart_beats: late, ..Default::default() }).await;
    let bridge = rehearsal.setup.start();
    rehearsal.until("the idle connection was given up", |stats| stats.sessions >= 2).await;
    assert!(bridge.log().contains("nothing heard from the broker for "), "{}", bridge.log());
    rehearsal.simulator.change_faults(|faults| faults.heart_beats = HeartBeats::OnTime);
    rehearsal.generate(500, flat_out());
    rehearsal.acked(500).await;
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 500);
}

async fn a_broker_that_still_holds_the_connection_id(protocol: Protocol) {
    let rehearsal = Rehearsal::new(protocol, Faults { refuse_reconnects: 3, ..Default::default() }).await;
    let rehearsal = rehearsal.set("LOG__FILTER", "debug");
    let bridge = rehearsal.setup.start();
    rehearsal.generate(2000, Rate::PerSecond(1000.try_into().unwrap()));
    rehearsal.acked(200).await;
    rehearsal.simulator.cut();
    let stats = rehearsal.acked(2000).await;
    assert_eq!((stats.refused, stats.sessions), (3, 2));
    let log = bridge.log();
    assert!(log.contains("the connection id is still in use, from tcp://127.0.0.1:"), "{log}");
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 2000);
}

async fn a_dead_session_that_is_held_for_a_while(protocol: Protocol) {
    let config = SimulatorConfig { hold: Duration::from_millis(500), ..Default::default() };
    let rehearsal = Rehearsal::on(protocol, config).await;
    let bridge = rehearsal.setup.start();
    rehearsal.generate(2000, Rate::PerSecond(1000.try_into().unwrap()));
    rehearsal.acked(200).await;
    rehearsal.simulator.cut();
    let stats = rehearsal.acked(2000).await;
    assert!(stats.refused >= 1, "{stats:?}");
    assert!(!bridge.log().contains("held: "), "a normal part of a restart: {}", bridge.log());
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 2000);
}

/// The next login takes it from its file.
async fn a_password_that_is_rotated(protocol: Protocol) {
    const NEW: &str = "fedcba9876543210fedcba9876543210";
    let rehearsal = Rehearsal::new(protocol, Faults::default()).await;
    let login = SimulatorLogin { password: Secret::new(NEW), ..Default::default() };
    let config = SimulatorConfig { logins: vec![login], ..Default::default() };
    let next = Rehearsal::on(protocol, config).await;
    let file = rehearsal.setup.files().with_file_name("password");
    std::fs::write(&file, SimulatorLogin::default().password.reveal()).unwrap();
    let setup = rehearsal
        .setup
        .unset("SOURCE__PASSWORD")
        .unset("SOURCE__URL")
        .set("SOURCE__PASSWORD_FILE", file.display().to_string())
        .set(
            "SOURCE__URLS",
            format!("{}, {}", url(&rehearsal.simulator, protocol), url(&next.simulator, protocol)),
        );
    let bridge = setup.start();
    wait_until("it is logged in", SOON, || rehearsal.simulator.stats().sessions == 1).await;
    std::fs::write(&file, format!("{NEW}\n")).unwrap();
    rehearsal.simulator.stop().await;
    next.generate(100, flat_out());
    next.acked(100).await;
    assert!(!bridge.log().contains("refused the login"), "{}", bridge.log());
}

/// What came before the ERROR is settled and acknowledged on the same connection (D2): none of it comes
/// again, so there is nothing to suppress.
async fn an_error_frame_in_the_middle(protocol: Protocol) {
    let rehearsal =
        Rehearsal::new(protocol, Faults { error_after: Some(4 * PREFETCH), ..Default::default() }).await;
    let bridge = rehearsal.setup.start();
    // The last session ends without an error, which could come in between the goodbye and its answer.
    rehearsal.generate(950, flat_out());
    let stats = rehearsal.acked(950).await;
    assert!(stats.sessions >= 5, "{stats:?}");
    let log = bridge.log_file();
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 950);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("the broker reported an error: \"simulated error\""), "{log}");
    let summary = log.lines().rfind(|line| line.contains("sink=\"file\"")).unwrap();
    assert!(summary.contains("durable=950 ") && summary.contains(" suppressed=0 "), "{summary}");
}

/// As when a consumer is too slow: the bridge notices, and what it had comes once more and no oftener.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_the_broker_takes_away() {
    let faults = Faults { close_consumers_after: Some(4 * PREFETCH), ..Default::default() };
    let rehearsal = Rehearsal::new(Protocol::OpenWire, faults).await;
    let bridge = rehearsal.setup.start();
    rehearsal.generate(1000, flat_out());
    let stats = rehearsal.acked(1000).await;
    assert!(stats.sessions >= 5, "{stats:?}");
    assert!(bridge.log().contains("the broker has taken the subscription away"), "{}", bridge.log());
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 1000);
}

/// Over STOMP no client can read past it: after three sessions it is named, and the bridge stays alive and stoppable.
#[tokio::test(flavor = "multi_thread")]
async fn a_nul_inside_a_body() {
    let rehearsal = Rehearsal::new(Protocol::Stomp, Faults::default()).await.odd(300, &[Malformation::Nul]);
    let mut bridge = rehearsal.setup.start();
    rehearsal.generate(400, flat_out());
    until_logged(&bridge, "has ended 3 sessions in a row and stays in the queue: ").await;
    until_logged(&bridge, "consume over OpenWire (tcp://… in source.url), which reads it; or ask AtData")
        .await;
    let stats = rehearsal.acked(299).await;
    assert_eq!((stats.total().acked, stats.sessions), (299, 3));
    assert!(
        bridge
            .log()
            .lines()
            .any(|line| line.contains("held: message ID:simulator-") && line.contains(":300 "))
    );
    assert_eq!(bridge.status(), None);
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 299);
}

async fn a_body_larger_than_allowed(protocol: Protocol) {
    let rehearsal = Rehearsal::new(protocol, Faults::default()).await.odd(300, &[Malformation::Large]);
    let rehearsal = rehearsal.set("SOURCE__MAX_BODY", "64KiB");
    let mut bridge = rehearsal.setup.start();
    rehearsal.generate(700, flat_out());
    until_logged(&bridge, "raise source.max_body").await;
    assert_eq!(rehearsal.acked(299).await.total().acked, 299);
    let names =
        |line: &str| line.contains("held: message ID:simulator-") && line.contains(":300 is too large: ");
    assert!(bridge.log().lines().any(names), "{}", bridge.log());
    assert_eq!(bridge.status(), None);
    rehearsal.ends_well(bridge).await;

    let rehearsal = rehearsal.set("SOURCE__MAX_BODY", "2MiB");
    let bridge = rehearsal.setup.start();
    rehearsal.acked(700).await;
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 700);
}

/// Two large bodies fill the room: nothing more is read until they are settled, and the broker hears from us
/// meanwhile (I4, I7).
async fn more_bytes_than_there_is_room_for(protocol: Protocol) {
    const BEATS: u64 = 6;
    const ROOM: f64 = 2_097_152.0;
    let rehearsal = Rehearsal::new(protocol, Faults::default()).await.odd(2, &[Malformation::Large]);
    let address = |url: String| url.rsplit('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(address(url(&rehearsal.simulator, protocol))).await;
    let scheme = match protocol {
        Protocol::Stomp => "stomp",
        Protocol::OpenWire => "tcp",
    };
    let rehearsal = rehearsal
        .set("SOURCE__URL", &format!("{scheme}://{}", proxy.addr()))
        .set("SOURCE__HEART_BEAT", "2s")
        .set("SOURCE__MAX_BODY", "2MiB")
        .set("SOURCE__MAX_IN_FLIGHT", "2MiB");
    std::fs::create_dir(rehearsal.setup.files()).unwrap();
    let unusable = Unusable::make(rehearsal.setup.files());
    let bridge = rehearsal.setup.start();
    rehearsal.generate(40, flat_out());
    let admin = Admin::of(&bridge).await;
    let in_flight = |metrics: &Metrics| metrics.value("atdata_bridge_in_flight_bytes");
    admin.metrics_until("the room is used up", |metrics| in_flight(metrics) >= ROOM).await;
    let (before, _) = proxy.beats();
    wait_until("it has beaten often enough", SOON, || proxy.beats().0 - before >= BEATS).await;
    // What was read at once may be one body, and what a read buffer holds, too much.
    let used = in_flight(&admin.metrics().await);
    assert!(used < 2.0 * ROOM, "{used} bytes are in flight");
    assert_eq!(rehearsal.simulator.stats().total().acked, 0);
    unusable.restore();
    let stats = rehearsal.acked(40).await;
    assert_eq!((stats.sessions, stats.total().redelivered), (1, 0));
    assert_eq!(rehearsal.ends_well(bridge).await.delivered, 40);
}

/// CESU-8 is repaired, an MD5 in upper case folded, and a line stays a line.
async fn odd_bodies_that_can_be_used(protocol: Protocol) {
    let oddities = [Malformation::Cesu8, Malformation::UpperCase, Malformation::Lines];
    let rehearsal = Rehearsal::new(protocol, Faults::default()).await.odd(3, &oddities);
    let rehearsal = rehearsal.set("SINKS__FILE__FORMAT", "envelope");
    let mut bridge = rehearsal.setup.start();
    rehearsal.generate(900, flat_out());
    rehearsal.acked(900).await;
    bridge.terminate();
    assert_eq!(bridge.ended(SOON).await.code(), Some(0));

    let lines = json_lines(rehearsal.setup.files());
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
    assert!(
        !rehearsal.setup.dead_letters().exists() || json_lines(rehearsal.setup.dead_letters()).is_empty()
    );
}

/// Whatever the network makes of it: frames in pieces of seven bytes, odd ones among them. Over STOMP nothing
/// of a map comes, and no client can read past a NUL; over OpenWire that is one more body that is no JSON.
async fn bytes_that_dribble(protocol: Protocol) {
    let oddities: Vec<_> = Malformation::ALL
        .into_iter()
        .filter(|oddity| *oddity != Malformation::Large)
        .filter(|oddity| {
            protocol == Protocol::OpenWire || !matches!(oddity, Malformation::Map | Malformation::Nul)
        })
        .collect();
    let faults = Faults { dribble: Some(7), ..Default::default() };
    let rehearsal = Rehearsal::new(protocol, faults).await.odd(20, &oddities);
    let bridge = rehearsal.setup.start();
    rehearsal.generate(800, flat_out());
    rehearsal.acked(800).await;
    let findings = rehearsal.ends_well(bridge).await;
    let dead = oddities.iter().cycle().take(40).filter(|oddity| !oddity.usable()).count() as u64;
    assert_eq!((findings.delivered, findings.dead), (800 - dead, dead));
}
