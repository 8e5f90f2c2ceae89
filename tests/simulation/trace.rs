//! Records what happens in a simulation, with simulated times, so that two runs can be compared to the byte.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

/// A record of one simulation. Cheap to clone.
#[derive(Clone)]
pub struct Trace {
    began: Instant,
    text: Arc<Mutex<String>>,
}

impl Trace {
    pub fn new() -> Self {
        Self { began: Instant::now(), text: Arc::default() }
    }

    /// Adds a line.
    pub fn note(&self, line: impl FnOnce() -> String) {
        let after = self.began.elapsed().as_micros();
        let mut text = self.text.lock().unwrap();
        writeln!(text, "{:>12.3} ms  {}", after as f64 / 1000.0, line()).unwrap();
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}
