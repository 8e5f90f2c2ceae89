//! Finds the servers and tools that `provision.sh` installs, and reports those that are missing.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// If this variable is `1`, a kind of server is installed when a test first asks for it. `make test` sets it
/// when it runs only some tests.
const ON_DEMAND: &str = "PROVISION_ON_DEMAND";

/// The directory of `name` that `<kind>/provision.sh` installs, or the reason why it is not available.
pub fn provisioned(kind: &str, name: &str) -> Result<PathBuf, String> {
    let on_demand = std::env::var(ON_DEMAND).as_deref() == Ok("1");
    installed_by(&support_directory(kind).join("provision.sh"), name, on_demand)
}

fn installed_by(script: &Path, name: &str, on_demand: bool) -> Result<PathBuf, String> {
    find(script, name).or_else(|reason| {
        if !on_demand {
            return Err(reason);
        }
        install_once(script)?;
        find(script, name)
    })
}

/// Installs all servers of `script`, unless this process has tried before. A test that asks meanwhile waits.
fn install_once(script: &Path) -> Result<(), String> {
    static TRIED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    if tried.insert(script.to_owned()) {
        let mut make = Command::new("sh");
        make.arg(script).arg("--make").stdout(Stdio::null()).status().map_err(cannot_run)?;
    }
    Ok(())
}

fn find(script: &Path, name: &str) -> Result<PathBuf, String> {
    let answer = Command::new("sh").arg(script).args(["--where", name]).output().map_err(cannot_run)?;
    if answer.status.success() {
        Ok(String::from_utf8_lossy(&answer.stdout).trim().into())
    } else {
        Err(String::from_utf8_lossy(&answer.stderr).trim().into())
    }
}

fn cannot_run(error: io::Error) -> String {
    format!("cannot run sh: {error}")
}

/// The directory of the files with which a kind of server is started.
pub fn support_directory(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind)
}

/// Prints that `what` replaces a real server, and why.
pub fn stands_in(what: &str, reason: &str) {
    notice(&format!("{what} stands in: {reason}"));
}

/// Prints that `test` did not run, and why.
pub fn did_not_run(test: &str, reason: &str) {
    let test = test.strip_prefix("it::").unwrap_or(test);
    notice(&format!("test {test} did not run: {reason}"));
}

/// Writes directly to standard error, which the test harness does not capture. With `REQUIRE_BROKERS=1`,
/// fails instead.
fn notice(text: &str) {
    use std::io::Write;

    assert!(std::env::var("REQUIRE_BROKERS").as_deref() != Ok("1"), "{text}");
    io::stderr().write_all(format!("{text}\n").as_bytes()).expect("write to standard error");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A script with one server, which it can make, and which records each call.
    fn script_in(directory: &Path) -> PathBuf {
        let script = directory.join("provision.sh");
        let text = r#"cd "$(dirname "$0")"
echo "$1" >> calls
case $1 in
    --make) mkdir made ;;
    --where) [ -d made ] && [ "$2" = server ] && echo /made || { echo "no $2" >&2; exit 1; } ;;
esac
"#;
        fs::write(&script, text).unwrap();
        script
    }

    #[test]
    fn a_server_is_made_on_demand_only_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let script = script_in(directory.path());

        assert_eq!(installed_by(&script, "server", false), Err("no server".to_owned()));
        assert_eq!(installed_by(&script, "server", true), Ok("/made".into()));
        assert_eq!(installed_by(&script, "other", true), Err("no other".to_owned()));

        let calls = fs::read_to_string(directory.path().join("calls")).unwrap();
        assert_eq!(calls.lines().filter(|call| *call == "--make").count(), 1, "{calls}");
    }
}
