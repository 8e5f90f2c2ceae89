//! Runs a pod of the bridge as a process on this machine: the real program with the environment and the files
//! of the pod's spec.
//!
//! The kubelet would mount the files at the paths of the spec. Here they are in a directory, and that
//! directory is put before each such path in the configuration and the variables.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use kit::helm::objects::{Objects, Pod, at, fields, kind_of, list, name_of, text};
use kit::helm::{directory, run};

/// The environment and files of a pod's first container.
pub struct Process {
    root: TempDir,
    mounts: Vec<String>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    name: String,
}

impl Process {
    /// The process of the workload's first replica.
    pub fn of_workload(objects: &Objects) -> Self {
        Self::new(objects, objects.workload())
    }

    pub fn new(objects: &Objects, pod: Pod<'_>) -> Self {
        let container = pod.bridge();
        let suffix = if kind_of(pod.owner) == "Pod" { "" } else { "-0" };
        let name = format!("{}{suffix}", name_of(pod.owner));
        let mounts = list(&container["volumeMounts"]).map(|mount| text(&mount["mountPath"]).into()).collect();
        let arguments = list(&container["args"]).map(|argument| text(argument).into()).collect();
        let mut process = Self { root: directory(), mounts, environment: Vec::new(), arguments, name };
        for mount in list(&container["volumeMounts"]) {
            let mut volumes = list(&pod.spec["volumes"]);
            let path = process.path(text(&mount["mountPath"]));
            fs::create_dir_all(&path).unwrap();
            if let Some(volume) = volumes.find(|volume| volume["name"] == mount["name"]) {
                process.fill(&path, objects, volume);
            }
        }
        process.fill_for_drivers(pod);
        process.fill_for_vault(pod);
        process.environment =
            list(&container["env"]).map(|variable| process.variable(objects, variable)).collect();
        let maps = list(&container["envFrom"]).map(|source| text(&source["configMapRef"]["name"]));
        let maps = maps.filter_map(|name| objects.find("ConfigMap", name));
        let variables = maps.flat_map(|map| fields(&map["data"]));
        let variables = variables.map(|(name, value)| (name.clone(), text(value).to_owned())).collect();
        process.given(&variables)
    }

    /// Adds the content of the pod's `envFrom`. Variables of `env` win, as in a pod.
    pub fn given(mut self, variables: &BTreeMap<String, String>) -> Self {
        let new =
            variables.iter().filter(|(name, _)| self.environment.iter().all(|(known, _)| known != *name));
        let new: Vec<_> = new.map(|(name, value)| (name.clone(), self.relocated(value))).collect();
        self.environment.extend(new);
        self
    }

    /// The name of the pod.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arguments of the container.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Runs the program with `arguments` instead of the container's. Returns its output; if it fails, the
    /// error is its messages. Paths are those in the pod.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atdata-bridge"));
        command.env_clear().envs(self.environment.iter().cloned()).args(arguments);
        let root = self.root.path().to_str().expect("a path in UTF-8");
        let as_inside = |output: String| output.replace(root, "");
        run(&mut command, "").map(as_inside).map_err(as_inside)
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside.trim_start_matches('/'))
    }

    fn relocated(&self, content: &str) -> String {
        self.mounts.iter().fold(content.into(), |content, mount| {
            content.replace(mount.as_str(), self.path(mount).to_str().expect("a path in UTF-8"))
        })
    }

    fn fill(&self, directory: &Path, objects: &Objects, volume: &Value) {
        for source in list(at(volume, "/projected/sources")).chain([volume]) {
            for (field, kind) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
                let reference = &source[field];
                let name =
                    if reference["name"].is_null() { &reference["secretName"] } else { &reference["name"] };
                let content = objects.find(kind, text(name)).map(|object| {
                    if object["data"].is_object() { &object["data"] } else { &object["stringData"] }
                });
                for item in list(&reference["items"]) {
                    let (key, path) = (text(&item["key"]), text(&item["path"]));
                    let content = content.map_or_else(|| invented(path), |known| text(&known[key]).into());
                    fs::write(directory.join(path), content).unwrap();
                }
                if reference["items"].is_null() {
                    for (key, content) in content.into_iter().flat_map(fields) {
                        fs::write(directory.join(key), self.relocated(text(content))).unwrap();
                    }
                }
            }
        }
    }

    /// Makes the files that a volume driver of the user would mount. Only the configuration tells which they
    /// are.
    fn fill_for_drivers(&self, pod: Pod<'_>) {
        let driven = list(&pod.spec["volumes"]).filter(|volume| volume["csi"].is_object());
        let mounts = list(&pod.bridge()["volumeMounts"]);
        for mount in driven.flat_map(|volume| mounts.clone().filter(|mount| mount["name"] == volume["name"]))
        {
            let directory = self.path(text(&mount["mountPath"]));
            let mut configurations = self.mounts.iter().map(|mount| self.path(mount).join("bridge.toml"));
            let file = configurations.find(|file| file.exists()).expect("a configuration");
            let configuration = fs::read_to_string(file).unwrap();
            for value in configuration.split('"').filter(|value| Path::new(value).starts_with(&directory)) {
                fs::write(value, invented(value)).unwrap();
            }
        }
    }

    /// Makes the files that Vault Agent would write for the pod's annotations, and points the configuration to
    /// them.
    fn fill_for_vault(&mut self, pod: Pod<'_>) {
        let names = fields(&pod.metadata["annotations"])
            .filter_map(|(name, _)| name.strip_prefix("vault.hashicorp.com/agent-inject-secret-"));
        for name in names {
            let inside = format!("/vault/secrets/{name}");
            let file = self.path(&inside);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, invented(name)).unwrap();
            let configuration = self.path("/etc/atdata-bridge/bridge.toml");
            let text = fs::read_to_string(&configuration).unwrap();
            fs::write(configuration, text.replace(&inside, file.to_str().expect("a path in UTF-8"))).unwrap();
        }
    }

    fn variable(&self, objects: &Objects, variable: &Value) -> (String, String) {
        let from = &variable["valueFrom"];
        let value = match text(at(from, "/fieldRef/fieldPath")) {
            "metadata.name" => self.name.clone(),
            "" if from["secretKeyRef"].is_object() => {
                invented(text(&from["secretKeyRef"]["key"])).trim().into()
            }
            "" if from["configMapKeyRef"].is_object() => {
                let (name, key) = (&from["configMapKeyRef"]["name"], &from["configMapKeyRef"]["key"]);
                let map = objects.find("ConfigMap", text(name)).expect("a rendered ConfigMap");
                text(&map["data"][text(key)]).into()
            }
            "" => self.relocated(text(&variable["value"])).replace("$(HOSTNAME)", &self.name),
            other => panic!("the tests do not support the field {other}"),
        };
        (text(&variable["name"]).into(), value)
    }
}

/// Example content of a user's secret or certificate, by its purpose.
fn invented(name: &str) -> String {
    if name.ends_with("username") {
        return "12345".into();
    }
    static PAIR: OnceLock<(String, String)> = OnceLock::new();
    let (certificate, key) = PAIR.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::default().self_signed(&key).unwrap().pem(), key.serialize_pem())
    });
    if name.ends_with("ca_file") || name.ends_with("certificate_file") {
        certificate.clone()
    } else if name.ends_with("key_file") && !name.ends_with("nkey_file") {
        key.clone()
    } else {
        // Like AtData's passwords, 32 hex digits. A line feed at the end is ignored.
        "0123456789abcdef0123456789abcdef\n".into()
    }
}
