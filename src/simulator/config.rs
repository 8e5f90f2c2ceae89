//! Says how a simulator is started.

use std::net::SocketAddr;
use std::time::Duration;

use super::faults::Faults;
use crate::secret::Secret;

/// One of AtData's customers.
#[derive(Clone, Debug)]
pub struct SimulatorLogin {
    /// At AtData 4 to 5 digits.
    pub username: String,
    /// At AtData 32 hex digits.
    pub password: Secret,
    /// The namespace whose queues this login may consume.
    pub namespace: String,
}

impl Default for SimulatorLogin {
    fn default() -> Self {
        Self {
            username: "12345".to_owned(),
            password: Secret::new("0123456789abcdef0123456789abcdef"),
            namespace: "acme".to_owned(),
        }
    }
}
/// How to start a simulator.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Who may log in.
    pub logins: Vec<SimulatorLogin>,
    /// How long the client id of a session that died is still held; the real one holds it until it notices.
    pub hold: Duration,
    /// What goes wrong from the start.
    pub faults: Faults,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            logins: vec![SimulatorLogin::default()],
            hold: Duration::ZERO,
            faults: Faults::default(),
        }
    }
}
