//! Defines the settings that start a simulator.

use std::net::SocketAddr;
use std::time::Duration;

use super::faults::Faults;
use crate::secret::Secret;

/// The login of one customer of AtData.
#[derive(Clone, Debug)]
pub struct SimulatorLogin {
    /// The username; at AtData 4 to 5 digits.
    pub username: String,
    /// The password; at AtData 32 hex digits.
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

/// The settings that start a simulator.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// The address to listen at; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The logins that the simulator accepts.
    pub logins: Vec<SimulatorLogin>,
    /// How long the client id of a dead session is held. The real broker holds it until it detects the end.
    pub hold: Duration,
    /// The faults that are active from the start.
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
