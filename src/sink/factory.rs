//! What a kind of sink is to the configuration: the type of its table, the check of it, and what is built
//! from it. The built-in kinds and those of other crates are made alike; `examples/webhook` is a complete one of the latter.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Sink, SinkContext};
pub use crate::diagnostics::Diagnostics;

/// A kind of sink, such as `file`.
pub trait SinkKind {
    /// The value of `kind`; a table of that name, `[sinks.<NAME>]`, needs none.
    const NAME: &'static str;

    /// The table as written. Its documentation, defaults and examples become the reference of options; use
    /// `#[serde(deny_unknown_fields, default)]`, so that an unknown key is an error. `kind` is not in it.
    type Config: DeserializeOwned + Serialize + Default + JsonSchema;

    /// Checks the table: everything that is wrong goes into `findings`, not only the first mistake. Opens no
    /// connection and writes nothing. The answer counts only if nothing was found wrong.
    fn check(
        config: Self::Config,
        surroundings: &BuildContext,
        findings: &mut Diagnostics,
    ) -> Option<Arc<dyn SinkFactory>>;

    /// Blocks until whatever sinks of this kind have left behind has ended; called last of all, before the process
    /// ends. For client libraries with threads of their own. Must have a time limit.
    fn wait_before_exit() {}
}

/// A checked table.
pub trait SinkFactory: fmt::Debug + Send + Sync {
    /// The sink that the table describes; touches nothing yet.
    fn build(&self, context: SinkContext) -> Box<dyn Sink>;

    /// Where it writes. No two sinks may write to the same place, and neither may the dead letters. `None`:
    /// sharing does no harm.
    fn destination(&self) -> Option<SinkDestination>;

    /// Whether what the sink calls durable is still there for who reads it later. Dead letters go nowhere else (I6).
    ///
    /// # Errors
    /// Nobody keeps it; the words say so to a person.
    fn keeps(&self) -> Result<(), &'static str>;
}

/// A place that only one may write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkDestination {
    /// The place, for people, such as `the directory /data`: equal texts are one place.
    pub place: String,
    /// The key of the table that says so, such as `directory`.
    pub option: &'static str,
}

impl SinkDestination {
    /// A directory of this machine, however it is written.
    pub fn directory(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // Without a slash at its end.
        let path: PathBuf = path.components().collect();
        Self { place: format!("the directory {}", path.display()), option: "directory" }
    }
}

/// What the rest of the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildContext {
    /// `event.partitions`.
    pub partitions: Option<NonZeroU32>,
    /// `source.prefetch`: no more events than these are ever in flight.
    pub prefetch: usize,
}

/// One `[sinks.<name>]`, checked.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// Unique among all sinks.
    pub name: String,
    /// What its table says.
    pub factory: Arc<dyn SinkFactory>,
}
