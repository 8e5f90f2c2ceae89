//! Checks that the repository has the shape that its documents claim: the order of imports, the files of a sink, and
//! everything that a document or a comment points to. Starts nothing.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy.toml's leave for tests does not reach the functions that tests share"
)]
#![allow(clippy::string_slice, reason = "each index is where something was found in the same text")]

mod citations;
mod figures;
mod files;
mod imports;
mod links;
mod sinks;
