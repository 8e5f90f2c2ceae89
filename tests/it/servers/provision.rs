//! Tests the part that the `provision.sh` of all servers share, with servers that cost nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A kind with a server that can be made and one that can't. `good` waits until a file says that it may go on.
const SCRIPT: &str = r#"#!/bin/sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"
servers='bad good'
made_from=''
packages='nothing'
title() { echo "the $1 server"; }
missing() { :; }
build() {
    echo "a line about $1"
    [ "$1" = good ] || { echo 'why it failed'; false; }
    echo made >>"$here/made"
    while [ ! -e "$here/go-on" ]; do sleep 0.01; done
}
provision "$@"
"#;

struct Kind(TempDir);

impl Kind {
    fn new() -> Self {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kit");
        fs::copy(kit.join("provision.sh"), home.path().join("provision.sh")).unwrap();
        let kind = home.path().join("kind");
        fs::create_dir(&kind).unwrap();
        fs::write(kind.join("provision.sh"), SCRIPT).unwrap();
        fs::set_permissions(kind.join("provision.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        Self(home)
    }

    fn may_go_on(&self) {
        fs::write(self.0.path().join("kind/go-on"), "").unwrap();
    }

    fn made(&self) -> usize {
        fs::read_to_string(self.0.path().join("kind/made")).unwrap_or_default().lines().count()
    }

    /// A run of the script with one argument.
    fn command(&self, argument: &str) -> Command {
        let mut command = Command::new(self.0.path().join("kind/provision.sh"));
        command
            .arg(argument)
            .env("XDG_CACHE_HOME", self.0.path().join("cache"))
            .env_remove("REQUIRE_BROKERS");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

#[test]
fn a_server_is_made_once_however_many_ask_for_it_at_once() {
    let kind = Kind::new();
    let running: Vec<_> = (0..3).map(|_| kind.command("--make").spawn().unwrap()).collect();
    kind.may_go_on();
    for child in running {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(kind.made(), 1);
    let place = kind.command("--where").arg("good").output().unwrap();
    assert!(place.status.success() && String::from_utf8_lossy(&place.stdout).contains("/kind-good-"));
}

#[test]
fn what_could_not_be_made_is_named_with_the_reason_and_a_failure_only_where_it_is_required() {
    let kind = Kind::new();
    kind.may_go_on();
    let make = kind.command("--make").output().unwrap();
    let said = String::from_utf8_lossy(&make.stderr);
    assert!(make.status.success() && said.contains("the bad server could not be made\n"), "{said}");
    assert!(!said.contains("a line about"), "{said}");
    assert_eq!(kind.made(), 1, "a failure of one server leaves the others possible");
    let missing = kind.command("--missing").output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(missing.status.success() && said.starts_with("the bad server is not provisioned; "), "{said}");
    assert!(said.ends_with("a line about bad\nwhy it failed\n") && !said.contains("good"), "{said}");
    let required = kind.command("--missing").env("REQUIRE_BROKERS", "1").output().unwrap();
    assert!(!required.status.success());
}
