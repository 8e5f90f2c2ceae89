//! Makes text from outside safe to show in a log line, on a page or in a terminal: one line, escaped,
//! bounded.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use jiff::Timestamp;

/// The most characters of one text that are shown.
const LONGEST: usize = 1000;

/// Returns `text` as one line of at most 1,000 characters. Shows line feeds, other control characters and
/// those that change the direction of writing as escapes, so that no foreign text can forge a line of the
/// log.
pub fn one_line(text: &str) -> Cow<'_, str> {
    excerpt(text, LONGEST)
}

/// Does the same with at most `most` characters of the text.
pub fn excerpt(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most && !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().min(most));
    for (count, character) in text.chars().enumerate() {
        if count == most {
            shown.push('…');
            break;
        }
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // Writing into a string can't fail.
            character if is_unsafe(character) => drop(write!(shown, "\\u{{{:x}}}", u32::from(character))),
            character => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// Control characters, the separators of lines and paragraphs, and characters that change the direction of
/// writing.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns a time in RFC 3339, in UTC with milliseconds, as dead letters have it.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Returns a message which says that a file can't be read, and why, and how to correct it where that is
/// known.
pub fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("{} can't be read: {}", path.display(), why_unreadable(error))
}

/// Returns the reason why a file can't be read, without the number of the error.
pub fn why_unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::IsADirectory => "it is a directory: name the file in it".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        // The error number tells nothing more than the error's text.
        _ => error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_begin_another_line_is_escaped() {
        assert_eq!(one_line("ID:1\n2026 ERROR \u{1b}[31m\u{202e}"), "ID:1\\n2026 ERROR \\u{1b}[31m\\u{202e}");
        assert!(matches!(one_line("ID:host-1:2"), Cow::Borrowed("ID:host-1:2")));
    }

    #[test]
    fn an_excerpt_may_be_the_whole_text() {
        let text = "x\n".repeat(LONGEST);
        assert_eq!(excerpt(&text, usize::MAX), r"x\n".repeat(LONGEST));
    }

    proptest! {
        #[test]
        fn is_always_one_bounded_line(text in ".{0,3000}") {
            let shown = one_line(&text);
            prop_assert!(!shown.chars().any(is_unsafe));
            prop_assert!(shown.chars().count() <= 10 * LONGEST);
            if text.chars().count() <= LONGEST && !text.chars().any(is_unsafe) {
                prop_assert_eq!(shown, text.as_str());
            }
        }
    }
}
