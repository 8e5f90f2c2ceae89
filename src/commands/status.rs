//! Runs `status`: asks a running bridge for its state over HTTP, and shows it once or every second.

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Builder;
use tokio::time::interval;

use super::{Console, Exit, configured};
use crate::config::SinkRegistry;
use crate::display::{one_line, rfc3339};
use crate::http_get::{self, HttpServer};
use crate::telemetry::bridge_status::{BridgeStatus, DeadLetterCount, PartLine, QueueLine, SinkLine};
use crate::telemetry::http::config::AdminSettings;
use crate::telemetry::status::Lasting;
use crate::tls::TlsServerOptions;

/// The longest wait for the answer of a bridge, which is on this host or near.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between two looks with `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Moves the cursor of a terminal to its upper left corner, and erases what is below.
const HOME: &str = "\x1b[H\x1b[J";

#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Show it again every second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Write the document of `/status` as it is, one a line
    #[arg(long)]
    pub json: bool,
    /// Where the bridge listens, instead of admin.listen of the configuration
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub address: Option<SocketAddr>,
    /// With --address: speak TLS, with the certificate of admin.tls in the configuration
    #[arg(long, requires = "address")]
    pub tls: bool,
}

/// Where a bridge listens, and the files of its TLS if it speaks TLS.
struct BridgeAddress {
    address: SocketAddr,
    tls: Option<TlsServerOptions>,
}

/// Writes the state to standard output. The exit code says whether the bridge is ready.
///
/// # Errors
/// The console can't be written, or the system refuses a runtime.
pub fn run(
    kinds: &SinkRegistry,
    args: &StatusArgs,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    let Some(bridge) = bridge_address(kinds, args, file, env, console)? else { return Ok(Exit::Usage) };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(show(&bridge, args, console));
    match ended {
        // Without `--watch` the exit code says whether the bridge is ready.
        Err(error) if args.watch && error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Success),
        ended => ended,
    }
}

/// Returns the bridge that the options and the configuration name. `None` if they name none; the reason is told.
fn bridge_address(
    kinds: &SinkRegistry,
    args: &StatusArgs,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    console: &mut Console<'_>,
) -> io::Result<Option<BridgeAddress>> {
    if let (Some(address), false) = (args.address, args.tls) {
        return Ok(Some(BridgeAddress { address, tls: None }));
    }
    let Some(loaded) = configured(kinds, file, env, console)? else { return Ok(None) };
    let AdminSettings { listen, tls, .. } = loaded.settings.admin;
    let refusal = match (args.address.or(listen.map(reachable)), &tls) {
        (_, None) if args.tls => "--tls needs admin.tls.certificate_file and admin.tls.key_file",
        (None, _) => "admin.listen is off, so the bridge tells no state",
        (Some(address), _) if address.port() == 0 => {
            "admin.listen has port 0, which the bridge replaces by a free one: its log tells which; give it as --address"
        }
        (Some(address), _) => return Ok(Some(BridgeAddress { address, tls })),
    };
    writeln!(console.err, "error: {refusal}")?;
    Ok(None)
}

/// Returns the address under which this host reaches a listener at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn show(bridge: &BridgeAddress, args: &StatusArgs, console: &mut Console<'_>) -> io::Result<Exit> {
    let erases = args.watch && !args.json && io::stdout().is_terminal();
    let mut looks = interval(WATCH_EVERY);
    loop {
        looks.tick().await;
        let exit = match ask(bridge).await {
            Ok((text, status)) => {
                let shown = if args.json { text + "\n" } else { written(&status) };
                write!(console.out, "{}{shown}", if erases { HOME } else { "" })?;
                if status.ready { Exit::Success } else { Exit::Failure }
            }
            Err(why) => {
                let address = bridge.address;
                writeln!(console.err, "error: the bridge at {address} tells no state: {}", one_line(&why))?;
                Exit::Failure
            }
        };
        console.out.flush()?;
        if !args.watch {
            return Ok(exit);
        }
    }
}

/// Asks for the document. Returns it as text too.
async fn ask(bridge: &BridgeAddress) -> Result<(String, BridgeStatus), String> {
    let tls = bridge.tls.as_ref().map(TlsServerOptions::own_client).transpose();
    let (address, tls) = (bridge.address.to_string(), tls.map_err(|error| error.to_string())?);
    let page = http_get::get(HttpServer { address: &address, tls }, "/status", PATIENCE).await;
    let page = page.map_err(|error| format!("{error}; {}", advice(bridge.tls.as_ref())))?;
    let text = String::from_utf8(page.to_vec()).map_err(|_| "the answer is no text".to_owned())?;
    let status = serde_json::from_str(&text).map_err(|error| format!("the answer is no state: {error}"))?;
    Ok((text, status))
}

fn advice(tls: Option<&TlsServerOptions>) -> String {
    match tls {
        None => "does it run, with this admin.listen, in this version? If it speaks TLS, set admin.tls here too; with \
                 --address, also --tls"
            .to_owned(),
        Some(TlsServerOptions { certificate_file, .. }) => format!(
            "does it run, with this admin.listen and admin.tls.certificate_file = {}? A renewed certificate is shown within \
             ten seconds and one connection",
            certificate_file.display()
        ),
    }
}

/// Returns the state as lines for people.
fn written(status: &BridgeStatus) -> String {
    let BridgeStatus { version, started, ready, not_ready, parts, queues, .. } = status;
    let word = if *ready { "ready" } else { "NOT READY" };
    let mut lines = vec![format!("{word}: atdata-bridge {version}, started {}", rfc3339(*started))];
    // A part that is not ready has a line of its own below.
    let is_part = |reason: &&String| parts.iter().any(|part| reason.starts_with(&format!("{}: ", part.part)));
    lines.extend(
        not_ready.iter().filter(|reason| !is_part(reason)).map(|reason| format!("  {}", one_line(reason))),
    );
    let width = parts.iter().map(|part| part.part.chars().count()).max().unwrap_or(0);
    lines.extend(parts.iter().map(|part| part_line(part, width)));
    for queue in queues {
        lines.push(queue_line(queue));
        lines.extend(queue.sinks.iter().map(sink_line));
    }
    lines.join("\n") + "\n"
}

fn part_line(part: &PartLine, width: usize) -> String {
    let seconds = |seconds| Lasting(Duration::from_secs(seconds));
    let PartLine { part, state, reason, since_seconds, next_try_seconds } = part;
    let next =
        next_try_seconds.map(|next| format!(", next try in {}", seconds(next.max(1)))).unwrap_or_default();
    let reason = if reason.is_empty() { String::new() } else { format!(": {}", one_line(reason)) };
    format!("  {:width$}  {state:8}  for {}{next}{reason}", one_line(part), seconds(*since_seconds))
}

fn queue_line(queue_line: &QueueLine) -> String {
    let behind = match queue_line.behind_seconds {
        Some(behind) => format!("{behind:.1} s behind"),
        None => "how far behind is not known".to_owned(),
    };
    let last = queue_line
        .last_received
        .map_or_else(|| "no event yet".to_owned(), |last| format!("last event {}", rfc3339(last)));
    let QueueLine { queue, received, acknowledged, in_flight, in_flight_limit, .. } = queue_line;
    let replica = queue_line.replica.as_ref().map(|replica| format!(", {replica}")).unwrap_or_default();
    let rate = rate(queue_line.received_per_second);
    format!(
        "{}: {behind}{replica}, {last}; {received} received{rate}, {acknowledged} acknowledged, \
         {in_flight} of {in_flight_limit} in flight",
        one_line(queue)
    )
}

fn rate(per_second: Option<f64>) -> String {
    per_second.map(|rate| format!(" ({rate:.1} a second)")).unwrap_or_default()
}

fn sink_line(line: &SinkLine) -> String {
    let SinkLine { sink, settled, settled_per_second, suppressed, retried, dead_letters } = line;
    let letters = dead_letters.iter().map(|(reason, DeadLetterCount { count, newest })| {
        format!("{count} {} (newest {})", one_line(reason), one_line(newest))
    });
    let letters: Vec<_> = letters.collect();
    let letters = if letters.is_empty() { "none".to_owned() } else { letters.join(", ") };
    format!(
        "  {}: {settled} settled{}, {suppressed} suppressed, {retried} retried; dead letters: {letters}",
        one_line(sink),
        rate(*settled_per_second)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_state_is_shown_in_lines_that_nothing_forges() {
        let part = |part: &str, state: &str, reason: &str, next_try_seconds| PartLine {
            part: part.to_owned(),
            state: state.to_owned(),
            reason: reason.to_owned(),
            since_seconds: 252,
            next_try_seconds,
        };
        let sink = SinkLine {
            sink: "kafka".to_owned(),
            settled: 7,
            settled_per_second: Some(1.25),
            suppressed: 1,
            retried: 2,
            dead_letters: BTreeMap::from([(
                "too_large".to_owned(),
                DeadLetterCount { count: 3, newest: "ID:\n1".to_owned() },
            )]),
        };
        let queue = QueueLine {
            queue: "main.RTO.acme".to_owned(),
            connection_id: "acme-main-1".to_owned(),
            subscribed: true,
            replica: Some("active".to_owned()),
            sessions: 1,
            reconnects: BTreeMap::new(),
            behind_seconds: Some(20.04),
            last_received: Some("2026-11-30T02:00:00Z".parse().unwrap()),
            received: 9,
            received_per_second: Some(240.0),
            acknowledged: 7,
            in_flight: 2,
            in_flight_limit: 1024,
            sinks: vec![
                sink.clone(),
                SinkLine {
                    sink: "-".to_owned(),
                    settled_per_second: None,
                    dead_letters: BTreeMap::new(),
                    ..sink
                },
            ],
        };
        let status = BridgeStatus {
            version: "1.2.3".to_owned(),
            started: "2026-11-30T01:00:00Z".parse().unwrap(),
            ready: false,
            not_ready: vec![
                "sink kafka: held: no\ntopic (for 4m12s)".to_owned(),
                "bridge: starting".to_owned(),
            ],
            in_flight_bytes: 1,
            in_flight_bytes_limit: 2,
            parts: vec![part("source", "ready", "", None), part("sink kafka", "held", "no\ntopic", Some(0))],
            queues: vec![
                queue.clone(),
                QueueLine {
                    behind_seconds: None,
                    last_received: None,
                    received_per_second: None,
                    replica: None,
                    sinks: Vec::new(),
                    ..queue
                },
            ],
        };
        let expected = "\
NOT READY: atdata-bridge 1.2.3, started 2026-11-30T01:00:00.000Z
  bridge: starting
  source      ready     for 4m12s
  sink kafka  held      for 4m12s, next try in 1s: no\\ntopic
main.RTO.acme: 20.0 s behind, active, last event 2026-11-30T02:00:00.000Z; 9 received (240.0 a second), 7 acknowledged, 2 of 1024 in flight
  kafka: 7 settled (1.2 a second), 1 suppressed, 2 retried; dead letters: 3 too_large (newest ID:\\n1)
  -: 7 settled, 1 suppressed, 2 retried; dead letters: none
main.RTO.acme: how far behind is not known, no event yet; 9 received, 7 acknowledged, 2 of 1024 in flight
";
        assert_eq!(written(&status), expected);
        assert!(written(&BridgeStatus { ready: true, ..status }).starts_with("ready: "));
    }

    #[test]
    fn a_listener_at_every_address_is_reached_at_the_loopback() {
        for (listen, reached) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
