//! Tests what can be tested of the scripts of a release without building one; `make release-test` builds it twice.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::files::{below, root, text};

/// Runs a command in a directory. Returns whether it succeeded, and what it printed.
fn run(directory: &Path, command: &[&str]) -> (bool, String) {
    let output = Command::new(command[0]).args(&command[1..]).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", command[0]));
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn every_script_of_image_and_release_parses() {
    let has_shellcheck = Command::new("shellcheck").arg("--version").output().is_ok();
    for folder in ["image", "release", "tests/image", "tests/reproduce"] {
        for script in below(folder, &[".sh", ".py"]) {
            let first_line = text(&script).lines().next().unwrap().to_owned();
            let parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
            let mut commands = match first_line.as_str() {
                "#!/bin/sh" => vec![vec!["sh", "-n", &script]],
                "#!/usr/bin/env python3" => vec![vec!["python3", "-c", parse, &script]],
                _ => vec![vec!["bash", "-n", &script]],
            };
            if has_shellcheck && script.ends_with(".sh") {
                commands.push(vec!["shellcheck", "--external-sources", &script]);
            }
            for command in commands {
                let (passed, printed) = run(root(), &command);
                assert!(passed, "{script}: {printed}");
            }
        }
    }
}

#[test]
fn the_bill_of_materials_knows_every_crate_that_compiles_c() {
    let script = root().join("release/sbom.py");
    let command = [script.to_str().unwrap(), "lock"];
    assert_eq!(run(root(), &command), (true, String::new()));

    let other = tempfile::tempdir().unwrap();
    let added = "\n[[package]]\nname = \"brotli-sys\"\nversion = \"0.3.2\"\ndependencies = [\n \"cc\",\n]\n";
    fs::write(other.path().join("Cargo.lock"), text("Cargo.lock") + added).unwrap();
    let (passed, printed) = run(other.path(), &command);
    assert!(!passed && printed.starts_with("the crate brotli-sys compiles C"), "{printed}");
    assert_eq!(printed.lines().count(), 1, "{printed}");
}
