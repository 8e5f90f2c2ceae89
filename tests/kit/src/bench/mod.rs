//! Where events go: a server, and a place on it that is made anew for each run.

pub mod kafka;

use std::net::SocketAddr;
use std::time::Duration;

use crate::bridge::Setup;

/// The customer's queue is `<destination>.RTO.<namespace>`.
pub const NAMESPACE: &str = "acme";
pub const DESTINATION: &str = "bench";

/// One of the sinks, its server running.
#[allow(async_fn_in_trait, reason = "only the benchmarks of this repository use it")]
pub trait Destination {
    /// What lies at the place, as the library of the bare loop wants it, in the order of the events.
    type Records;

    /// For tables.
    const NAME: &'static str;
    /// The sink has no more in flight unless it is told to.
    const MOST: usize;

    /// Makes the place new and empty.
    async fn renew(&mut self);

    /// Lets a bridge write to the place, by the server itself or by the proxy before it.
    fn configure(&self, setup: Setup, by: By) -> Setup;

    /// Where the proxy listens, and what it leads to.
    fn ways(&self) -> (SocketAddr, SocketAddr);

    /// How many events lie at the place.
    async fn count(&mut self) -> u64;

    /// Everything that lies at the place.
    async fn records(&mut self) -> Self::Records;

    /// Writes the records with nothing but the library, so many in flight at most, and waits until all are
    /// durable: from the first to the last, once connected.
    async fn produce(&mut self, records: &Self::Records, window: usize) -> Duration;

    /// How many the bare loop may have in flight, and what such a loop is called; the first is that of a
    /// bridge with this prefetch, and the one the floor is about.
    fn windows(prefetch: usize) -> Vec<(usize, String)>;
}

/// By which way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Itself,
    Proxy,
}

/// How bridges differ from the usual one.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub prefetch: usize,
    /// `NAME=value`: see [`Setup::set`].
    pub settings: &'a [String],
}

/// A bridge into this destination alone.
pub fn setup<D: Destination>(destination: &D, url: &str, terms: Terms<'_>, by: By) -> Setup {
    let setup = Setup::at(url, NAMESPACE, DESTINATION, "bench-1").unset("SINKS__FILE__DIRECTORY");
    let setup = destination.configure(setup.set("SOURCE__PREFETCH", terms.prefetch.to_string()), by);
    terms.settings.iter().fold(setup, |setup, setting| {
        let (name, value) = setting.split_once('=').expect("NAME=value");
        setup.set(name, value)
    })
}
