//! Tests the source against real brokers: both protocols, reconnects, logins, TLS, load balancing.

mod both_protocols;
mod load_balancing;
mod openwire;
mod peek;
mod reconnects;
mod refused_logins;
mod slow_consumers;
mod supervisor;
mod tls;
