//! Fuzzes the configuration with any file and any variables. Loading must not panic, must give the same answer
//! twice, and must not let the input forge a line of an error.
//!
//! The input is a file, and after each zero byte a variable.

#![no_main]

use std::cell::RefCell;
use std::io::Write;

use atdata_bridge::config::{DATA_VARIABLE, SinkRegistry, load};
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;

thread_local! {
    static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("create a file"));
}

fn variable(bytes: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(bytes);
    let (name, value) = text.split_once('=').unwrap_or((&text, ""));
    (name.to_owned(), value.to_owned())
}

/// What a person gets to see.
fn answer(file: &NamedTempFile, variables: &[(String, String)]) -> String {
    let sinks = SinkRegistry::built_in();
    match load(&sinks, Some(file.path()), variables.iter().cloned()) {
        Ok(loaded) => {
            for option in &loaded.effective {
                serde_json::to_string(&option.value).expect("JSON");
                assert!(!option.key.is_empty());
            }
            loaded.warnings.join("\n")
        }
        Err(errors) => {
            let text = errors.to_string();
            assert!(!text.is_empty());
            text
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.split(|byte| *byte == 0);
    let content = parts.next().unwrap_or_default();
    let mut variables: Vec<_> = parts.map(variable).collect();
    // A directory for data that the input chooses would be read.
    variables.retain(|(name, _)| name != DATA_VARIABLE);
    FILE.with_borrow_mut(|file| {
        file.as_file().set_len(0).expect("empty the file");
        std::io::Seek::rewind(file).expect("go back");
        file.write_all(content).expect("write the file");
        let text = answer(file, &variables);
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text:?}");
        assert_eq!(text, answer(file, &variables));
    });
});
