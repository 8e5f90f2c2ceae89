//! Checks `[source]`.

use std::path::Path;
use std::time::Duration;

use super::reader::Reader;
use super::{endpoint, ids};
use crate::secret::Secret;
use crate::source::config::{Endpoint, SourceConfig, SourceSettings, TlsConfig};
use crate::units::{Period, Size};

/// The checked settings of `[source]`, before they are divided among sinks; `None` if something is wrong.
pub(super) fn check(reader: &mut Reader, raw: SourceConfig, host: Option<&str>) -> Option<SourceSettings> {
    check_numbers(reader, &raw);
    let endpoints = endpoints(reader, &raw);
    let username = reader.required("source.username", raw.username);
    if username.as_deref().is_some_and(has_control) {
        reader.refuse("source.username", CONTROL);
    } else if let Some(name) = username.as_deref().filter(|name| !is_username(name)) {
        reader.warn("source.username", &format!("`{name}` is not 4 or 5 digits, as AtData's are"));
    }
    let password = password(reader, raw.password, raw.password_file.as_deref());
    let namespace = id(reader, "source.namespace", raw.namespace);
    let destination_id = id(reader, "source.destination_id", raw.destination_id);
    let default = namespace.as_ref().zip(destination_id.as_ref()).zip(host);
    let default =
        default.map(|((namespace, id), host)| format!("{namespace}-{id}-{}", ids::from_host_name(host)));
    let connection_id = connection_id(reader, raw.connection_id, default, host.is_some())?;
    check_tls(reader, &raw.tls, &endpoints);
    Some(SourceSettings {
        endpoints,
        username: username?,
        password: password?,
        namespace: namespace?,
        destination_id: destination_id?,
        connection_id,
        prefetch: raw.prefetch,
        heart_beat: switched(raw.heart_beat),
        ordering: raw.ordering,
        max_body: bytes(raw.max_body),
        connect_timeout: raw.connect_timeout.0,
        idle_reconnect: switched(raw.idle_reconnect),
        backoff: raw.backoff,
        tls: raw.tls,
    })
}

/// `0s` is off.
fn switched(period: Period) -> Option<Duration> {
    (!period.0.is_zero()).then_some(period.0)
}

/// As much as memory can address.
pub(super) fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn check_numbers(reader: &mut Reader, raw: &SourceConfig) {
    if raw.prefetch == 1000 {
        reader
            .refuse("source.prefetch", "1000 means \"the broker's default\" to ActiveMQ: write 999 or 1001");
    } else if !(1..=20_000).contains(&raw.prefetch) {
        reader.refuse("source.prefetch", format!("{} is not from 1 to 20000", raw.prefetch));
    }
    let heart_beat = raw.heart_beat.0;
    if !heart_beat.is_zero() && !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&heart_beat) {
        let message = format!("{} is neither `0s` (off) nor from 1s to 1h", raw.heart_beat);
        reader.refuse("source.heart_beat", message);
    }
    if raw.max_body.0 == 0 {
        reader.refuse("source.max_body", "must be more than 0");
    }
    reader.in_order(("source.max_body", raw.max_body), ("source.max_in_flight", raw.max_in_flight));
    if raw.connect_timeout.0.is_zero() {
        reader.refuse("source.connect_timeout", "must be more than 0s");
    }
    if raw.backoff.initial.0.is_zero() {
        reader.refuse("source.backoff.initial", "must be more than 0s");
    }
    let backoff = raw.backoff;
    reader.in_order(("source.backoff.initial", backoff.initial), ("source.backoff.max", backoff.max));
}

fn endpoints(reader: &mut Reader, raw: &SourceConfig) -> Vec<Endpoint> {
    let (key, urls) = match (&raw.url, raw.urls.as_slice()) {
        (Some(url), []) => ("source.url", std::slice::from_ref(url)),
        (None, urls) if !urls.is_empty() => ("source.urls", urls),
        (Some(_), _) => {
            reader.refuse("source.urls", "source.url is set too: keep one of them");
            return Vec::new();
        }
        (None, _) => {
            reader.missing_either("source.url", "source.urls");
            return Vec::new();
        }
    };
    let parsed: Result<Vec<_>, _> = urls.iter().map(|url| endpoint::parse(url)).collect();
    parsed.unwrap_or_else(|message| {
        reader.refuse(key, message);
        Vec::new()
    })
}

/// STOMP's CONNECT knows no escapes: a line feed in a value would begin another header.
fn has_control(text: &str) -> bool {
    text.contains(char::is_control)
}

const CONTROL: &str = "control characters such as line feeds are not allowed";

fn is_username(name: &str) -> bool {
    matches!(name.len(), 4 | 5) && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn password(reader: &mut Reader, given: Option<Secret>, file: Option<&Path>) -> Option<Secret> {
    let (key, secret) = match (given, file) {
        (Some(_), Some(_)) => {
            reader.refuse("source.password_file", "source.password is set too: keep one of them");
            return None;
        }
        (Some(given), None) => ("source.password", given),
        (None, Some(path)) => ("source.password_file", read_secret(reader, "source.password_file", path)?),
        (None, None) => {
            reader.missing_either("source.password", "source.password_file");
            return None;
        }
    };
    if secret.reveal().is_empty() {
        reader.refuse(key, "the password is empty");
        return None;
    }
    if has_control(secret.reveal()) {
        reader.refuse(key, CONTROL);
        return None;
    }
    if secret.reveal().len() != 32 || !secret.reveal().bytes().all(|byte| byte.is_ascii_hexdigit()) {
        reader.warn(key, "the password is not 32 hex digits, as AtData's are");
    }
    Some(secret)
}

fn read_secret(reader: &mut Reader, key: &str, path: &Path) -> Option<Secret> {
    let refuse = |error| reader.refuse(key, format!("{} can't be read: {error}", path.display()));
    Secret::read(path).map_err(refuse).ok()
}

fn id(reader: &mut Reader, key: &str, id: Option<String>) -> Option<String> {
    let id = reader.required(key, id)?;
    ids::check(&id).map_err(|message| reader.refuse(key, message)).ok()?;
    Some(id)
}

/// `None` too where the default could not be worked out because something else is wrong.
fn connection_id(
    reader: &mut Reader,
    given: Option<String>,
    default: Option<String>,
    host_known: bool,
) -> Option<String> {
    const KEY: &str = "source.connection_id";
    match (given, default) {
        (None, Some(id)) => {
            reader.worked_out(KEY, &id);
            Some(id)
        }
        (None, None) if host_known => None,
        (given, _) => id(reader, KEY, given),
    }
}

fn check_tls(reader: &mut Reader, tls: &TlsConfig, endpoints: &[Endpoint]) {
    let files = [
        ("source.tls.ca_file", &tls.ca_file),
        ("source.tls.certificate_file", &tls.certificate_file),
        ("source.tls.key_file", &tls.key_file),
    ];
    let speaks_tls = endpoints.iter().any(|endpoint| endpoint.tls);
    for (key, path) in files {
        let Some(path) = path else { continue };
        if let Err(error) = std::fs::read(path) {
            reader.refuse(key, format!("{} can't be read: {error}", path.display()));
        }
        if !speaks_tls {
            reader.warn(key, "has no effect: no url begins with stomp+tls:// or ssl://");
        }
    }
    match (&tls.certificate_file, &tls.key_file) {
        (Some(_), None) => reader.missing("source.tls.key_file"),
        (None, Some(_)) => reader.missing("source.tls.certificate_file"),
        _ => {}
    }
}
