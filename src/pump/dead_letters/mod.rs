//! Dead letters: events that can never be delivered, kept with their reason.

pub mod config;
