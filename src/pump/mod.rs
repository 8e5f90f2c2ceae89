//! Who owes what.

pub mod dead_letters;
