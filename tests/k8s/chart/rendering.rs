//! Every use that the chart shows: it passes Helm's own judgement, renders the same under both Helms, the same
//! each time, and nothing that a template left half-done.

use kit::helm::objects::{Objects, title};
use kit::helm::{KUBERNETES, Tools, Values, chart, with_tools};

with_tools! {
    lint_finds_nothing,
    both_helms_render_the_same_for_each_kubernetes,
    rendering_again_changes_not_a_byte,
    nothing_is_left_half_done,
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

fn both_helms_render_the_same_for_each_kubernetes(tools: &Tools) {
    for (case, values) in Values::every() {
        for kubernetes in KUBERNETES {
            // Object for object: between documents Helm 4 leaves an empty line.
            let [three, four] = tools.helms.each_ref().map(|helm| {
                let rendered = helm.template_for(&chart(), kubernetes, &values);
                Objects::parse(&rendered.unwrap_or_else(|error| panic!("{case}: {helm:?}: {error}")))
            });
            assert_eq!(three, four, "{case}: the Helms differ for Kubernetes {kubernetes}");
        }
    }
    let helm = tools.helm();
    let error = helm.template_for(&chart(), "1.26", &Values::minimal()).unwrap_err();
    assert!(error.contains("kubeVersion"), "{error}");
}

/// A changing text would restart every pod at each synchronisation of Argo CD or Flux.
fn rendering_again_changes_not_a_byte(tools: &Tools) {
    for (case, values) in Values::every() {
        assert_eq!(tools.helm().template(&values), tools.helm().template(&values), "{case}");
    }
}

fn nothing_is_left_half_done(tools: &Tools) {
    for (case, values) in Values::every() {
        let rendered = tools.helm().template(&values).unwrap();
        assert_eq!(half_done(&rendered), Vec::<&str>::new(), "{case}");
    }
    for broken in
        ["a: <nil>", "a: <no value>", "a: map[b:c]", "a: 1e+06", "a: %!d(string=b)", "a: [1 2.5e+07]"]
    {
        assert_eq!(half_done(broken).len(), 1, "{broken}");
    }
    assert_eq!(half_done("a: one+two\nb: 12e+ c\nc: 0x1e+x"), Vec::<&str>::new());
}

/// Lines with what Go's templates write for a value that was missing, of another type, or a large number.
pub fn half_done(text: &str) -> Vec<&str> {
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

fn doubled(objects: &Objects) -> Vec<String> {
    let titles = objects.titles();
    let again = |n: usize| titles.iter().take(n).any(|title| *title == titles[n]);
    (0..titles.len()).filter(|n| again(*n)).map(|n| titles[n].clone()).collect()
}
