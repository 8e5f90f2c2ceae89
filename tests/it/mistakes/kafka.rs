//! Mistakes about Kafka.

use super::planted;

planted!("kafka":);
