//! Defines how a kind of sink takes part in the configuration: the type of its table, the check of the table,
//! and the sink built from it. Built-in kinds and kinds of other crates use the same traits;
//! `examples/webhook` is a complete kind in a crate of its own.

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
    /// The value of the option `kind`. A table with this name, `[sinks.<NAME>]`, does not need the option.
    const NAME: &'static str;

    /// The table as the user writes it, without `kind`. Its doc comments, defaults and examples become the
    /// reference of options. Use `#[serde(deny_unknown_fields, default)]`, so that an unknown key is an
    /// error.
    type Config: DeserializeOwned + Serialize + Default + JsonSchema;

    /// Checks the table, and adds every error to `diagnostics`, not only the first one. Opens no connection
    /// and writes nothing. The result is valid only if `diagnostics` contains no error.
    fn check(
        config: Self::Config,
        context: &BuildContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn SinkFactory>>;

    /// Blocks until everything that sinks of this kind have started has ended. It is called as the last step
    /// before the process ends, for client libraries with threads of their own. It must have a time limit.
    fn wait_before_exit() {}
}

/// The checked table of one sink, from which the sink is built.
pub trait SinkFactory: fmt::Debug + Send + Sync {
    /// Builds the sink that the table describes, without any I/O.
    fn build(&self, context: SinkContext) -> Box<dyn Sink>;

    /// Returns the place that the sink writes to. Two sinks must not write to the same place, and the dead
    /// letters must not go there either. `None` means that sharing does no harm.
    fn destination(&self) -> Option<SinkDestination>;

    /// Returns the ids by which the destination drops an event that it has already, if it does so. Two sinks must
    /// not have the same ones, or the events of the second one are dropped.
    fn deduplication(&self) -> Option<SinkDestination> {
        None
    }

    /// Checks whether an event that the sink calls durable is stored for later readers. Dead letters may go
    /// only to such a sink (I6).
    ///
    /// # Errors
    /// The destination stores nothing; the text says so to the operator.
    fn keeps(&self) -> Result<(), &'static str>;
}

/// A place that only one sink may write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkDestination {
    /// The place, for messages, such as `the directory /data`. Equal texts mean the same place.
    pub place: String,
    /// The key of the sink's table that sets the place, such as `directory`.
    pub option: &'static str,
}

impl SinkDestination {
    /// Creates the destination for a directory of this machine. Different spellings of one path give the same
    /// place.
    pub fn directory(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // This removes a slash at the end.
        let path: PathBuf = path.components().collect();
        Self { place: format!("the directory {}", path.display()), option: "directory" }
    }
}

/// The values from the rest of the configuration that a sink's table is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildContext {
    /// `event.partitions`: the number of partitions, if it is fixed.
    pub partitions: Option<NonZeroU32>,
    /// `source.prefetch`: the most events that are ever in flight.
    pub prefetch: usize,
    /// `source.ordering = "strict"`: one replica at a time takes events.
    pub is_strict: bool,
    /// The sink gets the dead letters.
    pub is_for_dead_letters: bool,
}

/// The name and the checked table of one `[sinks.<name>]`.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// The name of the sink, unique among all sinks.
    pub name: String,
    /// Builds the sink from its checked table.
    pub factory: Arc<dyn SinkFactory>,
}
