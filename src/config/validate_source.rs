//! Checks `[source]`.

use std::time::Duration;

use super::reader::ConfigReader;
use super::{endpoint, ids, login};
use crate::display::unreadable;
use crate::source::config::{Endpoint, Protocol, SourceConfig, SourceSettings, SourceTlsConfig};
use crate::units::{Period, Size};

/// Returns the checked settings of `[source]`, before they are divided among sinks; `None` if there is a
/// mistake.
pub(super) fn check(
    reader: &mut ConfigReader,
    raw: SourceConfig,
    host: Option<&str>,
) -> Option<SourceSettings> {
    check_numbers(reader, &raw);
    let endpoints = endpoints(reader, &raw);
    let (username, password) = login::check(reader, raw.username, raw.password, raw.password_file.as_deref());
    let namespace = id(reader, "source.namespace", raw.namespace);
    let destination_id = id(reader, "source.destination_id", raw.destination_id);
    let default = namespace.as_ref().zip(destination_id.as_ref()).zip(host);
    let default =
        default.map(|((namespace, id), host)| format!("{namespace}-{id}-{}", ids::from_host_name(host)));
    let connection_id = connection_id(reader, raw.connection_id, default, host.is_some());
    check_tls(reader, &raw.tls, &endpoints);
    let virtual_host = virtual_host(reader, raw.virtual_host, &endpoints);
    Some(SourceSettings {
        endpoints,
        username: username?,
        password: password?,
        namespace: namespace?,
        destination_id: destination_id?,
        connection_id: connection_id?,
        prefetch: raw.prefetch,
        heart_beat: switched(raw.heart_beat),
        ordering: raw.ordering,
        virtual_host,
        max_body: bytes(raw.max_body),
        max_headers: raw.max_headers as usize,
        max_header_size: bytes(raw.max_header_size),
        connect_timeout: raw.connect_timeout.0,
        idle_reconnect: switched(raw.idle_reconnect),
        backoff: raw.backoff,
        tls: raw.tls,
    })
}

/// Turns `0s` into off.
fn switched(period: Period) -> Option<Duration> {
    (!period.0.is_zero()).then_some(period.0)
}

/// Converts a size to bytes, at most as many as memory can address.
pub(super) fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn check_numbers(reader: &mut ConfigReader, raw: &SourceConfig) {
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
    if !(100..=100_000).contains(&raw.max_headers) {
        reader.refuse("source.max_headers", format!("{} is not from 100 to 100000", raw.max_headers));
    }
    if !(1 << 10..=64 << 20).contains(&raw.max_header_size.0) {
        let message = format!("{} is not from 1 KiB to 64 MiB", raw.max_header_size);
        reader.refuse("source.max_header_size", message);
    }
    if raw.connect_timeout.0.is_zero() {
        reader.refuse("source.connect_timeout", "must be more than 0s");
    }
    if raw.backoff.initial.0.is_zero() {
        reader.refuse("source.backoff.initial", "must be more than 0s");
    }
    let backoff = raw.backoff;
    reader.in_order(("source.backoff.initial", backoff.initial), ("source.backoff.max", backoff.max));
}

fn endpoints(reader: &mut ConfigReader, raw: &SourceConfig) -> Vec<Endpoint> {
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

fn id(reader: &mut ConfigReader, key: &str, id: Option<String>) -> Option<String> {
    let id = reader.required(key, id)?;
    let checked = match ids::parts_of_queue(&id) {
        Some((destination_id, namespace)) => Err(format!(
            "`{id}` is the name of a queue: set source.destination_id to `{destination_id}` and source.namespace \
             to `{namespace}`"
        )),
        None => ids::check(&id),
    };
    checked.map_err(|message| reader.refuse(key, message)).ok()?;
    Some(id)
}

/// Also returns `None` if the default could not be computed because of another mistake.
fn connection_id(
    reader: &mut ConfigReader,
    given: Option<String>,
    default: Option<String>,
    host_known: bool,
) -> Option<String> {
    const KEY: &str = "source.connection_id";
    match (given, default) {
        (None, Some(id)) => {
            reader.set_default(KEY, &id);
            Some(id)
        }
        (None, None) if host_known => None,
        (given, _) => id(reader, KEY, given),
    }
}

fn check_tls(reader: &mut ConfigReader, tls: &SourceTlsConfig, endpoints: &[Endpoint]) {
    let files = [
        ("source.tls.ca_file", &tls.ca_file),
        ("source.tls.certificate_file", &tls.certificate_file),
        ("source.tls.key_file", &tls.key_file),
    ];
    let speaks_tls = endpoints.iter().any(|endpoint| endpoint.tls);
    for (key, path) in files {
        let Some(path) = path else { continue };
        if let Err(error) = std::fs::read(path) {
            reader.refuse(key, unreadable(path, &error));
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

fn virtual_host(reader: &mut ConfigReader, given: Option<String>, endpoints: &[Endpoint]) -> Option<String> {
    const KEY: &str = "source.virtual_host";
    let host = given?;
    if host.contains(char::is_control) {
        reader.refuse(KEY, login::CONTROL);
    } else if !endpoints.is_empty() && !endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Stomp)
    {
        let message =
            "has no effect: no url begins with stomp:// or stomp+tls://, and OpenWire names no virtual host";
        reader.warn(KEY, message);
    }
    Some(host)
}
