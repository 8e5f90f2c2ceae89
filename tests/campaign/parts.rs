//! Tests the parts of the campaign that need no server, with every `make test`.

#![allow(dead_code, unreachable_pub, reason = "the campaign uses the rest")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a campaign fails like a test")]

mod audit;
mod plan;
mod watch;
mod world;
