//! Imitates a node of a cluster: makes the volumes and the environment of the pods, and starts each pod as a
//! process. The process sees its volumes at the paths of the chart, in a root file system of its own.
//!
//! Differences from a cluster: the pods share this machine's network, so the admin pages of each pod have an
//! address of their own; the program is the one just built, with this machine's libraries; and it runs as the
//! user who started the rehearsal.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::chart::{NAMESPACE, Release, Template, list, text};
use crate::pod::Pod;
use kit::admin::Admin;
use kit::bridge::Bridge;

/// `MOUNTS ROOT PROGRAM [FROM TO ro|rw]... -- ARGUMENT...`
const MOUNTS: &str = r#"
    root=$1 program=$2; shift 2
    mount -t tmpfs -o mode=0755 none "$root"
    for system in /usr /lib /lib64 /proc; do
        if [ -L "$system" ]; then cp -P "$system" "$root$system"
        elif [ -d "$system" ]; then mkdir "$root$system"; mount --rbind "$system" "$root$system"; fi
    done
    mkdir "$root/etc"
    for file in hosts nsswitch.conf resolv.conf; do [ ! -e "/etc/$file" ] || cp "/etc/$file" "$root/etc/"; done
    touch "$root/bridge"; mount --bind "$program" "$root/bridge"
    while [ "$1" != -- ]; do
        mkdir -p "$root$2"; mount --bind "$1" "$root$2"
        [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
        shift 3
    done
    shift
    mount -o remount,ro "$root"
    exec chroot "$root" /bridge "$@""#;

/// The Secrets by name, which users create themselves.
pub type Secrets = BTreeMap<&'static str, BTreeMap<&'static str, String>>;

pub struct Node {
    home: TempDir,
    secrets: Secrets,
}

impl Node {
    pub fn new(secrets: Secrets) -> Self {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory for pods");
        Self { home, secrets }
    }

    /// Starts the pod `name`. No other running pod may have the same `number`.
    pub fn start(&self, release: &Release, template: &Template<'_>, name: &str, number: u8) -> Pod {
        let container = template.container();
        // In a cluster, every pod has an address. Here it is an address of the loopback network.
        let address = Ipv4Addr::new(127, 0, 1, number + 1);
        let (ready, port) = template.probe("readinessProbe").unwrap_or_default();
        let admin = Admin(SocketAddr::from((address, port)));
        let root = self.directory(&format!("roots/{name}"));

        let mut command = Command::new("unshare");
        // Root in its own user namespace, so that a tester needs no privileges.
        command.args(["--map-root-user", "--mount", "sh", "-ec", MOUNTS, "sh"]);
        command.arg(root).arg(env!("CARGO_BIN_EXE_atdata-bridge"));
        for mount in list(&container["volumeMounts"]) {
            let volume = self.volume(release, template, text(&mount["name"]), name);
            let access = if mount["readOnly"] == true { "ro" } else { "rw" };
            command.arg(volume).arg(text(&mount["mountPath"])).arg(access);
        }
        command.arg("--").args(list(&container["args"]).iter().map(text));
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(self.environment(release, container, name));
        command.env("BRIDGE__ADMIN__LISTEN", admin.0.to_string());

        let log = self.home.path().join(format!("{name}.log"));
        let bridge = Bridge::spawn(command, log, false);
        let (live, _) = template.probe("livenessProbe").unwrap_or_default();
        Pod::new(name, bridge, admin, ready, live, template.grace())
    }

    /// The volume claims of all pods, including earlier ones.
    pub fn claims(&self) -> Vec<PathBuf> {
        let claims = fs::read_dir(self.home.path().join("claims")).expect("list the volumes");
        claims.map(|claim| claim.expect("a volume").path()).collect()
    }

    fn directory(&self, name: &str) -> PathBuf {
        let directory = self.home.path().join(name);
        fs::create_dir_all(&directory).expect("make a directory for a pod");
        directory
    }

    /// Returns the directory to mount. A claim persists; every other volume is made anew.
    fn volume(&self, release: &Release, template: &Template<'_>, name: &str, pod: &str) -> PathBuf {
        if template.claims.contains(&name) {
            return self.directory(&format!("claims/{name}-{pod}"));
        }
        let volume = list(&template.spec["volumes"]).iter().find(|volume| volume["name"] == name);
        let volume = volume.unwrap_or_else(|| panic!("there is no volume {name}"));
        let directory = self.directory(&format!("volumes/{pod}/{name}"));
        fs::remove_dir_all(&directory).expect("clear a volume");
        fs::create_dir(&directory).expect("make a volume");
        let projected = list(&volume["projected"]["sources"]);
        for source in projected.iter().chain([volume]) {
            for (kind, named) in [("ConfigMap", &source["configMap"]), ("Secret", &source["secret"])] {
                if named.is_object() {
                    let of = if named["name"].is_string() { &named["name"] } else { &named["secretName"] };
                    self.lay_out(&directory, &self.data(release, kind, text(of)), list(&named["items"]));
                }
            }
        }
        directory
    }

    fn lay_out(&self, directory: &Path, data: &BTreeMap<String, String>, items: &[Value]) {
        let write =
            |path: &str, content: &str| fs::write(directory.join(path), content).expect("write a file");
        if items.is_empty() {
            data.iter().for_each(|(key, content)| write(key, content));
        }
        for item in items {
            let key = text(&item["key"]);
            let content = data.get(key).unwrap_or_else(|| panic!("there is no key {key}"));
            write(text(&item["path"]), content);
        }
    }

    fn data(&self, release: &Release, kind: &str, name: &str) -> BTreeMap<String, String> {
        if kind == "Secret"
            && let Some(secret) = self.secrets.get(name)
        {
            return secret.iter().map(|(key, content)| ((*key).to_owned(), content.clone())).collect();
        }
        let data = release.data(kind, name).unwrap_or_else(|| panic!("there is no {kind} {name}"));
        let data = data.as_object().expect("keys").iter();
        data.map(|(key, content)| (key.clone(), text(content).to_owned())).collect()
    }

    fn environment(&self, release: &Release, container: &Value, pod: &str) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for variable in list(&container["env"]) {
            let from = &variable["valueFrom"];
            let value = if from["secretKeyRef"].is_object() {
                let key = &from["secretKeyRef"];
                self.data(release, "Secret", text(&key["name"]))[text(&key["key"])].clone()
            } else if from["configMapKeyRef"].is_object() {
                let key = &from["configMapKeyRef"];
                self.data(release, "ConfigMap", text(&key["name"]))[text(&key["key"])].clone()
            } else if from.is_object() {
                match text(&from["fieldRef"]["fieldPath"]) {
                    "metadata.name" => pod.to_owned(),
                    "metadata.namespace" => NAMESPACE.to_owned(),
                    other => panic!("the rehearsal does not support the field {other}"),
                }
            } else {
                text(&variable["value"]).to_owned()
            };
            environment.insert(text(&variable["name"]).to_owned(), value);
        }
        environment
    }
}
