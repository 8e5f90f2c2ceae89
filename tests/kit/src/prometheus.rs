//! Runs a real Prometheus that scrapes bridges, as in a cluster, and asks it as KEDA does.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::admin::Admin;
use super::ports::{free_port, loopback};
use super::process::Server;
use super::provision::{provisioned, support_directory};

/// The directory of the server, or the reason why it is not available.
pub fn directory() -> Result<PathBuf, String> {
    provisioned("kubernetes", "prometheus")
}

/// A server on a free loopback port. It ends when dropped.
pub struct Prometheus {
    port: u16,
    _server: Server,
}

impl Prometheus {
    /// Scrapes each address every second, and gives its samples these labels: a pod's name, and the namespace `atdata`.
    pub fn of(pods: &[(&str, SocketAddr)]) -> Self {
        let targets = pods.iter().map(|(pod, address)| {
            format!("      - {{targets: ['{address}'], labels: {{namespace: atdata, pod: {pod}}}}}\n")
        });
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: atdata-bridge\n    static_configs:\n{}",
            targets.collect::<String>()
        );
        let server = Server::new("prometheus");
        let file = server.directory().join("prometheus.yml");
        fs::write(&file, config).expect("write the configuration of Prometheus");
        let program = directory().unwrap_or_else(|reason| panic!("{reason}")).join("prometheus");
        let port = server.launch_on(free_port, |port| {
            let mut command = Command::new("sh");
            command.arg(support_directory("run.sh")).arg(server.log_file()).arg(&program);
            command.arg(format!("--config.file={}", file.display()));
            command.arg(format!("--storage.tsdb.path={}", server.directory().join("data").display()));
            command.arg(format!("--web.listen-address={}", loopback(port)));
            command
        });
        Self { port, _server: server }
    }

    /// Returns the values that the query has now.
    pub async fn values(&self, query: &str) -> Vec<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/api/v1/query?query={encoded}");
        let answer = Admin(loopback(self.port)).get_with(&path, "connection: close\r\n").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
        let found = answer["data"]["result"].as_array().expect("a vector");
        let value = |sample: &Value| sample["value"][1].as_str().expect("a value").parse().expect("a number");
        found.iter().map(value).collect()
    }
}
