//! Makes the session for the protocol that an address names.

use super::config::Protocol;
use super::openwire::session::OpenWireSession;
use super::protocol::session::SessionMode;
use super::stomp::session::StompSession;
use super::supervisor::NewSession;

/// Returns a factory of sessions in mode `mode`. Each session uses the protocol of its address.
pub fn new_session(mode: SessionMode) -> NewSession {
    Box::new(move |endpoint, settings, budget, now| match endpoint.protocol {
        Protocol::Stomp => Box::new(StompSession::new(settings, mode, budget, now)),
        Protocol::OpenWire => Box::new(OpenWireSession::new(settings, mode, budget, now)),
    })
}
