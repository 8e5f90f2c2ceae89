//! The real program's ways to end, and what it says.

use std::process::{Command, Output};

/// Runs the program with nothing but `env` in its environment.
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
fn help_and_version_are_no_mistakes() {
    let (code, out, _) = run(&["--help"], &[]);
    assert_eq!(code, Some(0));
    assert!(out.contains("BRIDGE__SOURCE__URL") && out.contains("Examples:"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "too wide for a terminal: {out}");
    let (code, out, _) = run(&["--version"], &[]);
    assert_eq!((code, out), (Some(0), format!("atdata-bridge {}\n", env!("CARGO_PKG_VERSION"))));
}

/// The file comes from the argument or `BRIDGE_CONFIG`; mistakes are told with file and line, and 64.
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
fn the_minimal_file_and_a_password_are_a_configuration() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml");
    let (code, out, err) =
        run(&["-c", file, "config"], &[("BRIDGE__SOURCE__PASSWORD", "0123456789abcdef0123456789abcdef")]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("source.password = \"***\"") && !out.contains("0123456789"), "{out}");
}

#[test]
fn partition_fails_when_an_input_is_neither() {
    let (code, out, _) = run(&["partition", "--partitions", "12", "jane@example.com", "jane"], &[]);
    assert_eq!((code, out.as_str()), (Some(1), "9e26471d35a78862c17e467d87cddedf\t11\n"));
}
