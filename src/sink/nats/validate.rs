//! Checks the table of a NATS sink, and reports every error, not only the first one.

use super::config::{DeliveryMode, NatsConfig, NatsTlsConfig};
use super::settings::{Auth, NatsSettings};
use super::template::{IdTemplate, SubjectTemplate};
use super::{monitor, servers};
use crate::diagnostics::Diagnostics;
use crate::sink::factory::BuildContext;
use crate::units::Period;

/// The largest default for the window. A stream drops publishes when more than 10000 wait.
const USUAL_WINDOW: usize = 4096;

/// Checks the table of a NATS sink. Returns `None` if `diagnostics` contains an error.
pub fn check(
    config: &NatsConfig,
    context: &BuildContext,
    diagnostics: &mut Diagnostics,
) -> Option<NatsSettings> {
    let servers = servers::check(config.url.as_deref(), diagnostics);
    let stream = check_stream(config, diagnostics);
    let (subject, message_id) = check_templates(config, context, diagnostics);
    let window = check_window(config.window, context.prefetch, diagnostics);
    let auth = check_auth(config, diagnostics);
    let tls_url = servers.iter().flatten().any(|server| server.starts_with("tls://"));
    let tls = &config.tls;
    let uses_tls = tls.ca_file.is_some() || tls.certificate_file.is_some() || tls.first;
    check_tls(tls, diagnostics);
    if config.publish_timeout < Period::secs(1) {
        diagnostics.refuse("publish_timeout", "is too short: at least `1s`");
    }
    if SubjectTemplate::parse(&config.inbox_prefix).is_err() && config.inbox_prefix != "_INBOX" {
        diagnostics.refuse("inbox_prefix", "is not the beginning of a subject, such as `_INBOX_bridge`");
    }
    let monitor = config.monitor_url.as_deref().map(monitor::address).transpose();
    let monitor = monitor.map_err(|why| diagnostics.refuse("monitor_url", why)).ok().flatten();
    config.create_stream.check(diagnostics);
    if !diagnostics.is_good() {
        return None;
    }
    Some(NatsSettings {
        servers: servers?,
        stream,
        subject: subject?,
        message_id: message_id?,
        window,
        timeout: config.publish_timeout.0,
        inbox_prefix: config.inbox_prefix.clone(),
        domain: config.domain.clone(),
        monitor,
        auth,
        tls_required: tls_url || uses_tls,
        tls: tls.clone(),
        create: config.create_stream.enabled.then(|| config.create_stream.clone()),
    })
}

fn check_stream(config: &NatsConfig, diagnostics: &mut Diagnostics) -> Option<String> {
    if config.delivery == DeliveryMode::Core {
        if config.stream.is_some() || config.create_stream.enabled {
            diagnostics
                .refuse("delivery", "core NATS knows no streams: unset `stream`, or write `jetstream`");
        }
        let message =
            "core NATS keeps nothing: an event is lost where nobody listens, and when the server fails";
        diagnostics.warn("delivery", message);
        return None;
    }
    let name =
        diagnostics.required("stream", config.stream.as_deref(), "name the stream that events must reach")?;
    let bad = |c: char| c.is_whitespace() || c.is_control() || ['.', '*', '>', '/', '\\'].contains(&c);
    if name.contains(bad) {
        diagnostics.refuse("stream", "is not the name of a stream: no white space, no . * > / \\");
    }
    Some(name)
}

fn check_templates(
    config: &NatsConfig,
    context: &BuildContext,
    diagnostics: &mut Diagnostics,
) -> (Option<SubjectTemplate>, Option<IdTemplate>) {
    let subject =
        SubjectTemplate::parse(&config.subject).map_err(|why| diagnostics.refuse("subject", why)).ok();
    if context.partitions.is_none() && subject.as_ref().is_some_and(SubjectTemplate::has_partition) {
        let message = "`{partition}` needs a fixed number of partitions: set event.partitions";
        diagnostics.refuse("subject", message);
    }
    let id = IdTemplate::parse(&config.message_id).map_err(|why| diagnostics.refuse("message_id", why)).ok();
    (subject, id)
}

fn check_window(window: Option<u32>, prefetch: usize, diagnostics: &mut Diagnostics) -> usize {
    let usual = prefetch.clamp(1, USUAL_WINDOW);
    let Some(window) = window.map(|window| usize::try_from(window).unwrap_or(usize::MAX)) else {
        return usual;
    };
    if !(1..=prefetch).contains(&window) {
        diagnostics
            .refuse("window", format!("must be from 1 to source.prefetch, {prefetch}: more never wait"));
    }
    window
}

fn check_auth(config: &NatsConfig, diagnostics: &mut Diagnostics) -> Auth {
    let password = diagnostics.secret("password", config.password.as_ref(), config.password_file.as_deref());
    let token = diagnostics.secret("token", config.token.as_ref(), config.token_file.as_deref());
    let nkey = diagnostics.secret("nkey", config.nkey.as_ref(), config.nkey_file.as_deref());
    let username = config.username.as_deref();
    let has_password = config.password.is_some() || config.password_file.is_some();
    if username.is_some() && !has_password {
        diagnostics.missing("password", "`username` is set; better `password_file`");
    }
    if username.is_none() && has_password {
        diagnostics.missing("username", "a password is set");
    }
    diagnostics.readable("credentials_file", config.credentials_file.as_deref());
    let mut found = Vec::new();
    let pair = username.map(str::to_owned).zip(password);
    found.extend(pair.map(|(username, password)| ("username", Auth::Password { username, password })));
    found.extend(token.map(|token| ("token", Auth::Token(token))));
    found.extend(nkey.map(|seed| ("nkey", Auth::Nkey(seed))));
    found.extend(config.credentials_file.clone().map(|path| ("credentials_file", Auth::Credentials(path))));
    if let [(first, _), (second, _), ..] = found.as_slice() {
        diagnostics.refuse(*second, format!("{first} is set too: keep one way to log in"));
    }
    found.pop().map_or(Auth::None, |(_, auth)| auth)
}

fn check_tls(config: &NatsTlsConfig, diagnostics: &mut Diagnostics) {
    diagnostics.readable("tls.ca_file", config.ca_file.as_deref());
    diagnostics.readable("tls.certificate_file", config.certificate_file.as_deref());
    diagnostics.readable("tls.key_file", config.key_file.as_deref());
    match (&config.certificate_file, &config.key_file) {
        (Some(_), None) => diagnostics.missing("tls.key_file", "`tls.certificate_file` is set"),
        (None, Some(_)) => diagnostics.missing("tls.certificate_file", "`tls.key_file` is set"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroU32;

    use super::*;
    use crate::secret::Secret;
    use crate::sink::factory::SinkFactory;

    fn good() -> NatsConfig {
        NatsConfig {
            url: Some("nats://localhost:4222".to_owned()),
            stream: Some("EVENTS".to_owned()),
            ..NatsConfig::default()
        }
    }

    fn checked(config: &NatsConfig, partitions: u32) -> (Option<NatsSettings>, Vec<String>) {
        let context = BuildContext {
            partitions: NonZeroU32::new(partitions),
            prefetch: 1024,
            is_strict: false,
            is_for_dead_letters: false,
        };
        let mut diagnostics = Diagnostics::default();
        let settings = check(config, &context, &mut diagnostics);
        (settings, diagnostics.problems().iter().map(|problem| problem.key.clone()).collect())
    }

    fn problems(config: NatsConfig) -> Vec<String> {
        checked(&config, 0).1
    }

    #[test]
    fn a_monitoring_port_needs_a_url_of_http() {
        let monitored = |url: &str| problems(NatsConfig { monitor_url: Some(url.to_owned()), ..good() });
        assert_eq!(monitored("http://nats.example.com:8222"), [""; 0]);
        assert_eq!(monitored("nats.example.com:8222"), ["monitor_url"]);
    }

    #[test]
    fn a_destination_is_the_same_in_whichever_order_its_servers_are_named() {
        let place = |url: &str| {
            let config = NatsConfig { url: Some(url.to_owned()), ..good() };
            checked(&config, 0).0.unwrap().destination().unwrap().place
        };
        assert_eq!(place("nats://b:4222,nats://a:4222"), place("nats://a:4222, nats://b:4222"));
        assert_ne!(place("nats://a:4222"), place("nats://b:4222"));
    }

    #[test]
    fn the_defaults_need_a_server_and_a_stream() {
        assert_eq!(problems(NatsConfig::default()), ["url", "stream"]);
        let (settings, problems) = checked(&good(), 0);
        assert_eq!(problems, [""; 0]);
        assert_eq!(settings.unwrap().window, 1024);
    }

    #[test]
    fn a_partition_in_the_subject_needs_a_number_of_partitions() {
        let config = NatsConfig { subject: "e.{partition}".to_owned(), ..good() };
        assert_eq!(checked(&config, 0).1, ["subject"]);
        assert_eq!(checked(&config, 12).1, [""; 0]);
    }

    #[test]
    fn core_nats_has_no_stream() {
        let core = NatsConfig { delivery: DeliveryMode::Core, ..good() };
        assert_eq!(problems(core.clone()), ["delivery"]);
        assert_eq!(problems(NatsConfig { stream: None, ..core }), [""; 0]);
    }

    #[test]
    fn there_is_one_way_to_log_in() {
        let secret = || Some(Secret::new("hush"));
        let user = NatsConfig { username: Some("u".to_owned()), ..good() };
        assert_eq!(problems(user.clone()), ["password"]);
        assert_eq!(problems(NatsConfig { password: secret(), ..good() }), ["username"]);
        assert_eq!(problems(NatsConfig { password: secret(), ..user.clone() }), [""; 0]);
        assert_eq!(problems(NatsConfig { password: secret(), token: secret(), ..user }), ["token"]);
        assert_eq!(problems(NatsConfig { nkey: secret(), token: secret(), ..good() }), ["nkey"]);
        let missing = NatsConfig { credentials_file: Some("/does/not/exist".into()), ..good() };
        assert_eq!(problems(missing), ["credentials_file"]);
    }

    #[test]
    fn tls_is_asked_for_by_the_scheme_or_by_its_options() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.pem");
        fs::write(&file, "").unwrap();
        let required = |config: &NatsConfig| checked(config, 0).0.unwrap().tls_required;
        assert!(!required(&good()));
        assert!(required(&NatsConfig { url: Some("nats://a,tls://b".to_owned()), ..good() }));
        let tls = NatsTlsConfig { ca_file: Some(file.clone()), ..NatsTlsConfig::default() };
        assert!(required(&NatsConfig { tls, ..good() }));
        let tls = NatsTlsConfig { first: true, ..NatsTlsConfig::default() };
        assert!(required(&NatsConfig { tls, ..good() }));
        let tls = NatsTlsConfig { certificate_file: Some(file), ..NatsTlsConfig::default() };
        assert_eq!(problems(NatsConfig { tls, ..good() }), ["tls.key_file"]);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let config = NatsConfig {
            stream: Some("a.b".to_owned()),
            subject: "a.*".to_owned(),
            message_id: "{key}".to_owned(),
            window: Some(2000),
            publish_timeout: Period::millis(1),
            inbox_prefix: "a b".to_owned(),
            ..NatsConfig::default()
        };
        let expected =
            ["url", "stream", "subject", "message_id", "window", "publish_timeout", "inbox_prefix"];
        assert_eq!(problems(config), expected);
    }

    #[test]
    fn no_secret_is_shown() {
        let config = NatsConfig { token: Some(Secret::new("hush")), ..good() };
        let shown = format!("{:?} {:?}", config, checked(&config, 0).0.unwrap());
        assert!(!shown.contains("hush"), "{shown}");
    }
}
