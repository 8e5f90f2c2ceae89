//! Tests the demo as a person starts it: its last line, its exit code, and the files that it leaves.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use kit::output::json_lines;
use kit::{did_not_run, disk};

const PROGRAM: &str = env!("CARGO_BIN_EXE_atdata-bridge");

/// Builds the command of a demo that makes its temporary directories in `home`.
fn demo(home: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    prepare_demo(&mut command, home, arguments);
    command
}

fn prepare_demo(command: &mut Command, home: &TempDir, arguments: &[&str]) {
    command.arg("demo").args(arguments);
    command.env_clear().env("TMPDIR", home.path()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
}

fn home() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Returns the lines of standard error. Keep the reader until the end: the few lines after the last awaited
/// one fit into the pipe.
fn errors(child: &mut Child) -> Lines<BufReader<ChildStderr>> {
    BufReader::new(child.stderr.take().unwrap()).lines()
}

fn wait_for(lines: &mut Lines<BufReader<ChildStderr>>, wanted: impl Fn(&str) -> bool) {
    let seen = lines.map(Result::unwrap).find(|line| wanted(line));
    assert!(seen.is_some(), "the demo ended without that line");
}

fn assert_good(output: &Output) -> String {
    let (out, err) = texts(output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert_eq!(out.lines().last(), Some("lost 0, doubled 0"), "{out}{err}");
    out
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn every_event_is_mirrored_once_and_no_file_is_left() {
    let home = home();
    let output = demo(&home, &["--events", "20000"]).output().unwrap();
    let out = assert_good(&output);
    assert!(out.contains("went in   20,000 events, all acknowledged\n"), "{out}");
    assert!(out.contains("came out  19,980 events in 1 file, "), "{out}");
    assert!(out.contains("20 dead letters: key_missing 4, "), "{out}");
    assert!(out.contains("order     kept for every key\n"), "{out}");
    assert!(is_empty(home.path()));
}

#[test]
fn the_demo_works_over_openwire() {
    let home = home();
    let output = demo(&home, &["--events", "20000", "--protocol", "openwire"]).output().unwrap();
    let out = assert_good(&output);
    assert!(out.contains("went in   20,000 events, all acknowledged\n"), "{out}");
    let (_, err) = texts(&output);
    assert!(err.starts_with("broker    tcp://127.0.0.1:"), "{err}");
}

#[test]
fn files_stay_in_the_given_directory_which_must_be_empty() {
    let (home, directory) = (home(), home());
    let arguments = ["--events", "3000", "--directory", directory.path().to_str().unwrap()];
    let out = assert_good(&demo(&home, &arguments).output().unwrap());
    assert!(out.contains(&format!("files     are in {}\n", directory.path().display())), "{out}");
    let events = json_lines(&directory.path().join("events"));
    let letters = json_lines(&directory.path().join("dead-letters"));
    assert_eq!((events.len(), letters.len()), (2997, 3));

    let again = demo(&home, &arguments).output().unwrap();
    let (out, err) = texts(&again);
    assert_eq!((again.status.code(), out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error: ") && err.contains("is not empty") && err.lines().count() == 1, "{err}");
}

#[test]
fn an_unwritable_directory_is_reported_in_one_line() {
    let home = home();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let output = demo(&home, &["--directory", file.to_str().unwrap()]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
    let expected = format!("error: cannot use {}/events: ", file.display());
    assert!(err.starts_with(&expected) && err.lines().count() == 1, "{err}");
}

/// Far more events than the test could wait for: it stops the demo when some have been mirrored.
#[test]
fn ctrl_c_drains_and_every_acknowledged_event_is_there() {
    let home = home();
    let mut child = demo(&home, &["--rate", "2000"]).spawn().unwrap();
    let mut errors = errors(&mut child);
    wait_for(&mut errors, |line| {
        line.starts_with("settled ")
            && !line.starts_with("settled 0 ")
            && line.contains(" of 1,000,000 · in flight ")
    });
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let out = assert_good(&output);
    assert!(out.contains(" events until it was stopped, "), "{out}");
    assert!(is_empty(home.path()));
}

/// The demo names the failure instead of hanging silently, and a second Ctrl-C ends it.
#[test]
fn a_full_disk_is_reported_and_the_second_ctrl_c_abandons() {
    if let Err(reason) = disk::small_disks() {
        return did_not_run("demo::a_full_disk_is_reported_and_the_second_ctrl_c_abandons", &reason);
    }
    let (home, directory) = (home(), home());
    let mut command = disk::on_small_disk(Path::new(PROGRAM), directory.path(), 1);
    prepare_demo(&mut command, &home, &["--directory", directory.path().to_str().unwrap()]);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    let mut child = command.spawn().unwrap();
    let full = |line: &str| {
        line.contains(" · sink file: held: cannot write ") && line.contains("make room on its file system")
    };
    let mut errors = errors(&mut child);
    wait_for(&mut errors, full);
    interrupt(&child);
    wait_for(&mut errors, |line| line.ends_with(" · Ctrl-C again stops at once"));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let (out, _) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(out.contains("STOPPED   before everything on the way was settled\n"), "{out}");
    assert_eq!(out.lines().last(), Some("lost 0, doubled 0"), "{out}");
}
