//! Checks the server and the stream for the verb `check`; publishes no event and creates nothing.

use async_nats::ServerInfo;
use async_nats::jetstream::stream::{Config, StorageType};

use super::monitor::{self, SyncPolicy};
use super::opener::{NatsSink, subscribe, values};
use super::{stream, stream_limits, user_check};
use crate::display::one_line;
use crate::finding::{Finding, codes};
use crate::sink::SinkError;

/// Returns what is known about the server and the stream, for the operator. An error says why the sink could not be
/// opened.
pub(super) async fn check(sink: &mut NatsSink) -> Result<Vec<Finding>, SinkError> {
    let mut connection = sink.connect().await?;
    let (inbox, mut subscriber) = subscribe(&connection.client).await?;
    let server = connection.client.server_info();
    // The server tells its name, and of its address only where it listens, which may be 0.0.0.0.
    let (name, places) = (one_line(&server.server_name), sink.settings.places());
    let message = format!("connected to nats-server {} ({name}) at {places}", server.version);
    let mut found = vec![Finding::detail(codes::NATS_SERVER, message)];
    let client = connection.client.clone();
    let warnings = match sink.settings.stream.clone() {
        None => {
            sink.try_round_trip(&mut connection, &inbox, &mut subscriber).await?;
            sink.warnings(&client, None)
        }
        Some(name) => match sink.look_up(&mut connection, &name).await? {
            Some(info) => {
                stream::has_room(&info)?;
                found.push(Finding::detail(codes::NATS_STREAM, stream::describe(&info)));
                found.extend(stream_limits::findings(&info));
                found.extend(user_check::of_jetstream(sink, &name).await);
                found.extend(sync_of(sink, &server, &info.config).await);
                sink.warnings(&client, Some(values(&info)))
            }
            None => {
                let create = sink.settings.create.as_ref();
                let wanted = create.ok_or_else(|| sink.explainer.no_stream(&name))?;
                let config = wanted.config(&name, sink.explainer.subject().pattern());
                stream::verify(&config, &sink.explainer)?;
                let message = format!("stream {name} does not exist yet and will be made");
                found.push(Finding::detail(codes::NATS_STREAM_TO_BE_MADE, message));
                found.extend(sync_of(sink, &server, &config).await);
                sink.warnings(&client, Some((&config, None)))
            }
        },
    };
    found.extend(warnings);
    found.extend(user_check::of_user(sink).await?);
    Ok(found)
}

/// Tells how often the server syncs the files of this stream to disk; `None` if it has no files.
async fn sync_of(sink: &NatsSink, server: &ServerInfo, config: &Config) -> Option<Finding> {
    if config.storage != StorageType::File {
        return None;
    }
    let option = sink.explainer.option("monitor_url");
    let Some(address) = &sink.settings.monitor else {
        let message = format!(
            "not known whether nats-server syncs each event to disk before it acknowledges it: set {option} to let \
             check find out"
        );
        return Some(Finding::detail(codes::NATS_SYNC_NOT_KNOWN, message));
    };
    Some(match monitor::read(address, sink.settings.timeout).await {
        Ok(page) if !page.is_of(server) => {
            let message = format!(
                "http://{address} is the monitoring port of another nats-server ({}) than the sink writes to ({}): correct \
                 {option}",
                one_line(&page.server_name),
                one_line(&server.server_name)
            );
            Finding::warning(codes::NATS_MONITOR_OF_ANOTHER, message)
        }
        Ok(page) => of_policy(page.policy, config),
        Err(why) => {
            let message = format!(
                "can't read http://{address}/varz, which tells how often nats-server syncs to disk: {why}; check {option}"
            );
            Finding::warning(codes::NATS_MONITOR_UNREADABLE, message)
        }
    })
}

/// Warns only where one server has the only copy: several seldom lose power at once.
fn of_policy(policy: SyncPolicy, config: &Config) -> Finding {
    let SyncPolicy::Every(period) = policy else {
        let message =
            "nats-server syncs each event to disk before it acknowledges it (sync_interval: always)";
        return Finding::detail(codes::NATS_SYNC, message);
    };
    let (name, replicas) = (&config.name, config.num_replicas);
    let synced =
        format!("nats-server syncs to disk every {} (sync_interval)", humantime::format_duration(period));
    if replicas < 2 {
        let message = format!(
            "{synced}, and stream {name} has one replica: a power cut loses what was acknowledged since; set \
             sync_interval: always in the jetstream block of the server, or give the stream three replicas"
        );
        return Finding::warning(codes::NATS_SYNC_LATE, message);
    }
    let message = format!(
        "{synced}, and stream {name} has {replicas} replicas: only a power cut of most of them loses events"
    );
    Finding::detail(codes::NATS_SYNC, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_one_replica_that_is_synced_late_is_a_warning() {
        let config = |num_replicas| Config { name: "E".to_owned(), num_replicas, ..Config::default() };
        let late = SyncPolicy::Every(Duration::from_secs(120));
        let found = of_policy(late, &config(1));
        assert!(found.is_warning && found.message.contains("every 2m (sync_interval)"), "{found}");
        for (policy, replicas) in [(late, 3), (SyncPolicy::Always, 1), (SyncPolicy::Always, 3)] {
            assert!(!of_policy(policy, &config(replicas)).is_warning, "{policy:?} {replicas}");
        }
    }
}
