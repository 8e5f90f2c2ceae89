//! What the tests of both protocols' sessions share.

use std::time::Duration;

use super::config::{Endpoint, Ordering, Protocol, SourceSettings, TlsConfig};
use crate::backoff::BackoffConfig;
use crate::secret::Secret;

const SECOND: Duration = Duration::from_secs(1);

/// Those of a customer, with small limits.
pub(super) fn settings() -> SourceSettings {
    SourceSettings {
        endpoints: vec![Endpoint {
            host: "broker".to_owned(),
            port: 61613,
            protocol: Protocol::Stomp,
            tls: false,
        }],
        username: "12345".to_owned(),
        password: Secret::new("0123"),
        namespace: "acme".to_owned(),
        destination_id: "d1".to_owned(),
        connection_id: "acme-d1-pod-0".to_owned(),
        prefetch: 100,
        heart_beat: Some(SECOND * 20),
        ordering: Ordering::Shared,
        virtual_host: None,
        max_body: 1000,
        max_headers: 1000,
        max_header_size: 64 << 10,
        connect_timeout: SECOND * 10,
        idle_reconnect: Some(SECOND * 900),
        backoff: BackoffConfig::default(),
        tls: TlsConfig::default(),
    }
}
