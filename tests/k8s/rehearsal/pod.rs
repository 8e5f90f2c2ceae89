//! One pod, and what a kubelet does with it.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use kit::SOON;
use kit::admin::{Admin, Metrics};
use kit::bridge::Bridge;

/// How long a probe may take; the chart's `timeoutSeconds` are longer, so that this is the stricter judge.
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

/// Where a pod's readiness is asked for, while the pod itself is in other hands.
#[derive(Clone)]
pub struct Readiness {
    pub name: String,
    admin: Admin,
    path: String,
}

impl Readiness {
    /// Why it is not ready.
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

    /// Waits until the readiness probe is answered with all of `words`; it must be alive all the same.
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
            assert!(Instant::now() < deadline, "{} does not say {words:?}: {answer:?}", self.name);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the liveness probe fails, and tells how.
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

    /// SIGTERM.
    pub fn terminate(&self) {
        self.bridge.terminate();
    }

    /// SIGSTOP: the process is there, and does nothing.
    pub fn freeze(&self) {
        self.bridge.freeze();
    }

    /// Waits for its end for as long as a kubelet would; `None`: then it was killed.
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

    /// Where it and those before it with the same name log.
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
