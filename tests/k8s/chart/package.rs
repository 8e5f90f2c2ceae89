//! Tests the packaged chart: the archive, the versions, the notes, and the examples of the guide.

use std::fs;
use std::process::Command;

use crate::rendering::template_leftovers;
use kit::helm::objects::{Objects, name_of, text, yaml};
use kit::helm::{
    KUBERNETES, NAMESPACE, RELEASE, Tools, Values, chart, copy_directory, directory, in_tree, run, with_tools,
};

with_tools! {
    the_archive_contains_the_intended_files,
    the_notes_match_the_release,
    the_examples_of_the_guide_install,
}

/// The archive has everything that a user needs, and nothing of the tests.
fn the_archive_contains_the_intended_files(tools: &Tools) {
    for helm in &tools.helms {
        let packed = directory();
        helm.package(&chart(), packed.path());
        let archive = packed.path().join(format!("atdata-bridge-{}.tgz", env!("CARGO_PKG_VERSION")));
        let listed = run(Command::new("tar").arg("-tzf").arg(&archive), "").unwrap();
        let mut files: Vec<&str> =
            listed.lines().filter_map(|line| line.strip_prefix("atdata-bridge/")).collect();
        files.sort_unstable();
        let top = |file: &&&str| !file.contains('/') && **file != ".helmignore";
        let top: Vec<&&str> = files.iter().filter(top).collect();
        assert_eq!(
            top,
            [&"Chart.yaml", &"README.md", &"UPGRADING.md", &"values.schema.json", &"values.yaml"],
            "{helm:?}"
        );
        let directories = ["templates/", "dashboards/atdata-bridge.json", "rules/alerts.yaml"];
        let others = files.iter().filter(|file| file.contains('/'));
        let unexpected: Vec<_> =
            others.filter(|file| !directories.iter().any(|known| file.starts_with(known))).collect();
        assert!(unexpected.is_empty(), "{helm:?} packs {unexpected:?}");
        let unpacked = helm.template_for(&archive, "1.37", &Values::of("everything"));
        assert_eq!(
            unpacked,
            helm.template(&Values::of("everything")),
            "something that is needed was left out"
        );
    }
}

/// A relative link leads nowhere where the chart is shown without the repository.
#[test]
fn the_pages_of_the_archive_link_to_nothing_outside() {
    let outside = |page: &str| {
        let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let is_outside = |target: &&str| !target.starts_with("https://") && !target.starts_with('#');
        targets.filter(is_outside).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(outside("[a](../b.md), [c](#d), [e](https://f)"), ["../b.md"]);
    for page in ["README.md", "UPGRADING.md"] {
        let text = fs::read_to_string(chart().join(page)).unwrap();
        assert_eq!(outside(&text), Vec::<String>::new(), "{page}");
    }
}

/// Every recipe of the guide is a file of values, and so is rendered and loaded by the other tests.
#[test]
fn the_recipes_of_the_guide_exist() {
    let guide = fs::read_to_string(in_tree("docs/kubernetes.md")).unwrap();
    let table = guide.split("\n## Recipes\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let files =
        rows.filter_map(|row| row.split('|').nth(2)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let mut count = 0;
    for case in files {
        assert!(chart().join(format!("ci/{case}-values.yaml")).exists(), "{case}");
        count += 1;
    }
    assert!(count >= 14, "{table}");
    assert!(Values::every().len() >= 30);
}

#[test]
fn chart_and_program_have_the_same_version() {
    let definition = yaml(&fs::read_to_string(chart().join("Chart.yaml")).unwrap());
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((text(&definition["version"]), text(&definition["appVersion"])), (version, version));
    // The versions of managed clusters look like pre-releases, which only a range that ends in `-0` includes.
    assert_eq!(definition["kubeVersion"], ">=1.27.0-0");
    assert_eq!(definition["name"], "atdata-bridge");
    let images = yaml(text(&definition["annotations"]["artifacthub.io/images"]));
    assert_eq!(images[0]["image"], format!("atdata-bridge:{version}"));
    let changes = yaml(text(&definition["annotations"]["artifacthub.io/changes"]));
    assert!(changes[0]["kind"].is_string() && changes[0]["description"].is_string());
}

/// The notes show the next commands with the right names. Helm prints the notes only with a cluster, so a
/// copy of the chart renders them as an object.
fn the_notes_match_the_release(tools: &Tools) {
    let copy = directory();
    copy_directory(&chart(), copy.path());
    let templates = copy.path().join("templates");
    let notes = fs::read_to_string(templates.join("NOTES.txt")).unwrap();
    let object =
        "apiVersion: v1\nkind: Notes\nmetadata: {name: notes}\ntext: {{ include \"notes\" . | toJson }}\n";
    fs::write(
        templates.join("notes.yaml"),
        format!("{{{{ define \"notes\" }}}}{notes}{{{{ end }}}}\n{object}"),
    )
    .unwrap();
    for (case, values) in Values::every() {
        let rendered = tools.helm().template_for(copy.path(), KUBERNETES[3], &values).unwrap();
        let objects = Objects::parse(&rendered);
        let notes = text(&objects.the("Notes")["text"]);
        assert_eq!(template_leftovers(notes), Vec::<&str>::new(), "{case}");
        let is_command = |line: &&str| ["kubectl ", "helm "].iter().any(|program| line.starts_with(program));
        let commands: Vec<&str> = notes.lines().map(str::trim).filter(is_command).collect();
        assert_eq!(commands.len(), 4, "{case}: {notes}");
        let workload = objects.workload();
        for command in &commands {
            let namespace = if command.starts_with("helm ") {
                NAMESPACE
            } else {
                text(&workload.owner["metadata"]["namespace"])
            };
            assert!(command.contains(&format!("--namespace {namespace} ")), "{case}: {command}");
            let name = if command.starts_with("helm ") { RELEASE } else { name_of(workload.owner) };
            assert!(command.contains(name), "{case}: {command}");
        }
    }
}

/// Checks every block of values in the guide. The first is complete, the others are merged into it.
fn the_examples_of_the_guide_install(tools: &Tools) {
    let guide = fs::read_to_string(in_tree("docs/kubernetes.md")).unwrap();
    let blocks = guide.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    // The others are values.
    let is_object = |block: &&str| block.starts_with("apiVersion:");
    let blocks: Vec<&str> = blocks.filter(|block| !is_object(block)).collect();
    assert!(blocks.len() > 3, "few examples");
    let whole = Values::default().and(blocks[0]);
    for block in &blocks {
        tools.helm().objects(&whole.clone().and(block));
    }
}
