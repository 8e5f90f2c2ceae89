//! Runs `simulate`: an AtData broker for rehearsals.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use tokio::time::{MissedTickBehavior, interval};

use super::signals::StopSignals;
use super::{Console, Exit};
use crate::secret::Secret;
use crate::simulator::{
    Faults, Generation, GeneratorConfig, HeartBeats, Rate, Simulator, SimulatorConfig, SimulatorLogin, Stats,
};
use crate::units::Period;

/// Serves an AtData broker until Ctrl-C. Events come once the first consumer has subscribed.
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// The address and port at which the broker listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:61613")]
    listen: SocketAddr,
    /// The user name of the only login.
    #[arg(long, value_name = "NAME", default_value = "12345")]
    username: String,
    /// Its password. Anybody can read it here: take none that is used elsewhere.
    #[arg(long, value_name = "TEXT", default_value = "0123456789abcdef0123456789abcdef")]
    password: String,
    /// The namespace that it may consume.
    #[arg(long, value_name = "NAME", default_value = "acme", value_parser = one_word)]
    namespace: String,
    /// How many events to send; without it they never end.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Events in a second; without it as fast as they are consumed.
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    #[command(flatten)]
    generator: GeneratorConfig,
    #[command(flatten)]
    faults: FaultArgs,
}

/// What goes wrong on purpose.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Faults")]
struct FaultArgs {
    #[command(flatten)]
    faults: Faults,
    /// Hold the client id of a connection that broke for so long, such as `10s`.
    #[arg(long, value_name = "TIME", default_value = "0s", hide_default_value = true, value_parser = Period::parse)]
    hold: Period,
    /// Send heart-beats so much later than promised, such as `30s`.
    #[arg(long, value_name = "TIME", value_parser = Period::parse)]
    late_heart_beats: Option<Period>,
    /// Send no heart-beats, whatever was promised.
    #[arg(long, conflicts_with = "late_heart_beats")]
    no_heart_beats: bool,
}

/// Serves until Ctrl-C or SIGTERM. Writes a configuration of a bridge to standard output, and then each second what
/// happened to standard error.
///
/// # Errors
/// The output can't be written, or the system refuses threads or signal handlers.
pub fn run(args: &SimulateArgs, console: &mut Console<'_>) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match Simulator::start(args.simulator()).await {
            Ok(simulator) => {
                serve(args, simulator, StopSignals::new()?.asked(), console).await?;
                Ok(Exit::Success)
            }
            Err(error) => {
                writeln!(console.err, "error: {error}")?;
                Ok(Exit::Failure)
            }
        }
    })
}

async fn serve<T>(
    args: &SimulateArgs,
    simulator: Simulator,
    stop: impl Future<Output = T>,
    console: &mut Console<'_>,
) -> io::Result<()> {
    simulator.generate(&args.namespace, args.generation());
    write!(console.out, "{}", args.configuration(&simulator.url(), &simulator.openwire_url()))?;
    console.out.flush()?;
    let served = tokio::select! {
        _ = stop => Ok(()),
        failed = report(&simulator, console) => failed,
    };
    simulator.stop().await;
    served
}

/// Writes a line for each second in which something happened. Returns only on an error.
async fn report(simulator: &Simulator, console: &mut Console<'_>) -> io::Result<()> {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = simulator.stats();
    loop {
        seconds.tick().await;
        let now = simulator.stats();
        if now != before {
            console.note(&progress(&before, &now))?;
        }
        before = now;
    }
}

fn progress(before: &Stats, now: &Stats) -> String {
    let (total, earlier) = (now.total(), before.total());
    format!(
        "sent {} · waiting {} · in flight {} · acknowledged {} (+{}) · redelivered {} · dead {} · consumers {} · sessions {} · refused {}",
        now.published,
        total.pending,
        total.in_flight,
        total.acked,
        total.acked - earlier.acked,
        total.redelivered,
        total.dead,
        total.consumers,
        now.sessions,
        now.refused
    )
}

impl SimulateArgs {
    fn simulator(&self) -> SimulatorConfig {
        let login = SimulatorLogin {
            username: self.username.clone(),
            password: Secret::new(&self.password),
            namespace: self.namespace.clone(),
        };
        let faults = self.faults.faults();
        SimulatorConfig { listen: self.listen, logins: vec![login], hold: self.faults.hold.0, faults }
    }

    fn generation(&self) -> Generation {
        Generation {
            events: self.events,
            rate: self.rate.map_or_else(Rate::default, Rate::PerSecond),
            generator: self.generator.clone(),
        }
    }

    /// Returns a complete configuration for a bridge. Its first lines say what it is for.
    fn configuration(&self, url: &str, openwire_url: &str) -> String {
        let text = |value: &str| toml_edit::Value::from(value).to_string();
        let (plain, openwire) = (text(url), text(openwire_url));
        let [username, password, namespace] =
            [&self.username, &self.password, &self.namespace].map(|value| text(value));
        format!(
            "# An AtData broker listens here until Ctrl-C. Save this as bridge.toml, and start in another terminal:
#   atdata-bridge -c bridge.toml

[source]
url = {plain}  # over OpenWire: {openwire}
username = {username}
password = {password}
namespace = {namespace}
destination_id = \"rehearsal\"

[sinks.file]
directory = \"rehearsal/events\"

[dead_letters]
directory = \"rehearsal/dead-letters\"
"
        )
    }
}

impl FaultArgs {
    fn faults(&self) -> Faults {
        let heart_beats = match self.late_heart_beats {
            _ if self.no_heart_beats => HeartBeats::Never,
            Some(late) => HeartBeats::Late(late.0),
            None => HeartBeats::OnTime,
        };
        Faults { heart_beats, ..self.faults.clone() }
    }
}

fn one_word(text: &str) -> Result<String, &'static str> {
    let separates = |character: char| character.is_whitespace() || ".*>,/".contains(character);
    if text.is_empty() || text.contains(separates) {
        return Err("one word without `.`, `*`, `>`, `,`, `/` and white space is needed");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use clap::Parser;

    use super::*;
    use crate::config::{SinkRegistry, load};
    use crate::simulator::Malformation;

    #[derive(Parser)]
    struct SimulateCli {
        #[command(flatten)]
        simulate: SimulateArgs,
    }

    fn parse(arguments: &[&str]) -> Result<SimulateArgs, clap::Error> {
        let all = ["simulate"].iter().chain(arguments);
        SimulateCli::try_parse_from(all).map(|cli| cli.simulate)
    }

    #[test]
    fn arguments_become_faults_and_events() {
        let args = parse(&[
            "--rate=500",
            "--events=7",
            "--odd-every=2",
            "--odd=lines,nul",
            "--late-heart-beats=30s",
            "--close-consumers-after=20",
            "--drop-every=2000",
            "--hold=1min",
            "--refuse-reconnects=3",
        ])
        .unwrap();
        let config = args.simulator();
        assert_eq!(config.hold, Duration::from_secs(60));
        assert_eq!(
            config.faults,
            Faults {
                drop_every: Some(2000),
                close_consumers_after: Some(20),
                refuse_reconnects: 3,
                heart_beats: HeartBeats::Late(Duration::from_secs(30)),
                ..Default::default()
            }
        );
        let generation = args.generation();
        assert_eq!(generation.rate, Rate::PerSecond(NonZeroU32::new(500).unwrap()));
        assert_eq!(generation.generator.malformations, [Malformation::Lines, Malformation::Nul]);
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [
            "--keys=0",
            "--rate=0",
            "--namespace=a.b",
            "--odd-every=1 --odd=sour",
            "--odd=nul",
            "--hold=soon",
        ] {
            assert!(parse(&nonsense.split(' ').collect::<Vec<_>>()).is_err(), "{nonsense}");
        }
    }

    #[tokio::test]
    async fn it_says_how_to_connect_and_ends_when_told() {
        let args = parse(&["--listen=127.0.0.1:0", "--password=a\"b"]).unwrap();
        let simulator = Simulator::start(args.simulator()).await.unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let console = &mut Console::new(&mut out, &mut err);
        serve(&args, simulator, async {}, console).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bridge.toml");
        std::fs::write(&file, &out).unwrap();
        let loaded = load(&SinkRegistry::built_in(), Some(&file), std::iter::empty()).unwrap();
        assert_eq!(
            loaded.warnings.len(),
            1,
            "{:?}, and one of a password that is not like AtData's",
            loaded.warnings
        );
        let source = &loaded.settings.subscriptions[0].source;
        assert_eq!((source.password.reveal(), source.destination_id.as_str()), ("a\"b", "rehearsal"));
        assert!(String::from_utf8(out).unwrap().contains("  # over OpenWire: \"tcp://127.0.0.1:"));
    }

    #[test]
    fn a_taken_port_is_one_clear_line() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let args = parse(&[&format!("--listen={}", taken.local_addr().unwrap())]).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(&args, &mut Console::new(&mut out, &mut err)).unwrap();
        let err = String::from_utf8(err).unwrap();
        assert!(err.starts_with("error: the simulator cannot listen on 127.0.0.1:"), "{err}");
        assert_eq!((exit, out.len(), err.lines().count()), (Exit::Failure, 0, 1));
    }
}
