//! Tests the exit codes and messages of the real program.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use kit::SOON;
use kit::bridge::Setup;
use kit::scenario::{says, says_after};

/// Runs the program with only `env` in its environment. Returns its exit code, standard output and standard
/// error.
fn run(arguments: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atdata-bridge"));
    command.args(arguments).env_clear().envs(env.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_wrong_command_line_ends_with_64() {
    for arguments in [&["fly"][..], &["partition"], &["--no-such-option"]] {
        let (code, out, err) = run(arguments, &[]);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: "), "{err}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    let (code, out, _) = run(&["--help"], &[]);
    assert_eq!(code, Some(0));
    assert!(out.contains("BRIDGE__SOURCE__URL") && out.contains("Examples:"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "too wide for a terminal: {out}");
    let (code, out, _) = run(&["--version"], &[]);
    assert_eq!((code, out), (Some(0), format!("atdata-bridge {}\n", env!("CARGO_PKG_VERSION"))));
}

/// The path of the file comes from the argument or from `BRIDGE_CONFIG`. Each mistake is reported with file
/// and line.
#[test]
fn a_wrong_configuration_ends_with_64() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bridge.toml");
    let file = file.to_str().unwrap();
    std::fs::write(file, "[source]\nprefetch = 1000\npassword = \"hush\"\n").unwrap();
    let with_argument = run(&["--config", file, "config"], &[]);
    assert_eq!(with_argument, run(&["config"], &[("BRIDGE_CONFIG", file)]));
    let (code, out, err) = with_argument;
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert!(err.contains(&format!("error: {file}:2: source.prefetch: ")), "{err}");
    assert!(!err.contains("hush"), "{err}");
    let (code, _, err) = run(&["config", "-c", "/no/such/file"], &[]);
    assert_eq!(code, Some(64));
    assert!(err.starts_with("error: /no/such/file: ") && err.lines().count() == 1, "{err}");
}

#[test]
fn the_minimal_file_and_a_password_are_enough() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml");
    let (code, out, err) =
        run(&["-c", file, "config"], &[("BRIDGE__SOURCE__PASSWORD", "0123456789abcdef0123456789abcdef")]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("source.password = \"***\"") && !out.contains("0123456789"), "{out}");
}

#[test]
fn partition_fails_if_a_line_is_neither_a_key_nor_an_event() {
    let (code, out, _) = run(&["partition", "--partitions", "12", "jane@example.com", "jane"], &[]);
    assert_eq!((code, out.as_str()), (Some(1), "9e26471d35a78862c17e467d87cddedf\t11\n"));
}

/// Signals that do not ask the program to stop are logged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_signals_do_not_end_the_bridge() {
    let setup = Setup::at("stomp://127.0.0.1:1", "signals", "main", "signals");
    let mut bridge = setup.start();
    says(&mut bridge, "retrying: ").await;
    for (signal, line) in [
        (Signal::HUP, "SIGHUP: the configuration has not changed"),
        (Signal::USR1, "SIGUSR1: nothing to do"),
        (Signal::USR2, "SIGUSR2: nothing to do"),
        (Signal::ALARM, "SIGALRM: nothing to do"),
        (Signal::XFSZ, "SIGXFSZ: a file has reached the limit"),
    ] {
        bridge.signal(signal);
        says(&mut bridge, line).await;
    }
    // SIGPIPE is not logged and must not end the program: the program still answers the next signal.
    bridge.signal(Signal::PIPE);
    let said = bridge.log().len();
    bridge.signal(Signal::HUP);
    says_after(&mut bridge, said, "SIGHUP: ").await;
    bridge.terminate();
    assert_eq!(bridge.ended(SOON).await.code(), Some(0), "{}", bridge.log());
}

/// A reader that has left is a success only of a verb that does nothing but write. A full disk is a failure that is told.
#[test]
fn an_output_that_can_not_be_written_is_told() {
    let run = |arguments: &[&str], out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atdata-bridge"));
        let output = command.args(arguments).env_clear().stdin(Stdio::null()).stdout(out).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let left = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for arguments in [&["config", "--reference"][..], &["man"], &["completions", "bash"], &["--help"]] {
        assert_eq!(run(arguments, left()), (Some(0), String::new()), "{arguments:?}");
        let full = Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let (code, err) = run(arguments, full);
        assert!(
            code == Some(1) && err.starts_with("error: ") && err.contains("No space left"),
            "{arguments:?}: {err}"
        );
    }
    let (code, err) = run(&["check", "--offline", "--json"], left());
    assert!(code == Some(1) && err.starts_with("error: "), "nothing was checked: {err}");
}

/// SIGHUP applies the filter of the log, names what needs a restart, and changes nothing after a mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_changes_is_read_again_at_a_hangup() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = home.path().join("bridge.toml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write("[log]\nfilter = \"info\"\n[sinks.file.rotate]\nsize = \"9MiB\"\n");
    let setup = Setup::at("stomp://127.0.0.1:1", "hangup", "main", "hangup")
        .argument("--config")
        .argument(path.display().to_string());
    let mut bridge = setup.start();
    says(&mut bridge, "retrying: ").await;
    let mut hangup = async |text: &str, line: &str| {
        write(text);
        let said = bridge.log().len();
        bridge.signal(Signal::HUP);
        says_after(&mut bridge, said, line).await;
    };
    hangup("[log]\nfilter = \"loud\"\n", "log.filter: `loud` is not a level").await;
    hangup("[log]\nfilter = \"debug\"\n", "SIGHUP: log.filter is now `debug`").await;
    hangup("[log]\nfilter = \"debug\"\n", "restart to apply what changed: sinks.file.rotate.size").await;
    hangup("[log]\nfilter = \"debug\"\n[source]\nprefetch = 7\n", "sinks.file.rotate.size, source.prefetch")
        .await;
    hangup("[log]\nfilter = \"info\"\n[sinks.file.rotate]\nsize = \"9MiB\"\n", "log.filter is now `info`")
        .await;
    hangup("[sinks.file.rotate]\nsize = \"9MiB\"\n", "SIGHUP: the configuration has not changed").await;
    bridge.terminate();
    assert_eq!(bridge.ended(SOON).await.code(), Some(0), "{}", bridge.log());
}

/// If the reader of the log ends, as `head` does, the bridge continues and stops normally.
#[test]
fn a_closed_log_does_not_stop_the_bridge() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let mut child = Command::new(env!("CARGO_BIN_EXE_atdata-bridge"))
        .env_clear()
        .env("BRIDGE__SOURCE__URL", "stomp://127.0.0.1:1")
        .env("BRIDGE__SOURCE__USERNAME", "12345")
        .env("BRIDGE__SOURCE__PASSWORD", "0123456789abcdef0123456789abcdef")
        .env("BRIDGE__SOURCE__NAMESPACE", "closed")
        .env("BRIDGE__SOURCE__DESTINATION_ID", "main")
        .env("BRIDGE__SINKS__FILE__DIRECTORY", path("files"))
        .env("BRIDGE__DEAD_LETTERS__DIRECTORY", path("letters"))
        .env("BRIDGE__ADMIN__LISTEN", "127.0.0.1:0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("retrying: ") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the process ended");
    }
    drop(log);
    let pid = Pid::from_child(&child);
    // Each connection logs a line that cannot be written.
    kill_process(pid, Signal::HUP).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A failed check names the option that causes it, and where this option was set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_reports_where_the_options_were_set() {
    let setup = Setup::at("stomp://127.0.0.1:1", "origins", "main", "origins");
    let mut bridge = setup.start_with(&["check"]);
    assert_eq!(bridge.ended(SOON).await.code(), Some(1));
    let said = bridge.log();
    let line = said.lines().find(|line| line.starts_with("FAILED  broker stomp://127.0.0.1:1: "));
    assert!(line.is_some_and(|line| line.ends_with("(source.url: BRIDGE__SOURCE__URL)")), "{said}");
}
