//! Tests that the repository is as its documents say: the order of imports, the files of a sink, and
//! everything that a document or a comment refers to, and the version. Starts no program but checkers of scripts.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy.toml allows them in tests, but not in the functions that tests share"
)]
#![allow(clippy::string_slice, reason = "each index is where something was found in the same text")]

mod campaign;
mod citations;
mod codes;
mod figures;
mod files;
mod imports;
mod links;
mod make;
mod names;
mod performance;
mod release;
mod security;
mod sinks;
mod versions;
mod workflows;
