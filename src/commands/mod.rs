//! The verbs, one file each: arguments in, an exit code or one clear error out.

pub mod simulate;
