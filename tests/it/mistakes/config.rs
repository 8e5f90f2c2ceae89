//! Mistakes about the configuration.

use super::planted;

planted!("config":);
