//! Defines the destination of a benchmark: a topic, stream or directory that is made anew for each run.

pub mod files;
pub mod jetstream;
pub mod kafka;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::bridge::Setup;

/// The customer's queue is `<destination>.RTO.<namespace>`.
pub const NAMESPACE: &str = "acme";
pub const DESTINATION: &str = "bench";

/// A sink with its running server.
#[allow(async_fn_in_trait, reason = "only the benchmarks of this repository use it")]
pub trait Destination {
    /// The name in tables.
    const NAME: &'static str;

    /// Makes a new, empty topic, stream or directory.
    async fn renew(&mut self);

    /// Configures a bridge to write to this destination, directly or through the proxy.
    fn configure(&self, setup: Setup, route: Route) -> Setup;

    /// The number of stored events.
    async fn count(&mut self) -> u64;
}

/// A destination whose events a bare loop can publish again, and that can be far away.
#[allow(async_fn_in_trait, reason = "only the benchmarks of this repository use it")]
pub trait Server: Destination {
    /// The stored events, in the form that the client library of the bare loop needs, in the order of
    /// publication.
    type Records;

    /// The sink's default maximum of events in flight.
    const MAX_IN_FLIGHT: usize;

    /// The address of the proxy, and its target.
    fn proxy_addresses(&self) -> (SocketAddr, SocketAddr);

    /// All stored events.
    async fn records(&mut self) -> Self::Records;

    /// Writes the records with only the client library, with at most `window` in flight, and waits until all
    /// are durable. Returns the time from the first to the last record, without connecting.
    async fn produce(&mut self, records: &Self::Records, window: usize) -> Duration;

    /// The windows of the bare loop and their names in tables. The first is the window of a bridge with this
    /// prefetch; the floor applies to it.
    fn windows(prefetch: usize) -> Vec<(usize, String)>;
}

/// How a bridge connects to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Direct,
    Proxy,
}

/// How a bridge differs from the usual one.
#[derive(Clone, Copy, Debug)]
pub struct Tuning<'a> {
    pub prefetch: usize,
    /// `NAME=value`: see [`Setup::set`].
    pub settings: &'a [String],
    /// Another build of the bridge.
    pub other_build: Option<&'a Path>,
}

/// A bridge with only this destination.
pub fn setup<D: Destination>(destination: &D, url: &str, tuning: Tuning<'_>, route: Route) -> Setup {
    let setup = Setup::at(url, NAMESPACE, DESTINATION, "bench-1").unset("SINKS__FILE__DIRECTORY");
    let setup = setup.set("SOURCE__PREFETCH", tuning.prefetch.to_string());
    destination.configure(setup, route).set_all(tuning.settings).other_build(tuning.other_build)
}
