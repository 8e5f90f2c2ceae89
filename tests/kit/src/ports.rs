//! Finds free loopback ports that stay free while a server restarts.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;

const LOWEST: u16 = 10_000;

/// A free port below the range that the kernel uses for outgoing connections. Otherwise a client that
/// connects while its server is down could get the server's own port and, on loopback, connect to itself. No
/// port is returned twice, because the port of a server that another test has killed is free only until that
/// server starts again.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let highest = first_outgoing_port().filter(|port| *port > 2 * LOWEST).unwrap_or(u16::MAX);
    loop {
        let port = fastrand::u16(LOWEST..highest);
        let is_new = GIVEN.lock().expect("the used ports").insert(port);
        if is_new && TcpListener::bind(loopback(port)).is_ok() {
            return port;
        }
    }
}

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn first_outgoing_port() -> Option<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}
