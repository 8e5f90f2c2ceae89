//! Mistakes about NATS.

use super::planted;

planted!("nats":);
