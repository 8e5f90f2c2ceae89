//! Tests that a module imports only from layers below its own, in the order of ARCHITECTURE.md. Imports are
//! never circular and never between parts of one layer, except in the last layer. Tests inside `src` may
//! import anything.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{below, code_of, is_test_file, text};

type Module = Vec<String>;
type Imports = BTreeMap<Module, BTreeSet<Module>>;

fn module_of(file: &str) -> Module {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    match path {
        "lib" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

/// Expands `a::{b, c::d}` into `a::b` and `a::c::d`.
fn expanded(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let (head, inner) = (head.trim(), rest.rsplit_once('}').unwrap().0);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts.flat_map(expanded).map(|part| format!("{head}{part}")).collect()
}

/// Returns the paths named in `use` declarations, and the paths elsewhere that begin with `crate::` or
/// `super::`. The second value tells whether other modules may import the path from here.
fn named(code: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut open: Option<String> = None;
    for line in code.lines() {
        let line = line.trim();
        if let Some(started) = &mut open {
            started.push_str(line);
        } else if line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use ")) {
            open = Some(line.to_owned());
        } else {
            rest.push_str(line);
            rest.push('\n');
        }
        if let Some(whole) = open.take_if(|started| started.ends_with(';')) {
            let (visibility, tree) = whole.trim_end_matches(';').split_once("use ").unwrap();
            found.extend(expanded(tree).into_iter().map(|path| (path, !visibility.is_empty())));
        }
    }
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in rest.match_indices(start) {
            let is_start =
                !rest[..at].ends_with(|letter: char| letter.is_alphanumeric() || "_:".contains(letter));
            let end = rest[at..].find(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter));
            if is_start {
                found.push((rest[at..][..end.unwrap_or(rest.len() - at)].to_owned(), false));
            }
        }
    }
    found
}

/// Converts `super::a::B` in `module` into a path from the crate's root.
fn absolute(path: &str, module: &[String]) -> Option<Module> {
    let mut parts = path.split("::").filter(|part| !part.is_empty()).peekable();
    let mut base = match *parts.peek()? {
        "crate" | "atdata_bridge" => {
            parts.next();
            Vec::new()
        }
        "self" => {
            parts.next();
            module.to_vec()
        }
        "super" => module.to_vec(),
        _ => return None,
    };
    while parts.next_if_eq(&"super").is_some() {
        base.pop()?;
    }
    base.extend(parts.map(str::to_owned));
    Some(base)
}

/// Returns which module imports which, by files. A re-exported name counts as an import from the module that
/// defines it.
fn imports() -> Imports {
    let sources: BTreeMap<Module, String> = below("src", &[".rs"])
        .into_iter()
        .filter(|file| !is_test_file(file))
        .map(|file| (module_of(&file), code_of(&text(&file))))
        .collect();
    let mut handed_on: BTreeMap<Module, Module> = BTreeMap::new();
    for (module, code) in &sources {
        for (path, is_public) in named(code) {
            if let Some(path) = absolute(&path, module).filter(|_| is_public) {
                let name = path.last().unwrap().clone();
                handed_on.insert([module.clone(), vec![name]].concat(), path);
            }
        }
    }
    let mut imports = Imports::new();
    for (module, code) in &sources {
        let mut of = BTreeSet::new();
        for (path, _) in named(code) {
            let Some(mut path) = absolute(&path, module) else { continue };
            while let Some(defined) = handed_on.get(&path) {
                path.clone_from(defined);
            }
            let file =
                (0..=path.len()).rev().map(|length| &path[..length]).find(|part| sources.contains_key(*part));
            of.extend(file.filter(|file| *file != module).map(<[String]>::to_vec));
        }
        imports.insert(module.clone(), of);
    }
    imports
}

/// Returns the modules that remain after repeatedly removing those without imports and those that no module
/// imports.
fn circles(mut imports: Imports) -> Imports {
    loop {
        let before = imports.len();
        let left: BTreeSet<Module> = imports.keys().cloned().collect();
        for of in imports.values_mut() {
            of.retain(|module| left.contains(module));
        }
        let imported: BTreeSet<Module> = imports.values().flatten().cloned().collect();
        imports.retain(|module, of| !of.is_empty() && imported.contains(module));
        if imports.len() == before {
            return imports;
        }
    }
}

/// Returns the layers of ARCHITECTURE.md from the top: the names in backticks of each layer.
fn layers() -> Vec<Vec<String>> {
    let text = text("ARCHITECTURE.md");
    let list = text.split("## Imports").nth(1).expect("ARCHITECTURE.md has a section on imports");
    let items = list.lines().skip_while(|line| !line.starts_with("1. ")).take_while(|line| !line.is_empty());
    let layers: Vec<Vec<String>> =
        items.map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect()).collect();
    assert!(layers.len() > 4, "{layers:?}");
    layers
}

/// Returns the layer of a module, and the longest name in it that the module's path begins with.
fn layer_of<'a>(module: &[String], layers: &'a [Vec<String>]) -> Option<(usize, &'a str)> {
    let path = if module.is_empty() { "lib".to_owned() } else { module.join("/") };
    let names =
        layers.iter().enumerate().flat_map(|(at, names)| names.iter().map(move |name| (at, name.as_str())));
    let fitting = names.filter(|(_, name)| {
        path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    fitting.max_by_key(|(_, name)| name.len())
}

fn display(module: &[String]) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

#[test]
fn no_import_is_circular() {
    let circles = circles(imports());
    let lines: Vec<String> = circles
        .iter()
        .map(|(module, of)| {
            let of: Vec<String> = of.iter().map(|module| display(module)).collect();
            format!("{} imports {}", display(module), of.join(", "))
        })
        .collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn imports_follow_the_layers_of_the_architecture() {
    let layers = layers();
    let mut wrong = Vec::new();
    for (module, of) in imports() {
        let Some((from, name)) = layer_of(&module, &layers) else {
            wrong.push(format!("{} is in no layer", display(&module)));
            continue;
        };
        for imported in of {
            let Some((to, other)) = layer_of(&imported, &layers) else { continue };
            let is_beside = to == from && other != name && from + 1 < layers.len();
            if to < from || is_beside {
                let place = if is_beside { "beside" } else { "above" };
                wrong.push(format!(
                    "{} imports {}, which is {place} it",
                    display(&module),
                    display(&imported)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_circle_and_an_upward_import_are_found() {
    let module = |name: &str| vec![name.to_owned()];
    let imports = |pairs: &[(&str, &str)]| {
        let mut imports = Imports::new();
        for (from, to) in pairs {
            imports.entry(module(from)).or_default().insert(module(to));
            imports.entry(module(to)).or_default();
        }
        imports
    };
    assert!(circles(imports(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let found = circles(imports(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]));
    assert_eq!(found.keys().collect::<Vec<_>>(), [&module("b"), &module("c")]);

    let code = "use crate::a::{self, b::{C, D as E}, f};\npub(crate) use super::g;\nfn h() { crate::i::j() }";
    let expected =
        ["crate::a::self", "crate::a::b::C", "crate::a::b::D", "crate::a::f", "super::g", "crate::i::j"];
    assert_eq!(named(code).into_iter().map(|(path, _)| path).collect::<Vec<_>>(), expected);
    let layers = [module("a"), vec!["b".to_owned(), "a/low".to_owned()]];
    let path = |path: &[&str]| path.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    assert_eq!(layer_of(&path(&["a", "x"]), &layers), Some((0, "a")));
    assert_eq!(layer_of(&path(&["a", "low", "x"]), &layers), Some((1, "a/low")));
    assert_eq!(layer_of(&path(&["other"]), &layers), None);
}
