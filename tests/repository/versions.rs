//! Tests that one command sets the version, and that every file has the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::files::{below, root, text};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The files that the command reads or changes.
const FILES: [&str; 7] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "docs/kubernetes.md",
    "helm/atdata-bridge/Chart.yaml",
    "tests/fuzz/Cargo.lock",
];

/// The tree without what does not matter, with the command.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let copy = tempfile::tempdir().unwrap();
        for file in FILES.iter().chain(&["release/version.sh"]) {
            let to = copy.path().join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(root().join(file), to).unwrap();
        }
        Self(copy)
    }

    /// Returns the exit code of the command, what it printed, and what it complained of.
    fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let run = Command::new(self.0.path().join("release/version.sh")).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (run.status.code(), text(run.stdout), text(run.stderr))
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.path().join(file)).unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).unwrap();
    }
}

/// Returns the lines that say `version` of the bridge, the chart or the image.
fn mentions(path: &str, text: &str, version: &str) -> Vec<String> {
    let signs = [
        format!("atdata-bridge:{version}"),
        format!("atdata-bridge-{version}"),
        format!("VERSION={version}"),
        format!("\nversion: {version}"),
        format!("\nappVersion: \"{version}\""),
        format!("\nname = \"atdata-bridge\"\nversion = \"{version}\""),
    ];
    signs.iter().filter(|sign| text.contains(*sign)).map(|sign| format!("{path}: {}", sign.trim())).collect()
}

#[test]
fn every_file_has_the_same_version() {
    for lock in ["Cargo.lock", "tests/fuzz/Cargo.lock"] {
        assert_eq!(mentions(lock, &text(lock), VERSION).len(), 1, "{lock}");
    }
    assert_eq!(Copy::new().command(&[]).1.trim(), VERSION);
}

#[test]
fn one_command_sets_the_version() {
    let copy = Copy::new();
    copy.write(
        "CHANGELOG.md",
        "# Changelog\n\n## [Unreleased]\n\n- New\n\n## [0.0.1] - 2026-01-01\n\n- Old\n",
    );
    assert_eq!(copy.command(&["98.7.6"]), (Some(0), String::new(), String::new()));
    let stale: Vec<_> = FILES.iter().flat_map(|file| mentions(file, &copy.text(file), VERSION)).collect();
    assert!(stale.is_empty(), "{stale:?}");
    let changed: Vec<_> = FILES.iter().filter(|file| copy.text(file) != text(file)).collect();
    assert_eq!(changed.len(), FILES.len(), "only {changed:?}");
    let changelog = copy.text("CHANGELOG.md");
    let (start, rest) = changelog.split_once("## [98.7.6] - ").expect(&changelog);
    assert_eq!(start, "# Changelog\n\n## [Unreleased]\n\n");
    assert_eq!(rest.split_once('\n').unwrap().1, "\n- New\n\n## [0.0.1] - 2026-01-01\n\n- Old\n");
    assert_eq!(copy.command(&["--notes"]).1, "- New\n");

    // Nothing has changed since.
    let (code, _, complaint) = copy.command(&["98.7.7"]);
    assert_eq!((code, complaint.contains("no change under")), (Some(1), true), "{complaint}");
    assert_eq!(copy.command(&[]).1, "98.7.6\n");
}

/// What is tried first does not take the changes away from the version that follows.
#[test]
fn a_version_to_try_leaves_the_changes_unreleased() {
    let copy = Copy::new();
    assert_eq!(copy.command(&["98.7.6-rc.1"]).0, Some(0));
    assert_eq!(copy.text("CHANGELOG.md"), text("CHANGELOG.md"));
    let chart = copy.text("helm/atdata-bridge/Chart.yaml");
    assert!(chart.contains("\nversion: 98.7.6-rc.1\n"), "{chart}");
    assert!(chart.contains("artifacthub.io/prerelease: \"true\""), "{chart}");
    assert!(copy.command(&["--notes"]).1.starts_with("### "));
    for wrong in ["1.2", "01.2.3", "1.2.3.4", "v1.2.3", "--help"] {
        assert_eq!(copy.command(&[wrong]).0, Some(64), "{wrong}");
    }
}

/// No other file says the version: the command would not change it.
#[test]
fn no_other_file_has_the_version() {
    // Measurements say with which version they were made; a page tells the history of the chart.
    let is_history = |path: &str| path.starts_with("docs/results/") || path.ends_with("/UPGRADING.md");
    let endings =
        [".md", ".sh", ".yaml", ".yml", ".toml", ".lock", ".json", "Dockerfile", "Makefile", ".txt"];
    let others = below("", &endings);
    let others = others.iter().filter(|path| !is_history(path) && !FILES.contains(&path.as_str()));
    let found: Vec<_> = others.flat_map(|path| mentions(path, &text(path), VERSION)).collect();
    assert!(found.is_empty(), "release/version.sh does not know of {found:?}");
    assert_eq!(mentions("a", "run atdata-bridge:1.2.3", "1.2.3"), ["a: atdata-bridge:1.2.3"]);
}

/// Two branches that add to the same place of the changelog.
#[test]
fn additions_to_the_changelog_do_not_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let names = ["-c", "user.name=test", "-c", "user.email=test@example.com"];
        let run =
            Command::new("git").args(names).args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stdout));
    };
    let changelog = folder.path().join("CHANGELOG.md");
    let commit = |text: &str| {
        fs::write(&changelog, text).unwrap();
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message=change"]);
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    fs::copy(Path::new(root()).join(".gitattributes"), folder.path().join(".gitattributes")).unwrap();
    commit("## [Unreleased]\n\n- First\n\n## [0.0.1]\n");
    git(&["switch", "--quiet", "--create=one"]);
    commit("## [Unreleased]\n\n- First\n- One\n\n## [0.0.1]\n");
    git(&["switch", "--quiet", "main"]);
    commit("## [Unreleased]\n\n- First\n- Other\n\n## [0.0.1]\n");
    git(&["merge", "--quiet", "one"]);
    assert_eq!(
        fs::read_to_string(&changelog).unwrap(),
        "## [Unreleased]\n\n- First\n- Other\n- One\n\n## [0.0.1]\n"
    );
}
