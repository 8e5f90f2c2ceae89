//! The destinations that the contract is proved for.

use std::sync::Mutex;

use async_trait::async_trait;
use atdata_bridge::event::Event;
use atdata_bridge::sink::Sink;
use atdata_bridge::sink::memory::{Answer, MemoryHandle, MemorySink};

use super::Subject;

/// The memory sink: a new instance holds what the old ones held.
pub struct Memory {
    keeps_order: bool,
    handles: Mutex<Vec<MemoryHandle>>,
    away: Mutex<bool>,
}

impl Memory {
    pub fn new(keeps_order: bool) -> Self {
        Self { keeps_order, handles: Mutex::default(), away: Mutex::new(false) }
    }

    /// A sink whose verdicts `script` decides.
    pub fn scripted(&self, script: impl FnMut(&Event) -> Answer + Send + 'static) -> Box<dyn Sink> {
        let sink = MemorySink::new(self.keeps_order, 100);
        sink.handle().script(script);
        self.handles.lock().unwrap().push(sink.handle());
        Box::new(sink)
    }

    fn reachable(&self, reachable: bool) {
        *self.away.lock().unwrap() = !reachable;
        for handle in &*self.handles.lock().unwrap() {
            handle.reachable(reachable);
        }
    }
}

#[async_trait]
impl Subject for Memory {
    fn sink(&self) -> Box<dyn Sink> {
        let sink = MemorySink::new(self.keeps_order, 100);
        sink.handle().reachable(!*self.away.lock().unwrap());
        self.handles.lock().unwrap().push(sink.handle());
        Box::new(sink)
    }

    async fn fail(&self) {
        self.reachable(false);
    }

    async fn heal(&self) {
        self.reachable(true);
    }

    async fn contents(&self) -> Vec<u64> {
        let handles = self.handles.lock().unwrap();
        let ids = handles.iter().flat_map(|handle| handle.log());
        ids.map(|id| id.rsplit(':').next().unwrap().parse().unwrap()).collect()
    }
}
