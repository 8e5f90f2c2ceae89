//! Finds the MD5s in bodies without a usable key, to suggest JSON pointers for `event.keys`. Shows names of
//! members, never values (D14).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::Key;

/// The most bodies that are searched. By then it is clear what they have in common.
const MOST_BODIES: u32 = 100;

/// Larger bodies are not searched, because a JSON tree takes many times the size of its body (I4).
const LARGEST: usize = 64 << 10;

/// The most different pointers that are counted.
const MOST_PLACES: usize = 64;

/// The most pointers that are shown.
const MOST_SHOWN: usize = 3;

/// The longest pointer that is counted, in bytes, and the most steps it may have.
const LONGEST: usize = 200;
const DEEPEST: usize = 8;

/// Counts where MD5s stand in the bodies seen so far.
#[derive(Clone, Debug, Default)]
pub struct Suggestions {
    bodies: u32,
    /// JSON pointers, each with the number of bodies that have an MD5 there.
    places: BTreeMap<String, u32>,
}

impl Suggestions {
    /// Searches one more body. Ignores all bodies after the first hundred.
    pub fn add(&mut self, body: &[u8]) {
        if self.bodies == MOST_BODIES {
            return;
        }
        self.bodies += 1;
        if body.len() > LARGEST {
            return;
        }
        if let Ok(value) = serde_json::from_slice(body) {
            self.walk(&value, &mut String::new(), 0);
        }
    }

    /// Whether no MD5 was found in any body.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns what to do: the setting to write, if an MD5 was found.
    pub fn advice(&self) -> String {
        match self.pointers().first() {
            Some(pointer) => format!("set event.keys = [\"{pointer}\"]"),
            None => "ask AtData what these events are".to_owned(),
        }
    }

    /// Returns the pointers where MD5s were found, the most frequent first.
    pub fn pointers(&self) -> Vec<&str> {
        self.by_count().into_iter().map(|(pointer, _)| pointer).collect()
    }

    fn walk(&mut self, value: &Value, pointer: &mut String, depth: usize) {
        if depth > DEEPEST || pointer.len() > LONGEST {
            return;
        }
        match value {
            Value::String(text) if Key::from_hex(text.as_bytes()).is_some() => self.count(pointer),
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.step(element, &index.to_string(), pointer, depth);
                }
            }
            Value::Object(members) => {
                for (name, member) in members.iter().filter(|(name, _)| is_a_name(name)) {
                    self.step(member, &name.replace('~', "~0").replace('/', "~1"), pointer, depth);
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, value: &Value, token: &str, pointer: &mut String, depth: usize) {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(token);
        self.walk(value, pointer, depth + 1);
        pointer.truncate(length);
    }

    fn count(&mut self, pointer: &str) {
        if let Some(count) = self.places.get_mut(pointer) {
            *count += 1;
        } else if self.places.len() < MOST_PLACES {
            self.places.insert(pointer.to_owned(), 1);
        }
    }

    fn by_count(&self) -> Vec<(&str, u32)> {
        let mut places: Vec<_> =
            self.places.iter().map(|(pointer, count)| (pointer.as_str(), *count)).collect();
        places.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        places
    }
}

/// Whether a member's name tells nothing about a person. Some bodies have addresses or hashes as names.
fn is_a_name(name: &str) -> bool {
    !name.contains('@') && Key::from_hex(name.as_bytes()).is_none()
}

/// Writes texts such as "`/email/md5` holds an MD5 in 98 of 100".
impl fmt::Display for Suggestions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bodies = self.bodies;
        if self.is_empty() {
            return write!(f, "no member of their bodies holds an MD5, in {bodies} looked at");
        }
        for (number, (pointer, count)) in self.by_count().into_iter().take(MOST_SHOWN).enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}`{pointer}` holds an MD5 in {count} of {bodies}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MD5: &str = "9e107d9d372bb6826bd81d3542a419d6";

    fn of(bodies: &[&str]) -> Suggestions {
        let mut suggestions = Suggestions::default();
        bodies.iter().for_each(|body| suggestions.add(body.replace("MD5", MD5).as_bytes()));
        suggestions
    }

    #[test]
    fn members_with_an_md5_are_named_the_most_frequent_first() {
        let found = of(&[
            r#"{"email":{"md5":"MD5"},"other":"MD5"}"#,
            r#"{"email":{"md5":"MD5"},"a/b~":["x","MD5"]}"#,
            "not JSON",
        ]);
        assert_eq!(found.pointers(), ["/email/md5", "/a~1b~0/1", "/other"]);
        let said = "`/email/md5` holds an MD5 in 2 of 3, `/a~1b~0/1` holds an MD5 in 1 of 3, \
                    `/other` holds an MD5 in 1 of 3";
        assert_eq!(found.to_string(), said);
        assert_eq!(of(&["{}"]).to_string(), "no member of their bodies holds an MD5, in 1 looked at");
    }

    #[test]
    fn no_value_and_no_name_of_a_person_is_shown() {
        let found = of(&[r#"{"jane@example.com":"MD5","MD5":"MD5","x":{"jane@example.com":["MD5"]}}"#]);
        assert!(found.is_empty(), "{found}");
        assert!(!of(&[r#"{"md5":"MD5"}"#]).to_string().contains(MD5));
    }

    #[test]
    fn no_more_than_a_hundred_bodies_are_looked_into() {
        let found = of(&[r#"{"a":"MD5"}"#; 250]);
        assert_eq!(found.to_string(), "`/a` holds an MD5 in 100 of 100");
    }

    #[test]
    fn a_large_body_is_not_made_a_tree_of() {
        let large = format!(r#"{{"md5":"{MD5}","x":"{}"}}"#, "x".repeat(LARGEST));
        assert_eq!(of(&[&large]).to_string(), "no member of their bodies holds an MD5, in 1 looked at");
    }

    proptest! {
        #[test]
        fn memory_is_bounded_whatever_comes(names in prop::collection::vec("[a-z]{1,300}", 0..300)) {
            let mut suggestions = Suggestions::default();
            for name in &names {
                suggestions.add(format!(r#"{{"{name}":"{MD5}"}}"#).as_bytes());
            }
            prop_assert!(suggestions.places.len() <= MOST_PLACES);
            prop_assert!(suggestions.places.keys().all(|place| place.len() <= LONGEST + 302));
        }
    }
}
