//! Parses rendered objects and searches them.

use serde_json::{Map, Value};

/// Parses one YAML document.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The objects of one rendering, including hooks.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects(pub Vec<Value>);

/// A pod template, or a pod itself.
#[derive(Clone, Copy)]
pub struct Pod<'a> {
    /// The object that contains the template, or the pod itself.
    pub owner: &'a Value,
    pub metadata: &'a Value,
    pub spec: &'a Value,
}

/// The result for missing values.
static NULL: Value = Value::Null;

impl Objects {
    /// Parses all documents. A duplicate key in a map is an error.
    pub fn parse(text: &str) -> Self {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        Self(documents.into_iter().filter(|document| !document.is_null()).collect())
    }

    pub fn of_kind<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| kind_of(object) == kind)
    }

    /// The only object of a kind; panics if there are none or several.
    pub fn the(&self, kind: &str) -> &Value {
        let mut all = self.of_kind(kind);
        let Some(first) = all.next() else { panic!("no {kind} among {:?}", self.titles()) };
        assert!(all.next().is_none(), "several of {kind}: {:?}", self.titles());
        first
    }

    /// The configuration file of the bridge.
    pub fn configuration(&self) -> &str {
        let mut files = self.of_kind("ConfigMap").filter_map(|map| map["data"]["bridge.toml"].as_str());
        files.next().expect("a configuration file")
    }

    pub fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.of_kind(kind).find(|object| name_of(object) == name)
    }

    /// Kinds and names, for messages and comparisons.
    pub fn titles(&self) -> Vec<String> {
        self.0.iter().map(title).collect()
    }

    /// All pod templates and pods, including those of hooks.
    pub fn pods(&self) -> impl Iterator<Item = Pod<'_>> {
        self.0.iter().filter_map(|owner| {
            let pod = match kind_of(owner) {
                "Pod" => owner,
                "CronJob" => &owner["spec"]["jobTemplate"]["spec"]["template"],
                _ => &owner["spec"]["template"],
            };
            let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
            spec["containers"].is_array().then_some(Pod { owner, metadata, spec })
        })
    }

    /// The StatefulSet or Deployment.
    pub fn workload(&self) -> Pod<'_> {
        let mut all = self.pods().filter(|pod| ["StatefulSet", "Deployment"].contains(&kind_of(pod.owner)));
        let first = all.next().expect("a workload");
        assert!(all.next().is_none(), "several workloads: {:?}", self.titles());
        first
    }

    /// A copy in which the first object of this kind that has the parent of `pointer` gets `value` there.
    /// Tests use it to break a rendering on purpose.
    pub fn broken(&self, kind: &str, pointer: &str, value: Value) -> Self {
        let mut broken = self.clone();
        let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
        let found = broken.0.iter_mut().filter(|object| kind_of(object) == kind);
        let place = found.filter_map(|object| object.pointer_mut(parent)).next();
        match place.unwrap_or_else(|| panic!("{kind} has no {parent}: {:?}", self.titles())) {
            Value::Array(items) if last == "-" => items.push(value),
            Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
            Value::Object(fields) if value.is_null() => {
                drop(fields.remove(last).expect("something to remove"))
            }
            Value::Object(fields) => drop(fields.insert(last.into(), value)),
            other => panic!("{parent} is {other}"),
        }
        broken
    }
}

impl<'a> Pod<'a> {
    /// All containers: init, normal and ephemeral.
    pub fn containers(self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |of| list(&self.spec[of]))
    }

    pub fn bridge(self) -> &'a Value {
        &self.spec["containers"][0]
    }
}

pub fn kind_of(object: &Value) -> &str {
    text(&object["kind"])
}

pub fn name_of(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

pub fn title(object: &Value) -> String {
    format!("{} {}", kind_of(object), name_of(object))
}

/// A string, or an empty one if the value is not a string.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A list, or an empty one if the value is not a list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().into_iter().flatten()
}

/// A map, or an empty one if the value is not a map.
pub fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Whether the selector matches an object with these labels. An empty selector matches nothing.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let modern = selector["matchLabels"].is_object() || selector["matchExpressions"].is_array();
    let wanted = if modern { &selector["matchLabels"] } else { selector };
    let mut expressions = list(&selector["matchExpressions"]);
    let chooses = fields(wanted).next().is_some() || expressions.clone().next().is_some();
    chooses
        && fields(wanted).all(|(name, value)| labels[name] == *value)
        && expressions.all(|expression| {
            assert_eq!(expression["operator"], "In", "the tests support only this operator");
            list(&expression["values"]).any(|value| labels[text(&expression["key"])] == *value)
        })
}

/// Calls `each` with `value` and every value in it, and with the path of each (`/spec/template/…`).
pub fn visit<'a>(value: &'a Value, each: &mut impl FnMut(&str, &'a Value)) {
    visit_at(String::new(), value, each);
}

fn visit_at<'a>(path: String, value: &'a Value, each: &mut impl FnMut(&str, &'a Value)) {
    each(&path, value);
    for (name, inner) in fields(value) {
        visit_at(format!("{path}/{name}"), inner, each);
    }
    for (n, inner) in list(value).enumerate() {
        visit_at(format!("{path}/{n}"), inner, each);
    }
}

/// The value at `pointer`, or null.
pub fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&NULL)
}
