//! Builds and checks the commands that both sides exchange before a queue is consumed (`protocols.md §3.6`,
//! 3.7).

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::wire::framing::OpenWireLimits;
use super::wire::info::ConnectionInfo;
use super::wire::wire_format::WireFormatInfo;
use crate::source::config::SourceSettings;
use crate::source::error::SourceError;
use crate::source::protocol::heart_beat::HeartBeat;

/// Older versions have other fields.
const OLDEST_VERSION: i32 = 10;

/// Neither side checks for silence during this time, as in Java's client.
const INITIAL_DELAY: Duration = Duration::from_secs(10);

/// Returns the wire format that we offer.
pub(super) fn offer(settings: &SourceSettings, limits: OpenWireLimits) -> WireFormatInfo {
    let inactivity = settings.heart_beat.unwrap_or_default();
    WireFormatInfo::offer(inactivity, delay(settings), i64::try_from(limits.frame()).unwrap_or(i64::MAX))
}

fn delay(settings: &SourceSettings) -> Duration {
    settings.heart_beat.unwrap_or_default().min(INITIAL_DELAY)
}

/// Returns the heart-beat that both sides have agreed on; off unless both want one.
///
/// # Errors
/// The broker supports no version that this codec knows.
pub(super) fn agree(
    settings: &SourceSettings,
    broker: &WireFormatInfo,
    now: Instant,
) -> Result<HeartBeat, SourceError> {
    if broker.version < OLDEST_VERSION {
        let version = broker.version;
        let detail = format!("version {version} of OpenWire, where at least {OLDEST_VERSION} is needed");
        return Err(SourceError::protocol(detail));
    }
    let inactivity = settings.heart_beat.unwrap_or_default().min(broker.inactivity());
    Ok(match inactivity {
        Duration::ZERO => HeartBeat::off(now),
        inactivity => {
            HeartBeat::with_inactivity(now, inactivity, delay(settings).min(broker.initial_delay()))
        }
    })
}

/// Returns the login over the connection with this id.
pub(super) fn login(settings: &SourceSettings, connection: Bytes) -> ConnectionInfo {
    ConnectionInfo {
        connection,
        client_id: Some(settings.connection_id.clone()),
        password: Some(settings.password.current()),
        user_name: Some(settings.username.clone()),
    }
}

/// Returns a new random id for OpenWire's own connection, not the user's connection id. Nobody may guess it:
/// a second connection with the same id takes over the first, even before it has logged in (D4).
///
/// # Errors
/// The system gives no random number.
pub(super) fn random_id(settings: &SourceSettings) -> Result<Bytes, SourceError> {
    let random = || {
        getrandom::u64().map_err(|error| SourceError::Closed(format!("no random number to be had: {error}")))
    };
    Ok(format!("ID:{}-{:016x}{:016x}", settings.connection_id, random()?, random()?).into())
}
