//! Runs Helm on the chart with given values, and reads what it renders.

pub mod changes;
pub mod objects;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use self::objects::{Objects, yaml};
use crate::process::scratch;
use crate::provision::{did_not_run, provisioned};

/// The oldest Kubernetes that the chart is for, two in between, and the newest there is.
pub const KUBERNETES: [&str; 4] = ["1.27", "1.31", "1.35", "1.37"];

/// Where and under which name the tests install.
pub const NAMESPACE: &str = "mirrors";
pub const RELEASE: &str = "main";

/// What the chart is tested with.
pub struct Tools {
    pub helms: [Helm; 2],
    pub kubeconform: PathBuf,
    pub promtool: PathBuf,
    /// A directory of schemas for each of [`KUBERNETES`].
    pub schemas: PathBuf,
    /// The resources that the Prometheus operator defines.
    pub operator: PathBuf,
}

/// One version of Helm.
#[derive(Debug)]
pub struct Helm(PathBuf);

/// Makes of each `fn name(tools: &Tools)` the test `tests::name`. Where the tools can't be had, the test says by name
/// that it did not run, and why; with `REQUIRE_BROKERS=1` it fails.
#[macro_export]
macro_rules! with_tools {
    ($($name:ident),+ $(,)?) => {
        mod tests {
            $(#[test]
            fn $name() {
                let test = concat!(module_path!(), "::", stringify!($name));
                if let Some(tools) = $crate::helm::Tools::of_test(test) {
                    super::$name(tools);
                }
            })+
        }
    };
}
pub use crate::with_tools;

impl Tools {
    pub fn of_test(test: &str) -> Option<&'static Self> {
        static TOOLS: OnceLock<Result<Tools, String>> = OnceLock::new();
        match TOOLS.get_or_init(Self::find) {
            Ok(tools) => Some(tools),
            Err(reason) => {
                did_not_run(test, reason);
                None
            }
        }
    }

    /// All of them, or what is missing.
    pub fn find() -> Result<Self, String> {
        let directory = |name| provisioned("kubernetes", name);
        Ok(Self {
            helms: [Helm(directory("helm-3")?.join("helm")), Helm(directory("helm-4")?.join("helm"))],
            kubeconform: directory("kubeconform")?.join("kubeconform"),
            promtool: directory("promtool")?.join("promtool"),
            schemas: directory("schemas")?,
            operator: directory("operator")?,
        })
    }

    /// The newer Helm: for what does not depend on its version, which `rendering` shows.
    pub fn helm(&self) -> &Helm {
        &self.helms[1]
    }
}

/// A chart as it lies on a disk.
pub fn chart() -> PathBuf {
    in_tree("helm/atdata-bridge")
}

/// A path of this project.
pub fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A new directory, which ends with its value.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(scratch()).unwrap()
}

/// Copies a directory and all that is in it.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a user passes to Helm.
#[derive(Clone, Debug, Default)]
pub struct Values {
    case: Option<String>,
    inline: Vec<String>,
    arguments: Vec<String>,
    release: Option<String>,
}

impl Values {
    /// Those of `ci/<case>-values.yaml`.
    pub fn of(case: &str) -> Self {
        Self { case: Some(case.into()), ..Self::default() }
    }

    /// The least that installs: AtData's queue into a topic.
    pub fn minimal() -> Self {
        Self::default().and(concat!(
            "config:\n",
            "  source:\n",
            "    url: stomp+tls://broker.example.com:61614\n",
            "    username: '12345'\n",
            "    password_file: {existingSecret: atdata}\n",
            "    namespace: acme\n",
            "    destination_id: main\n",
            "  sinks:\n",
            "    kafka: {brokers: ['kafka:9092'], topic: atdata}\n",
        ))
    }

    /// Every one of `ci/`, by name.
    pub fn every() -> Vec<(String, Self)> {
        let files = fs::read_dir(chart().join("ci")).expect("ci/ of the chart");
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut cases: Vec<String> = names
            .map(|name| name.strip_suffix("-values.yaml").unwrap_or_else(|| panic!("ci/{name}")).into())
            .collect();
        cases.sort();
        assert!(cases.len() > 5, "the chart shows few uses: {cases:?}");
        cases.into_iter().map(|case| (case.clone(), Self::of(&case))).collect()
    }

    /// More of them, which override the former.
    pub fn and(mut self, yaml: &str) -> Self {
        self.inline.push(yaml.into());
        self
    }

    /// The same by `--set` and its kin, or any other option.
    pub fn option(mut self, option: &str, value: &str) -> Self {
        self.arguments.extend([option.into(), value.into()]);
        self
    }

    /// Another release than [`RELEASE`].
    pub fn named(mut self, name: &str) -> Self {
        self.release = Some(name.into());
        self
    }

    /// The release's name.
    pub fn release(&self) -> &str {
        self.release.as_deref().unwrap_or(RELEASE)
    }

    /// Adds them to a command of Helm; what has no file gets one in `directory`.
    pub fn pass<'c>(&self, command: &'c mut Command, directory: &Path) -> &'c mut Command {
        command.args(self.case.iter().flat_map(|case| ["-f".into(), file_of(case)]));
        for (n, text) in self.inline.iter().enumerate() {
            let file = directory.join(format!("{n}.yaml"));
            fs::write(&file, text).unwrap();
            command.arg("-f").arg(file);
        }
        command.args(&self.arguments)
    }

    /// What the user writes, without the chart's defaults.
    pub fn written(&self) -> Value {
        let of_case = self.case.iter().map(|case| fs::read_to_string(file_of(case)).unwrap());
        Value::Array(of_case.chain(self.inline.iter().cloned()).map(|text| yaml(&text)).collect())
    }
}

fn file_of(case: &str) -> PathBuf {
    chart().join(format!("ci/{case}-values.yaml"))
}

impl Helm {
    /// What the chart of this project makes of `values` for the newest Kubernetes; what Helm says when it refuses.
    pub fn template(&self, values: &Values) -> Result<String, String> {
        self.template_for(&chart(), KUBERNETES[3], values)
    }

    pub fn template_for(&self, chart: &Path, kubernetes: &str, values: &Values) -> Result<String, String> {
        self.with_values("template", chart, values, &["--kube-version", kubernetes])
    }

    /// The objects that it makes of `values`.
    pub fn objects(&self, values: &Values) -> Objects {
        Objects::parse(&self.template(values).unwrap_or_else(|error| panic!("{values:?}: {error}")))
    }

    /// Why it refuses `values`.
    pub fn refusal(&self, values: &Values) -> String {
        match self.template(values) {
            Ok(text) => panic!("{values:?} are not refused: {text}"),
            Err(error) => error,
        }
    }

    pub fn lint(&self, values: &Values) -> Result<String, String> {
        self.with_values("lint", &chart(), values, &["--strict"])
    }

    /// Packs a chart into a directory.
    pub fn package(&self, chart: &Path, directory: &Path) {
        let packed = run(self.command().arg("package").arg(chart).arg("--destination").arg(directory), "");
        packed.unwrap_or_else(|error| panic!("{error}"));
    }

    fn with_values(
        &self,
        verb: &str,
        chart: &Path,
        values: &Values,
        more: &[&str],
    ) -> Result<String, String> {
        let directory = directory();
        let mut command = self.command();
        command.arg(verb);
        if verb != "lint" {
            command.arg(values.release());
        }
        command.arg(chart).args(["--namespace", NAMESPACE]).args(more);
        run(values.pass(&mut command, directory.path()), "")
    }

    /// Helm itself, with nothing of its user's.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        let home = scratch().join("helm");
        command.env_clear().env("HOME", home);
        command
    }
}

/// Runs a command that reads `input`: its standard output when it succeeds, else all that it says.
pub fn run(command: &mut Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // One that ends without reading says why by its status.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    if status.success() { Ok(out) } else { Err(format!("{err}{out}")) }
}

/// `a.b` as the YAML of a value.
pub fn value_at(path: &str, value: &str) -> String {
    let depth = path.matches('.').count();
    format!("{}: {value}{}", path.replace('.', ": {"), "}".repeat(depth))
}
