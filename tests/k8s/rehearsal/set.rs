//! Runs a StatefulSet and acts as its controller.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::chart::Release;
use crate::node::Node;
use crate::pod::{Pod, Readiness};

/// The interval of the readiness probes of untouched pods.
const WATCH: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(20);
/// The number of events after which it is clear which pods get events.
const SAMPLE: f64 = 2000.0;
/// The time limit for them.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct StatefulSet<'a> {
    node: &'a Node,
    release: Release,
    /// By ordinal.
    pods: Vec<Pod>,
    /// Failed readiness probes of untouched pods.
    pub lapses: Vec<String>,
}

/// The result of replacing a pod.
pub struct Replaced {
    /// The exit code of the old pod; `None` if it was killed at the end of its grace period.
    pub code: Option<i32>,
    pub stopped: Duration,
    pub ready: Duration,
}

impl<'a> StatefulSet<'a> {
    pub fn new(node: &'a Node, values: &Value) -> Self {
        Self { node, release: Release::of(values), pods: Vec::new(), lapses: Vec::new() }
    }

    /// Uses these values for pods that start from now on. The template must change, otherwise a cluster would
    /// replace no pod.
    pub fn apply(&mut self, values: &Value) {
        let release = Release::of(values);
        let template = |release: &Release| release.only("StatefulSet")["spec"]["template"].clone();
        assert_ne!(template(&release), template(&self.release), "an upgrade that replaces no pod");
        self.release = release;
    }

    pub fn replicas(&self) -> usize {
        self.pods.len()
    }

    pub fn pod(&mut self, ordinal: usize) -> &mut Pod {
        &mut self.pods[ordinal]
    }

    /// Starts new pods, all at once, as `podManagementPolicy: Parallel` requires, and waits until each is
    /// ready. Returns the time that the slowest needed.
    pub async fn scale_up(&mut self, replicas: usize) -> Duration {
        let begun = Instant::now();
        let others = self.readiness();
        let there = self.pods.len();
        for ordinal in there..replicas {
            let pod = self.start(ordinal);
            self.pods.push(pod);
        }
        let ready = async {
            for pod in &mut self.pods[there..] {
                pod.becomes_ready().await;
            }
        };
        let ((), lapses) = watched(others, ready).await;
        self.lapses.extend(lapses);
        begun.elapsed()
    }

    /// Stops the last pods, all at once. Returns the exit codes, and the time that the slowest needed.
    pub async fn scale_down(&mut self, replicas: usize) -> (Vec<Option<i32>>, Duration) {
        let begun = Instant::now();
        let leaving = self.pods.split_off(replicas);
        leaving.iter().for_each(Pod::terminate);
        let gone = async {
            let mut codes = Vec::new();
            for pod in leaving {
                codes.push(pod.ends().await.and_then(|status| status.code()));
            }
            codes
        };
        let (codes, lapses) = watched(self.readiness(), gone).await;
        self.lapses.extend(lapses);
        (codes, begun.elapsed())
    }

    /// Replaces a pod by a new one with the same name, and waits until that is ready.
    pub async fn replace(&mut self, ordinal: usize) -> Replaced {
        let (code, stopped) = self.restart(ordinal).await;
        let (begun, others) = (Instant::now(), self.readiness_but(ordinal));
        let ((), lapses) = watched(others, self.pods[ordinal].becomes_ready()).await;
        self.lapses.extend(lapses);
        Replaced { code, stopped, ready: begun.elapsed() }
    }

    /// Replaces a pod without waiting until the new one is ready. Returns the exit code of the old pod, and
    /// the time that it needed to stop.
    pub async fn restart(&mut self, ordinal: usize) -> (Option<i32>, Duration) {
        let (begun, others) = (Instant::now(), self.readiness_but(ordinal));
        let old = self.pods.remove(ordinal);
        old.terminate();
        let (status, lapses) = watched(others, old.ends()).await;
        self.lapses.extend(lapses);
        let new = self.start(ordinal);
        self.pods.insert(ordinal, new);
        (status.and_then(|status| status.code()), begun.elapsed())
    }

    /// Runs the pod of `helm test` to its end. Returns its exit code and its output.
    pub async fn test(&self) -> (Option<i32>, String) {
        let template = self.release.test();
        let name = template.name.to_owned();
        let number = u8::try_from(self.pods.len()).expect("few pods");
        let pod = self.node.start(&self.release, &template, &name, number);
        let log = pod.log_file();
        let code = pod.ends().await.and_then(|status| status.code());
        (code, std::fs::read_to_string(log).expect("read the pod's log"))
    }

    /// Returns the pods that get events now. With `all`, waits until every pod has got some.
    pub async fn sharing(&self, all: bool) -> Vec<String> {
        let before = self.received().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.received().await;
            let grown: BTreeMap<&String, f64> =
                now.iter().map(|(name, count)| (name, count - before[name])).collect();
            let sharing: Vec<String> =
                grown.iter().filter(|(_, grown)| **grown > 0.0).map(|(name, _)| (*name).clone()).collect();
            let enough = grown.values().sum::<f64>() >= SAMPLE;
            if enough && (!all || sharing.len() == self.pods.len()) {
                return sharing;
            }
            assert!(Instant::now() < deadline, "in {PATIENCE:?} the pods got {grown:?} events");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn received(&self) -> BTreeMap<String, f64> {
        let mut received = BTreeMap::new();
        for pod in &self.pods {
            let count = pod.metrics().await.sum("atdata_bridge_events_received_total");
            received.insert(pod.name.clone(), count);
        }
        received
    }

    fn start(&self, ordinal: usize) -> Pod {
        let template = self.release.pods();
        let name = format!("{}-{ordinal}", template.name);
        self.node.start(&self.release, &template, &name, u8::try_from(ordinal).expect("few pods"))
    }

    fn readiness(&self) -> Vec<Readiness> {
        self.pods.iter().map(Pod::readiness).collect()
    }

    fn readiness_but(&self, ordinal: usize) -> Vec<Readiness> {
        let mut others = self.readiness();
        others.remove(ordinal);
        others
    }

    /// Runs `step` while it watches the readiness of all pods except one.
    pub async fn watching_all_but<T>(&mut self, ordinal: usize, step: impl Future<Output = T>) -> T {
        let (outcome, lapses) = watched(self.readiness_but(ordinal), step).await;
        self.lapses.extend(lapses);
        outcome
    }
}

/// Runs `step`. Returns its outcome and each failed readiness probe of `others`.
async fn watched<T>(others: Vec<Readiness>, step: impl Future<Output = T>) -> (T, Vec<String>) {
    let mut step = std::pin::pin!(step);
    let mut lapses = Vec::new();
    loop {
        for other in &others {
            if let Err(why) = other.ask().await {
                lapses.push(format!("{}: {why}", other.name));
            }
        }
        tokio::select! {
            outcome = &mut step => return (outcome, lapses),
            () = tokio::time::sleep(WATCH) => {}
        }
    }
}
