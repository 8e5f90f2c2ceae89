//! Fuzzes the search for the key with any body, and compares the key with the one found in a JSON tree. Where
//! `serde_json` builds no tree, nothing is compared; `key::extract` documents which of these bodies still
//! have a key.

#![no_main]

use std::sync::LazyLock;

use atdata_bridge::key::{Key, KeyError, Keying};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const POINTERS: [&str; 3] = ["/md5", "/a/0/b", "/a~1b/~0"];

static KEYING: LazyLock<Keying> = LazyLock::new(|| Keying::new(POINTERS.map(str::to_owned).to_vec(), false));

/// The expected key; `None` if there is no tree.
fn by_tree(body: &[u8]) -> Option<Result<Key, &'static str>> {
    if let Some(key) = Key::from_hex(body.trim_ascii()) {
        return Some(Ok(key));
    }
    let tree: Value = serde_json::from_slice(body).ok()?;
    let key_in = |value: &Value| value.as_str().and_then(|text| Key::from_hex(text.as_bytes()));
    Some(match &tree {
        Value::String(_) => key_in(&tree).ok_or("key_not_an_md5"),
        Value::Object(_) => match POINTERS.iter().find_map(|pointer| tree.pointer(pointer)) {
            Some(value) => key_in(value).ok_or("key_not_an_md5"),
            None => Err("key_missing"),
        },
        _ => Err("not_an_event"),
    })
}

fuzz_target!(|body: &[u8]| {
    let found = KEYING.key_of(body).map_err(|defect: KeyError| defect.reason());
    if let Some(expected) = by_tree(body) {
        assert_eq!(found, expected);
    }
});
