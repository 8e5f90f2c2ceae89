//! Runs one pod and acts as its kubelet.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use kit::SOON;
use kit::admin::{Admin, Metrics};
use kit::bridge::Bridge;

/// The time limit of a probe. It is stricter than the chart's `timeoutSeconds`.
const PROBE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

pub struct Pod {
    pub name: String,
    bridge: Bridge,
    admin: Admin,
    ready: String,
    live: String,
    grace: Duration,
}

/// Asks for a pod's readiness while other code owns the pod.
#[derive(Clone)]
pub struct Readiness {
    pub name: String,
    admin: Admin,
    path: String,
}

impl Readiness {
    /// Runs the readiness probe; the error says why the pod is not ready.
    pub async fn ask(&self) -> Result<(), String> {
        probe(self.admin, &self.path).await
    }
}

impl Pod {
    /// `ready` and `live` are the paths of its probes.
    pub fn new(name: &str, bridge: Bridge, admin: Admin, ready: &str, live: &str, grace: Duration) -> Self {
        Self { name: name.to_owned(), bridge, admin, ready: ready.to_owned(), live: live.to_owned(), grace }
    }

    pub fn readiness(&self) -> Readiness {
        Readiness { name: self.name.clone(), admin: self.admin, path: self.ready.clone() }
    }

    /// Waits until the readiness probe succeeds.
    pub async fn becomes_ready(&mut self) {
        let deadline = Instant::now() + SOON;
        while let Err(why) = probe(self.admin, &self.ready).await {
            assert!(self.bridge.status().is_none(), "{} has ended", self.name);
            assert!(Instant::now() < deadline, "{} is still not ready: {why}", self.name);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the response of the readiness probe contains all of `words`. The pod must still be alive.
    pub async fn is_not_ready(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let answer = probe(self.admin, &self.ready).await;
            if let Err(why) = &answer
                && let Some(line) = why.lines().find(|line| words.iter().all(|word| line.contains(word)))
            {
                assert_eq!(probe(self.admin, &self.live).await, Ok(()), "{} is not alive", self.name);
                return line.to_owned();
            }
            assert!(
                Instant::now() < deadline,
                "the response of {} does not contain {words:?}: {answer:?}",
                self.name
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the liveness probe fails, and returns its error.
    pub async fn is_dead(&self) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            if let Err(why) = probe(self.admin, &self.live).await {
                return why;
            }
            assert!(Instant::now() < deadline, "{} is still alive", self.name);
        }
    }

    pub async fn metrics(&self) -> Metrics {
        self.admin.metrics().await
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.bridge.terminate();
    }

    /// Stops the process (SIGSTOP): it exists, but does nothing.
    pub fn freeze(&self) {
        self.bridge.freeze();
    }

    /// Waits for the end of the process as long as a kubelet does. `None` means that it was killed.
    pub async fn ends(mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + self.grace;
        while Instant::now() < deadline {
            if let Some(status) = self.bridge.status() {
                return Some(status);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.bridge.kill();
        None
    }

    /// The log of this pod and of the earlier pods with the same name.
    pub fn log_file(&self) -> PathBuf {
        self.bridge.log_file()
    }
}

async fn probe(admin: Admin, path: &str) -> Result<(), String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: pod\r\n\r\n");
    match timeout(PROBE, admin.say(request.as_bytes())).await {
        Ok(Some(answer)) if answer.starts_with("HTTP/1.1 200 ") => Ok(()),
        Ok(Some(answer)) => {
            Err(answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body).trim().to_owned())
        }
        Ok(None) => Err("no connection".to_owned()),
        Err(_) => Err(format!("no answer in {PROBE:?}")),
    }
}
