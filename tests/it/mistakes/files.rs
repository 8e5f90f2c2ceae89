//! Mistakes about files, and what a disk can do.

use super::planted;

planted!("files":);
