//! Writes the head of a result document and tables of runs, for the campaigns.

pub mod backlog;
pub mod runs;

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::broker::Version;
use crate::{kafka, nats};

/// The brokers that are available. Prints the missing ones on standard error.
pub fn brokers() -> Vec<Version> {
    let available = |version: &Version| match version.directory() {
        Ok(_) => true,
        Err(reason) => {
            eprintln!("{reason}");
            false
        }
    };
    [Version::V5, Version::V6].into_iter().filter(available).collect()
}

/// The name and version of a broker: the version of Debian's package, or the version in the name of the jar.
pub fn name_of(version: Version) -> String {
    let number = match version {
        Version::V5 => answer("dpkg-query", &["--show", "--showformat=${Version} of Debian", "activemq"]),
        Version::V6 => jar_version(version.directory(), "activemq-broker").unwrap_or_else(|| "6".to_owned()),
    };
    format!("ActiveMQ {number}")
}

/// The name and version of Kafka.
pub fn kafka() -> String {
    let number = jar_version(kafka::directory(), "kafka-clients");
    format!("Kafka {}", number.unwrap_or_else(|| "4".to_owned()))
}

/// The name and version of NATS.
pub fn nats() -> String {
    let program = nats::directory().unwrap_or_default().join("nats-server");
    answer(&program.to_string_lossy(), &["--version"]).replace(": v", " ")
}

/// The name and version of a crate in this build.
pub fn crate_version(name: &str) -> String {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let version = include_str!("../../../../Cargo.lock").split_once(&entry);
    let version = version.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown");
    format!("{name} {version}")
}

fn jar_version(directory: Result<PathBuf, String>, jar: &str) -> Option<String> {
    let jars = fs::read_dir(directory.ok()?.join("lib")).ok()?.flatten();
    let mut names = jars.map(|jar| jar.file_name().to_string_lossy().into_owned());
    names.find_map(|name| Some(name.strip_prefix(jar)?.strip_prefix('-')?.strip_suffix(".jar")?.to_owned()))
}

/// The head of a result document: the command that makes it, and the versions and the machine of the
/// measurement.
pub fn heading(title: &str, target: &str) -> String {
    let brokers: Vec<String> = brokers().into_iter().map(name_of).collect();
    let servers = [("Java", answer("java", &["--version"])), ("brokers", brokers.join(", "))];
    titled(title, target, &servers)
}

/// Like [`heading`], with other servers, by name and version.
pub fn titled(title: &str, target: &str, servers: &[(&str, String)]) -> String {
    let mut text = format!("# {title}\n\n");
    let mut line = |name: &str, value: &str| writeln!(text, "- {name}: {value}").expect("write to a string");
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments =
        if arguments.is_empty() { String::new() } else { format!(" ARGS='{}'", arguments.join(" ")) };
    line("command", &format!("`make {target}{arguments}`"));
    line("version", &crate_version("atdata-bridge"));
    line("compiler", &answer("rustc", &["--version"]));
    servers.iter().for_each(|(name, version)| line(name, version));
    line("machine", &machine());
    line("date", &jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string());
    text
}

/// The first line that a program prints.
fn answer(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// Describes the machine without its name.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let gib = kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / f64::from(1 << 20);
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kind = if info.contains("hypervisor") { "virtual machine" } else { "machine" };
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel: Vec<&str> = kernel.trim().split(['.', '-']).take(2).collect();
    format!(
        "{cores} cores ({}), {gib:.0} GiB, {kind}, Linux {}",
        model.unwrap_or("unknown"),
        kernel.join(".")
    )
}
