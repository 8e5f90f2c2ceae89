//! Tests the rendering of every `ci/` case: it passes Helm's lint, is the same with both Helm versions and
//! each time, and contains no leftovers of a template.

use kit::helm::objects::{Objects, title};
use kit::helm::{KUBERNETES, Tools, Values, chart, with_tools};

with_tools! {
    lint_finds_nothing,
    both_helm_versions_render_the_same_for_each_kubernetes,
    rendering_twice_gives_the_same_bytes,
    no_template_leftovers_are_rendered,
    no_object_appears_twice,
}

fn lint_finds_nothing(tools: &Tools) {
    for helm in &tools.helms {
        for (case, values) in Values::every() {
            helm.lint(&values).unwrap_or_else(|error| panic!("{case}: {helm:?}: {error}"));
        }
        let typo = Values::minimal().and("replicaCuont: 2");
        assert!(helm.lint(&typo).is_err(), "{helm:?} passes a misspelt value");
    }
}

fn both_helm_versions_render_the_same_for_each_kubernetes(tools: &Tools) {
    for (case, values) in Values::every() {
        for kubernetes in KUBERNETES {
            // Compares objects, because Helm 4 leaves an empty line between documents.
            let [three, four] = tools.helms.each_ref().map(|helm| {
                let rendered = helm.template_for(&chart(), kubernetes, &values);
                Objects::parse(&rendered.unwrap_or_else(|error| panic!("{case}: {helm:?}: {error}")))
            });
            assert_eq!(three, four, "{case}: the Helm versions differ for Kubernetes {kubernetes}");
        }
    }
    let helm = tools.helm();
    let error = helm.template_for(&chart(), "1.26", &Values::minimal()).unwrap_err();
    assert!(error.contains("kubeVersion"), "{error}");
}

/// Changing output would restart every pod at each synchronisation of Argo CD or Flux.
fn rendering_twice_gives_the_same_bytes(tools: &Tools) {
    for (case, values) in Values::every() {
        let again = tools.helm().render(&chart(), KUBERNETES[3], &values);
        assert_eq!(tools.helm().template(&values), again, "{case}");
    }
}

fn no_template_leftovers_are_rendered(tools: &Tools) {
    for (case, values) in Values::every() {
        let rendered = tools.helm().template(&values).unwrap();
        assert_eq!(template_leftovers(&rendered), Vec::<&str>::new(), "{case}");
    }
    for broken in
        ["a: <nil>", "a: <no value>", "a: map[b:c]", "a: 1e+06", "a: %!d(string=b)", "a: [1 2.5e+07]"]
    {
        assert_eq!(template_leftovers(broken).len(), 1, "{broken}");
    }
    assert_eq!(template_leftovers("a: one+two\nb: 12e+ c\nc: 0x1e+x"), Vec::<&str>::new());
}

/// Finds lines with the output of Go's templates for a missing value, a value of another type or a large
/// number.
pub fn template_leftovers(text: &str) -> Vec<&str> {
    let marks = ["<nil>", "<no value>", "map[", "%!"];
    text.lines().filter(|line| marks.iter().any(|mark| line.contains(mark)) || has_exponent(line)).collect()
}

fn has_exponent(line: &str) -> bool {
    let digits = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = line.as_bytes();
    line.match_indices("e+").any(|(at, _)| digits(bytes.get(at.wrapping_sub(1))) && digits(bytes.get(at + 2)))
}

fn no_object_appears_twice(tools: &Tools) {
    for (case, values) in Values::every() {
        let objects = tools.helm().objects(&values);
        assert_eq!(doubled(&objects), Vec::<String>::new(), "{case}");
        let mut twice = objects.clone();
        twice.0.push(objects.workload().owner.clone());
        assert_eq!(doubled(&twice), [title(objects.workload().owner)]);
    }
}

pub fn doubled(objects: &Objects) -> Vec<String> {
    let titles = objects.titles();
    let again = |n: usize| titles.iter().take(n).any(|title| *title == titles[n]);
    (0..titles.len()).filter(|n| again(*n)).map(|n| titles[n].clone()).collect()
}
