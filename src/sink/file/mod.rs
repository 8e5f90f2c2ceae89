//! JSON lines in a directory, each settled only when it is on the disk.

pub mod config;
