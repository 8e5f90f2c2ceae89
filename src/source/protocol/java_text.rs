//! Converts between UTF-8 and the modified UTF-8 that Java writes.

use std::borrow::Cow;

/// Decodes Java's text for people. Keeps UTF-8, repairs modified UTF-8 as [`repair_cesu8`] does, and puts
/// U+FFFD in place of other bytes.
pub fn java_text(text: &[u8]) -> Cow<'_, str> {
    match repair_cesu8(text).map(String::from_utf8) {
        Some(Ok(repaired)) => Cow::Owned(repaired),
        _ => String::from_utf8_lossy(text),
    }
}

/// Encodes `text` in Java's modified UTF-8, the form that [`repair_cesu8`] repairs.
pub fn java_bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0' => out.extend([0xC0, 0x80]),
            '\u{1_0000}'.. => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.extend([
                        0xE0 | (*unit >> 12) as u8,
                        0x80 | (*unit >> 6 & 0x3F) as u8,
                        0x80 | (*unit & 0x3F) as u8,
                    ]);
                }
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

/// Repairs CESU-8. Brokers before 5.18.6 and 6.1.4 pass on Java's modified UTF-8, in which a character beyond
/// U+FFFF is a pair of three-byte surrogates, and U+0000 is `C0 80` (AMQ-8398; `protocols.md §0.10`). Returns
/// `None` when the text is UTF-8 already, or is neither.
pub fn repair_cesu8(text: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(text).err()?;
    let mut repaired = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(_) => {
                repaired.extend_from_slice(rest);
                break;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                repaired.extend_from_slice(good);
                let (character, length) = java_character(bad)?;
                repaired.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &bad[length..];
            }
        }
    }
    Some(repaired)
}

fn java_character(bytes: &[u8]) -> Option<(char, usize)> {
    if bytes.starts_with(&[0xC0, 0x80]) {
        return Some(('\0', 2));
    }
    let high = surrogate(bytes.get(..3)?, 0xA0)?;
    let low = surrogate(bytes.get(3..6)?, 0xB0)?;
    char::from_u32(0x1_0000 + (high << 10) + low).map(|character| (character, 6))
}

/// Returns the ten bits of a surrogate written as three bytes; `half` is 0xA0 for high, 0xB0 for low.
fn surrogate(bytes: &[u8], half: u8) -> Option<u32> {
    match *bytes {
        [0xED, second, third] if second & 0xF0 == half && third & 0xC0 == 0x80 => {
            Some(u32::from(second & 0x0F) << 6 | u32::from(third & 0x3F))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn as_java_writes(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for unit in text.encode_utf16() {
            match unit {
                0 => bytes.extend([0xC0, 0x80]),
                1..0x80 => bytes.push(unit as u8),
                0x80..0x800 => bytes.extend([0xC0 | (unit >> 6) as u8, 0x80 | (unit & 0x3F) as u8]),
                _ => bytes.extend([
                    0xE0 | (unit >> 12) as u8,
                    0x80 | (unit >> 6 & 0x3F) as u8,
                    0x80 | (unit & 0x3F) as u8,
                ]),
            }
        }
        bytes
    }

    #[test]
    fn what_is_neither_is_left_alone() {
        assert_eq!(repair_cesu8(b"plain"), None);
        assert_eq!(repair_cesu8(b"\xFF\xFE"), None);
        assert_eq!(repair_cesu8(b"lone \xED\xA0\xBD surrogate"), None);
        assert_eq!(repair_cesu8(b"cut \xED\xA0\xBD\xED\xB8"), None);
        assert_eq!(repair_cesu8(b"\xED\xA0\xBD\xED\xB8\x80").as_deref(), Some("\u{1F600}".as_bytes()));
    }

    #[test]
    fn what_is_neither_is_shown_with_replacements() {
        assert_eq!(java_text(b"a\xFF"), "a\u{FFFD}");
        assert_eq!(java_text(b"\xED\xA0\xBD\xED\xB8\x80\xC0\x80"), "\u{1F600}\0");
    }

    proptest! {
        #[test]
        fn any_text_of_java_is_repaired(text in ".*") {
            let java = as_java_writes(&text);
            prop_assert_eq!(java_text(&java), text.as_str());
            let repaired = repair_cesu8(&java).unwrap_or(java);
            prop_assert_eq!(repaired, text.into_bytes());
        }

        #[test]
        fn any_text_is_written_as_java_writes_it(text in ".*") {
            prop_assert_eq!(java_bytes(&text), as_java_writes(&text));
        }
    }
}
