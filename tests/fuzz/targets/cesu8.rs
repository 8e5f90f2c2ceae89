//! Fuzzes the repair of Java's text with any bytes. Repaired text is UTF-8, was not UTF-8 before, and is what
//! Java writes for it.

#![no_main]

use atdata_bridge::source::protocol::java_text::repair_cesu8;
use libfuzzer_sys::fuzz_target;

/// Java's modified UTF-8: NUL in two bytes, a character beyond U+FFFF as two surrogates.
fn as_java_writes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for character in text.chars() {
        match character {
            '\0' => bytes.extend([0xC0, 0x80]),
            '\u{1_0000}'.. => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    bytes.extend([0xED, 0x80 | (*unit >> 6 & 0x3F) as u8, 0x80 | (*unit & 0x3F) as u8]);
                }
            }
            _ => bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    if let Some(repaired) = repair_cesu8(input) {
        let text = std::str::from_utf8(&repaired).expect("repaired text is UTF-8");
        assert!(std::str::from_utf8(input).is_err(), "valid UTF-8 was changed");
        assert!(repaired.len() < input.len());
        let java = as_java_writes(text);
        assert_eq!(repair_cesu8(&java).unwrap_or(java), repaired);
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let java = as_java_writes(text);
        assert_eq!(repair_cesu8(&java).unwrap_or(java), input);
    }
});
