//! Finds the servers and tools that `provision.sh` has installed, and reports those that are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of `name` that `<kind>/provision.sh` installs, or the reason why it is not available.
pub fn provisioned(kind: &str, name: &str) -> Result<PathBuf, String> {
    let script = support_directory(kind).join("provision.sh");
    let answer = Command::new("sh").arg(script).args(["--where", name]).output();
    let answer = answer.map_err(|error| format!("cannot run sh: {error}"))?;
    if answer.status.success() {
        Ok(String::from_utf8_lossy(&answer.stdout).trim().into())
    } else {
        Err(String::from_utf8_lossy(&answer.stderr).trim().into())
    }
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
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).expect("write to standard error");
}
