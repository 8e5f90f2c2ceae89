//! Mistakes about keys, limits and dead letters.

use super::planted;

planted!("pipeline":);
