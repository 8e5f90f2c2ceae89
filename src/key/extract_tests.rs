//! Tests the search for a key, and compares it with the same search on a tree.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const MD5: &str = "9e107d9d372bb6826bd81d3542a419d6";

fn keying(pointers: &[&str]) -> Keying {
    Keying::new(pointers.iter().map(|&pointer| pointer.to_owned()).collect(), false)
}

fn find(pointers: &[&str], body: &str) -> Result<String, KeyError> {
    keying(pointers).key_of(body.as_bytes()).map(|key| key.to_string())
}

fn missing(pointers: &str) -> Result<String, KeyError> {
    Err(KeyError::Missing(pointers.to_owned()))
}

#[test]
fn the_accepted_forms() {
    for body in [
        MD5.to_owned(),
        format!(" {MD5}\n"),
        MD5.to_uppercase(),
        format!("\"{MD5}\""),
        format!("\t\"{}\" \r\n", MD5.replace('9', "\\u0039")),
        json!({"md5": MD5}).to_string(),
        format!("\n{{ \"a\" : [1, {{}}], \"md\\u0035\"\t:\r\"{}\" , \"z\":null }} ", MD5.to_uppercase()),
    ] {
        assert_eq!(find(&["/md5"], &body).as_deref(), Ok(MD5), "{body}");
    }
}

#[test]
fn the_defects() {
    let object = |key: &str| json!({"md5": key}).to_string();
    for body in [
        object(""),
        object(MD5.trim_start_matches('9')),
        object(&format!("0x{MD5}")),
        object(&format!("{MD5} ")),
    ] {
        assert_eq!(find(&["/md5"], &body), Err(KeyError::NotAnMd5), "{body}");
    }
    for body in ["\"jane\"", r#"{"md5":null}"#, r#"{"md5":7}"#, r#"{"md5":{}}"#, r#"{"md5":["x"]}"#] {
        assert_eq!(find(&["/md5"], body), Err(KeyError::NotAnMd5), "{body}");
    }
    for body in ["{}", r#"{"MD5":""}"#, r#"{"a":{"md5":""}}"#] {
        assert_eq!(find(&["/md5"], body), missing("/md5"), "{body}");
    }
    let whole = json!({"md5": MD5}).to_string();
    let cut = (1..whole.len()).map(|length| whole.chars().take(length).collect());
    let broken = ["", "7", "null", "jane", "[]", "{]", "\"a"].map(str::to_owned);
    let trailing = [format!("{whole}{whole}"), format!("{whole},"), format!("\"{MD5}\" x")];
    for body in cut.chain(broken).chain(trailing).chain([format!("[\"{MD5}\"]")]) {
        assert_eq!(find(&["/md5", "/0"], &body), Err(KeyError::NotAnEvent), "{body}");
    }
    let latin1 = [b"{\"name\":\"J\xe9r\xf4me\",\"md5\":\"", MD5.as_bytes(), b"\"}"].concat();
    assert_eq!(keying(&["/md5"]).key_of(&latin1), Err(KeyError::NotAnEvent));
}

#[test]
fn pointers_are_tried_in_order_and_the_first_that_leads_anywhere_decides() {
    let body = json!({"a": "no", "b": {"c/d~": [0, {"e": MD5}]}}).to_string();
    assert_eq!(find(&["/x", "/b/c~1d~0/1/e", "/a"], &body).as_deref(), Ok(MD5));
    assert_eq!(find(&["/a", "/b/c~1d~0/1/e"], &body), Err(KeyError::NotAnMd5));
    assert_eq!(find(&["/b", "/b/c~1d~0/1/e"], &body), Err(KeyError::NotAnMd5));
    assert_eq!(find(&["b", "/b/c~1d~0/01/e"], &body), missing("b, /b/c~1d~0/01/e"));
    let sixth = ["/1", "/2", "/3", "/4", "/5", "/b/c~1d~0/1/e"];
    assert_eq!(find(&sixth, &body).as_deref(), Ok(MD5));
}

#[test]
fn the_last_of_repeated_members_counts() {
    let body = format!(r#"{{"md5":"x","md5":"{MD5}"}}"#);
    assert_eq!(find(&["/md5"], &body).as_deref(), Ok(MD5));
    let body = format!(r#"{{"a":{{"md5":"{MD5}"}},"a":{{}}}}"#);
    assert_eq!(find(&["/a/md5"], &body), missing("/a/md5"));
}

#[test]
fn what_is_passed_over_is_held_to_the_grammar_only() {
    let deep = format!(r#"{{"md5":"{MD5}","x":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    let number = format!(r#"{{"x":1e999,"md5":"{MD5}"}}"#);
    let half = format!(r#"{{"x":"\ud800","md5":"{MD5}"}}"#);
    for body in [deep, number, half] {
        assert_eq!(find(&["/md5"], &body).as_deref(), Ok(MD5), "{body}");
    }
}

#[test]
fn an_unusable_key_is_replaced_where_that_is_wanted() {
    let keying = Keying::new(vec!["/md5".to_owned()], true);
    assert_eq!(keying.key_of(b"{}"), Ok(Key::digest(b"{}")));
}

/// A sink may copy a body with `is_json` as JSON without reading it again. So it must be one whole value
/// in UTF-8.
#[test]
fn only_a_body_that_was_read_to_its_end_is_proved_to_be_json() {
    let proved = |body: &[u8]| Keying::new(vec!["/md5".to_owned()], true).read(body).is_json;
    let object = format!(r#"{{"md5":"{MD5}"}}"#);
    for body in [&object, " {\n} ", r#"{"md5":7,"x":[{}]}"#, &format!("\"{MD5}\""), "\"jane\""] {
        assert!(proved(body.as_bytes()), "{body}");
    }
    for body in [
        &format!("{object},\"key\":\"0\",\"x\":{{}}"),
        &format!("{object}{object}"),
        &format!("{object}\u{a0}"),
        &format!("\u{feff}{object}"),
        object.trim_end_matches('}'),
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":01}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":NaN}",
        "\"a",
        "\"a\" b",
        MD5,
        "[]",
        "7",
        "jane",
        "",
    ] {
        assert!(!proved(body.as_bytes()), "{body}");
    }
    assert!(!proved(b"{\"a\":\"J\xe9r\xf4me\"}"));
    assert!(!proved(b"\"\xff\""));
}

/// The same search on a tree, as the reference.
fn find_in_tree(pointers: &[String], body: &str) -> Result<Key, KeyError> {
    let tree: Value = serde_json::from_str(body).map_err(|_| KeyError::NotAnEvent)?;
    let found = match &tree {
        Value::String(_) => Some(&tree),
        Value::Object(_) => pointers.iter().find_map(|pointer| tree.pointer(pointer)),
        _ => return Err(KeyError::NotAnEvent),
    };
    let found = found.ok_or_else(|| KeyError::Missing(pointers.join(", ")))?;
    found.as_str().and_then(|text| Key::from_hex(text.as_bytes())).ok_or(KeyError::NotAnMd5)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => Just(json!(MD5)),
        1 => Just(json!(null)),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (-1e6..1e6).prop_map(|number: f64| Value::from(number)),
        1 => ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::btree_map("[ab/~0]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_walk_agrees_with_the_tree(
        value in value(),
        pointers in prop::collection::vec("(/(a|b|~0|~1|~|0|1|00|)){0,3}|a", 1..7),
        pretty in any::<bool>(),
        // Without `e`, because it could make a number that is too large for a tree.
        noise in prop::option::of((any::<prop::sample::Index>(), "[^eE]")),
    ) {
        let mut body = if pretty { format!("{value:#}") } else { value.to_string() };
        if let Some((at, with)) = noise {
            let (at, old) = *at.get(&body.char_indices().collect::<Vec<_>>());
            body.replace_range(at..at + old.len_utf8(), &with);
        }
        let keying = Keying::new(pointers.clone(), false);
        let reading = keying.read(body.as_bytes());
        prop_assert_eq!(&reading.key, &find_in_tree(&pointers, &body), "{}", body);
        let may_have_a_key = body.trim_ascii_start().starts_with(['{', '"']);
        let is_json = may_have_a_key && serde_json::from_str::<Value>(&body).is_ok();
        prop_assert_eq!(reading.is_json, is_json, "{}", body);
    }
}

#[test]
fn the_place_of_the_key_is_the_pointer_that_decided() {
    let keying = keying(&["/a", "/b/0"]);
    let place = |body: &str| keying.place_of(body.replace("MD5", MD5).as_bytes());
    assert_eq!(place(r#"{"b":["MD5"]}"#), Some(KeyPlace::Pointer("/b/0")));
    assert_eq!(place(r#"{"b":["MD5"],"a":"MD5"}"#), Some(KeyPlace::Pointer("/a")));
    assert_eq!(place("MD5"), Some(KeyPlace::Body));
    assert_eq!(place("\"MD5\""), Some(KeyPlace::Body));
    assert_eq!(place(r#"{"b":["MD5"],"a":7}"#), None);
    let digest = Keying::new(vec!["/a".to_owned()], true);
    assert_eq!(digest.place_of(b"{}"), Some(KeyPlace::Digest));
}
