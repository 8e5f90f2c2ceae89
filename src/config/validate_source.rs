//! Checks the table `[source]`: the connection to the broker, and the queue.

use std::fmt::Display;
use std::time::Duration;

use super::{endpoint, ids, login};
use crate::diagnostics::Diagnostics;
use crate::source::config::{Endpoint, Protocol, SourceConfig, SourceSettings, SourceTlsConfig};
use crate::units::{Period, Size};

/// Returns the checked settings of `[source]`, before they are divided among sinks; `None` if there is a
/// mistake.
pub(super) fn check(
    diagnostics: &mut Diagnostics,
    raw: SourceConfig,
    host: Option<&str>,
) -> Option<SourceSettings> {
    check_numbers(diagnostics, &raw);
    let endpoints = endpoints(diagnostics, &raw);
    let (username, password) =
        login::check(diagnostics, raw.username, raw.password, raw.password_file.as_deref());
    let namespace = id(diagnostics, "namespace", raw.namespace);
    let destination_id = id(diagnostics, "destination_id", raw.destination_id);
    let default = namespace.as_ref().zip(destination_id.as_ref()).zip(host);
    let default =
        default.map(|((namespace, id), host)| format!("{namespace}-{id}-{}", ids::from_host_name(host)));
    let connection_id = connection_id(diagnostics, raw.connection_id, default, host.is_some());
    check_tls(diagnostics, &raw.tls, &endpoints);
    let virtual_host = virtual_host(diagnostics, raw.virtual_host, &endpoints);
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

/// Returns `None` for `0s`, which switches something off.
fn switched(period: Period) -> Option<Duration> {
    (!period.0.is_zero()).then_some(period.0)
}

/// Converts a size to bytes, at most as many as memory can address.
pub(super) fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn check_numbers(diagnostics: &mut Diagnostics, raw: &SourceConfig) {
    if raw.prefetch == 1000 {
        diagnostics.refuse("prefetch", "1000 means \"the broker's default\" to ActiveMQ: write 999 or 1001");
    } else if !(1..=20_000).contains(&raw.prefetch) {
        diagnostics.refuse("prefetch", format!("{} is not from 1 to 20000", raw.prefetch));
    }
    let heart_beat = raw.heart_beat.0;
    if !heart_beat.is_zero() && !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&heart_beat) {
        let message = format!("{} is neither `0s` (off) nor from 1s to 1h", raw.heart_beat);
        diagnostics.refuse("heart_beat", message);
    }
    if raw.max_body.0 == 0 {
        diagnostics.refuse("max_body", "must be more than 0");
    }
    let default = SourceConfig::default();
    let max_in_flight = ("max_in_flight", raw.max_in_flight, default.max_in_flight);
    check_order(diagnostics, ("max_body", raw.max_body), max_in_flight);
    if !(100..=100_000).contains(&raw.max_headers) {
        diagnostics.refuse("max_headers", format!("{} is not from 100 to 100000", raw.max_headers));
    }
    if !(1 << 10..=64 << 20).contains(&raw.max_header_size.0) {
        let message = format!("{} is not from 1 KiB to 64 MiB", raw.max_header_size);
        diagnostics.refuse("max_header_size", message);
    }
    if raw.connect_timeout.0.is_zero() {
        diagnostics.refuse("connect_timeout", "must be more than 0s");
    }
    if raw.backoff.initial.0.is_zero() {
        diagnostics.refuse("backoff.initial", "must be more than 0s");
    }
    let max = ("backoff.max", raw.backoff.max, default.backoff.max);
    check_order(diagnostics, ("backoff.initial", raw.backoff.initial), max);
}

/// Refuses a value that is larger than its limit. The mistake is in the limit if that is not the default.
fn check_order<T: PartialOrd + Display>(
    diagnostics: &mut Diagnostics,
    (key, value): (&str, T),
    (limit_key, limit, default): (&str, T, T),
) {
    if value <= limit {
        return;
    }
    if limit == default {
        diagnostics.refuse(key, format!("{value} is more than source.{limit_key}, {limit}"));
    } else {
        diagnostics.refuse(limit_key, format!("{limit} is less than source.{key}, {value}"));
    }
}

fn endpoints(diagnostics: &mut Diagnostics, raw: &SourceConfig) -> Vec<Endpoint> {
    let (key, urls) = match (&raw.url, raw.urls.as_slice()) {
        (Some(url), []) => ("url", std::slice::from_ref(url)),
        (None, urls) if !urls.is_empty() => ("urls", urls),
        (Some(_), _) => {
            diagnostics.refuse("urls", "source.url is set too: keep one of them");
            return Vec::new();
        }
        (None, _) => {
            diagnostics.missing("url", "say where the broker is");
            return Vec::new();
        }
    };
    let parsed: Result<Vec<_>, _> = urls.iter().map(|url| endpoint::parse(url)).collect();
    parsed.unwrap_or_else(|message| {
        diagnostics.refuse(key, message);
        Vec::new()
    })
}

fn id(diagnostics: &mut Diagnostics, key: &str, id: Option<String>) -> Option<String> {
    let id = diagnostics.required(key, id.as_deref(), "write an id, such as `main-1`")?;
    let checked = match ids::parts_of_queue(&id) {
        Some((destination_id, namespace)) => Err(format!(
            "`{id}` is the name of a queue: set source.destination_id to `{destination_id}` and source.namespace \
             to `{namespace}`"
        )),
        None => ids::check(&id),
    };
    checked.map_err(|message| diagnostics.refuse(key, message)).ok()?;
    Some(id)
}

/// Also returns `None` if the default could not be computed because of another mistake.
fn connection_id(
    diagnostics: &mut Diagnostics,
    given: Option<String>,
    default: Option<String>,
    host_known: bool,
) -> Option<String> {
    const KEY: &str = "connection_id";
    match (given, default) {
        (None, Some(id)) => Some(id),
        (None, None) if host_known => None,
        (given, _) => id(diagnostics, KEY, given),
    }
}

fn check_tls(diagnostics: &mut Diagnostics, tls: &SourceTlsConfig, endpoints: &[Endpoint]) {
    let files = [
        ("tls.ca_file", &tls.ca_file),
        ("tls.certificate_file", &tls.certificate_file),
        ("tls.key_file", &tls.key_file),
    ];
    let speaks_tls = endpoints.iter().any(|endpoint| endpoint.tls);
    for (key, path) in files {
        diagnostics.readable(key, path.as_deref());
        if path.is_some() && !speaks_tls {
            diagnostics.warn(key, "has no effect: no url begins with stomp+tls:// or ssl://");
        }
    }
    match (&tls.certificate_file, &tls.key_file) {
        (Some(_), None) => diagnostics.missing("tls.key_file", "the certificate needs its key"),
        (None, Some(_)) => diagnostics.missing("tls.certificate_file", "the key needs its certificate"),
        _ => {}
    }
}

fn virtual_host(
    diagnostics: &mut Diagnostics,
    given: Option<String>,
    endpoints: &[Endpoint],
) -> Option<String> {
    const KEY: &str = "virtual_host";
    let host = given?;
    if host.contains(char::is_control) {
        diagnostics.refuse(KEY, login::CONTROL);
    } else if !endpoints.is_empty() && !endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Stomp)
    {
        let message =
            "has no effect: no url begins with stomp:// or stomp+tls://, and OpenWire names no virtual host";
        diagnostics.warn(KEY, message);
    }
    Some(host)
}
