//! Checks the broker: logs in at each of its addresses, or browses the queue.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::addresses;
use super::report::{CheckError, Report};
use super::waiting_events::WaitingEvents;
use crate::budget::Budget;
use crate::finding::{Finding, codes};
use crate::key::Keying;
use crate::source::check::{self, Agreed};
use crate::source::config::{Endpoint, SourceSettings};
use crate::source::error::SourceError;

/// The most events that are browsed in a queue.
const BROWSED: u32 = 100;

/// If `keying` is given, also browses the waiting events, and looks whether the connection id is in use.
pub(super) async fn check(
    source: &SourceSettings,
    keying: Option<&Keying>,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let mut own = source.clone();
    own.connection_id.push_str("-check");
    own.prefetch = BROWSED;
    let own = Arc::new(own);
    for endpoint in &own.endpoints {
        let mut outcome = match keying {
            None => log_in(endpoint, &own).await,
            Some(keying) => browse(endpoint, &own, keying).await,
        };
        if let Ok(found) = &mut outcome {
            if keying.is_some() {
                found.extend(id_use(endpoint, source).await);
            }
            let tried = check::try_addresses(endpoint, own.connect_timeout).await;
            found.extend(addresses::finding(endpoint, &tried));
            found.extend(addresses::without_tls(endpoint, &tried));
        }
        report.part(&format!("broker {endpoint}"), outcome)?;
    }
    Ok(())
}

async fn log_in(endpoint: &Endpoint, own: &Arc<SourceSettings>) -> Result<Vec<Finding>, CheckError> {
    let agreed = check::log_in(endpoint, own).await.map_err(|error| failed(error, own))?;
    let message = format!(
        "logged in as {}; whether the queue {} may be read shows only with --subscribe, which creates it",
        own.username,
        own.queue()
    );
    Ok(vec![Finding::detail(codes::SOURCE_LOGIN, message), heart_beats(own, agreed)])
}

async fn browse(
    endpoint: &Endpoint,
    own: &Arc<SourceSettings>,
    keying: &Keying,
) -> Result<Vec<Finding>, CheckError> {
    let mut seen = WaitingEvents::new(keying);
    let budget = Budget::new(own.max_body);
    let see = &mut |message| {
        seen.add(message);
        ControlFlow::Continue(())
    };
    let browsed = check::browse(endpoint, own, &budget, see).await;
    let agreed = browsed.map_err(|error| failed(error, own))?;
    let clock = seen.clock(own);
    Ok(vec![seen.outcome(own)?, clock, heart_beats(own, agreed)])
}

/// A second check is no second bridge.
fn failed(error: SourceError, own: &SourceSettings) -> CheckError {
    let SourceError::AlreadyConnected { peer } = error else { return error.into() };
    let message = format!(
        "another check has the connection id {} now, from {peer}: try again when it has ended",
        own.connection_id
    );
    CheckError::passing(codes::SOURCE_OTHER_CHECK, message)
}

/// Tells how soon the bridge notices that the broker is gone without a word.
fn heart_beats(source: &SourceSettings, Agreed { silence }: Agreed) -> Finding {
    const LATE: &str = "a connection that dies silently is noticed only by the system, after some minutes, or by \
                        source.idle_reconnect";
    match (source.heart_beat, silence) {
        (None, _) => {
            let message = format!("source.heart_beat is 0s: {LATE}; set it, for example to 10s");
            Finding::warning(codes::SOURCE_HEART_BEATS_OFF, message)
        }
        (Some(_), None) => {
            let message =
                format!("the broker sends no heart-beats: {LATE}; ask AtData to switch heart-beats on");
            Finding::warning(codes::SOURCE_NO_HEART_BEATS, message)
        }
        (Some(_), Some(silence)) => {
            let message =
                format!("heart-beats: a broker that is silent for {} s counts as gone", silence.as_secs());
            Finding::detail(codes::SOURCE_HEART_BEATS, message)
        }
    }
}

/// Logs in with the connection id of the bridge, which the broker refuses while a bridge has it (D53).
async fn id_use(endpoint: &Endpoint, source: &SourceSettings) -> Option<Finding> {
    let id = &source.connection_id;
    match check::log_in(endpoint, &Arc::new(source.clone())).await {
        Ok(_) => {
            let message = format!("no client has the connection id {id} now");
            Some(Finding::detail(codes::SOURCE_ID_FREE, message))
        }
        Err(SourceError::AlreadyConnected { peer }) => {
            let message = format!(
                "the connection id {id} is in use, from {peer}: a bridge runs with it; if that is not this one, set \
                 source.connection_id"
            );
            Some(Finding::detail(codes::SOURCE_ID_IN_USE, message))
        }
        // The first login has worked, so this passes.
        Err(_) => None,
    }
}
