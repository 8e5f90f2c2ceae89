//! Runs Helm on the chart with given values, and reads what it renders.

pub mod changes;
pub mod objects;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use serde_json::Value;

use self::objects::{Objects, list, text, yaml};
use crate::process::scratch;
use crate::provision::{did_not_run, provisioned};

/// The oldest Kubernetes version that the chart supports, two in between, and the newest version.
pub const KUBERNETES: [&str; 4] = ["1.27", "1.31", "1.35", "1.37"];

/// The namespace and the release name of the tests.
pub const NAMESPACE: &str = "mirrors";
pub const RELEASE: &str = "main";

/// The tools that test the chart.
pub struct Tools {
    pub helms: [Helm; 2],
    pub kubeconform: PathBuf,
    pub promtool: PathBuf,
    /// One directory of schemas per version in [`KUBERNETES`].
    pub schemas: PathBuf,
    /// The custom resource definitions of the Prometheus operator.
    pub operator: PathBuf,
}

#[derive(Debug)]
pub struct Helm(PathBuf);

/// Turns each `fn name(tools: &Tools)` into the test `tests::name`. If the tools are not available, the test
/// prints its name and the reason why it did not run; with `REQUIRE_BROKERS=1` it fails.
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

    /// Finds all tools; the error says what is missing.
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

    /// The newer Helm, for tests that do not depend on its version. The tests in `rendering` compare both.
    pub fn helm(&self) -> &Helm {
        &self.helms[1]
    }
}

/// The directory of the chart.
pub fn chart() -> PathBuf {
    in_tree("helm/atdata-bridge")
}

/// A path in this repository.
pub fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A new directory, which is removed when the value is dropped.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(scratch()).unwrap()
}

/// Copies a directory with its content.
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

/// The values and options that a user passes to Helm.
#[derive(Clone, Debug, Default)]
pub struct Values {
    case: Option<String>,
    inline: Vec<String>,
    arguments: Vec<String>,
    release: Option<String>,
}

impl Values {
    /// The values of `ci/<case>-values.yaml`.
    pub fn of(case: &str) -> Self {
        Self { case: Some(case.into()), ..Self::default() }
    }

    /// The minimal values: AtData's queue into a Kafka topic.
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

    /// All cases of `ci/`, by name.
    pub fn every() -> Vec<(String, Self)> {
        let files = fs::read_dir(chart().join("ci")).expect("ci/ of the chart");
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut cases: Vec<String> = names
            .map(|name| name.strip_suffix("-values.yaml").unwrap_or_else(|| panic!("ci/{name}")).into())
            .collect();
        cases.sort();
        assert!(cases.len() > 5, "the chart has few cases in ci/: {cases:?}");
        cases.into_iter().map(|case| (case.clone(), Self::of(&case))).collect()
    }

    /// All cases, as a cluster with one family of addresses and without other operators can store them.
    pub fn every_for_a_cluster() -> Vec<(String, Self)> {
        let single = "service: {ipFamilyPolicy: '', ipFamilies: []}";
        let fit = |(case, values): (String, Self)| {
            let written = values.written();
            let mut extra = written.as_array().into_iter().flatten().flat_map(|of| list(&of["extraObjects"]));
            let is_foreign = extra.any(|object| text(&object["apiVersion"]).contains('/'));
            let values = if is_foreign { values.and("extraObjects: []") } else { values };
            (case, values.and(single))
        };
        Self::every().into_iter().map(fit).collect()
    }

    /// Adds values, which override earlier ones.
    pub fn and(mut self, yaml: &str) -> Self {
        self.inline.push(yaml.into());
        self
    }

    /// Adds a command-line option, such as `--set`.
    pub fn option(mut self, option: &str, value: &str) -> Self {
        self.arguments.extend([option.into(), value.into()]);
        self
    }

    /// Adds a command-line option that takes no value.
    pub fn flag(mut self, option: &str) -> Self {
        self.arguments.push(option.into());
        self
    }

    /// Sets a release name other than [`RELEASE`].
    pub fn named(mut self, name: &str) -> Self {
        self.release = Some(name.into());
        self
    }

    pub fn release(&self) -> &str {
        self.release.as_deref().unwrap_or(RELEASE)
    }

    /// Adds the values and options to a Helm command. Inline values are written to files in `directory`.
    pub fn pass<'c>(&self, command: &'c mut Command, directory: &Path) -> &'c mut Command {
        command.args(self.case.iter().flat_map(|case| ["-f".into(), file_of(case)]));
        for (n, text) in self.inline.iter().enumerate() {
            let file = directory.join(format!("{n}.yaml"));
            fs::write(&file, text).unwrap();
            command.arg("-f").arg(file);
        }
        command.args(&self.arguments)
    }

    /// The user's values, without the chart's defaults.
    pub fn written(&self) -> Value {
        let of_case = self.case.iter().map(|case| fs::read_to_string(file_of(case)).unwrap());
        Value::Array(of_case.chain(self.inline.iter().cloned()).map(|text| yaml(&text)).collect())
    }
}

fn file_of(case: &str) -> PathBuf {
    chart().join(format!("ci/{case}-values.yaml"))
}

impl Helm {
    /// Renders this repository's chart with `values` for the newest Kubernetes; the error is Helm's output.
    pub fn template(&self, values: &Values) -> Result<String, String> {
        self.template_for(&chart(), KUBERNETES[3], values)
    }

    /// Renders a chart, this repository's only once for the same version and values, since many tests ask for it.
    pub fn template_for(&self, chart: &Path, kubernetes: &str, values: &Values) -> Result<String, String> {
        type Rendering = Arc<OnceLock<Result<String, String>>>;
        static KNOWN: LazyLock<Mutex<HashMap<String, Rendering>>> = LazyLock::new(Mutex::default);
        if chart != self::chart() {
            return self.render(chart, kubernetes, values);
        }
        let of = format!("{self:?} {kubernetes} {values:?}");
        let rendering = Arc::clone(KNOWN.lock().unwrap().entry(of).or_default());
        rendering.get_or_init(|| self.render(chart, kubernetes, values)).clone()
    }

    /// Renders a chart anew.
    pub fn render(&self, chart: &Path, kubernetes: &str, values: &Values) -> Result<String, String> {
        // A cluster knows the kind of the test's pod, which is only rendered for one.
        let cluster = ["--kube-version", kubernetes, "--api-versions", "v1/Pod"];
        self.with_values("template", chart, values, &cluster)
    }

    /// The objects rendered from `values`.
    pub fn objects(&self, values: &Values) -> Objects {
        Objects::parse(&self.template(values).unwrap_or_else(|error| panic!("{values:?}: {error}")))
    }

    /// The error with which Helm refuses `values`.
    pub fn refusal(&self, values: &Values) -> String {
        match self.template(values) {
            Ok(text) => panic!("{values:?} are not refused: {text}"),
            Err(error) => error,
        }
    }

    pub fn lint(&self, values: &Values) -> Result<String, String> {
        self.with_values("lint", &chart(), values, &["--strict"])
    }

    /// Packages a chart into a directory.
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

    /// A Helm command without the user's environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        let home = scratch().join("helm");
        // Helm runs for less than a second, a third of which went to collecting garbage.
        command.env_clear().env("HOME", home).env("GOGC", "off");
        command
    }
}

/// Runs a command with `input` on standard input. Returns its standard output; if it fails, the error is all
/// of its output.
pub fn run(command: &mut Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // If the command ends without reading, its status tells the reason.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    if status.success() { Ok(out) } else { Err(format!("{err}{out}")) }
}

/// The YAML that sets the value at the path `a.b`.
pub fn value_at(path: &str, value: &str) -> String {
    let depth = path.matches('.').count();
    format!("{}: {value}{}", path.replace('.', ": {"), "}".repeat(depth))
}
