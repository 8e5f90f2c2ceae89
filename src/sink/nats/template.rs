//! Makes subjects and message ids from templates.

use std::fmt;
use std::num::NonZeroU32;

use crate::event::Event;
use crate::sink::SinkContext;

/// The placeholder for the namespace.
pub(super) const NAMESPACE: &str = "{namespace}";
/// The placeholder for the destination id.
pub(super) const DESTINATION_ID: &str = "{destination_id}";
/// The placeholder for the broker's message id.
pub(super) const MESSAGE_ID: &str = "{message_id}";
const KEY: &str = "{key}";
const PARTITION: &str = "{partition}";
/// The number of hex digits of a key.
const KEY_DIGITS: usize = 32;

/// The beginnings of subjects that the server reserves: no client may publish there.
const RESERVED: [&str; 2] = ["$", "_INBOX."];

/// A checked subject template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SubjectTemplate {
    text: String,
    has_partition: bool,
}

impl SubjectTemplate {
    /// # Errors
    /// The template is not valid; the text says why, for the operator.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let known = [NAMESPACE, DESTINATION_ID, KEY, PARTITION];
        check_placeholders(text, &known)?;
        if let Some(bad) = text.chars().find(|&c| c.is_whitespace() || c.is_control() || c == '*' || c == '>')
        {
            return Err(format!(
                "{bad:?} is not allowed: events are published to a subject without wildcards"
            ));
        }
        if text.split('.').any(str::is_empty) {
            return Err("a part between two dots is empty".to_owned());
        }
        if RESERVED.iter().any(|reserved| text.starts_with(reserved)) {
            return Err("subjects that begin with `$` or `_INBOX.` belong to the server".to_owned());
        }
        Ok(Self { text: text.to_owned(), has_partition: text.contains(PARTITION) })
    }

    /// Returns whether the template needs a fixed number of partitions.
    pub(super) fn has_partition(&self) -> bool {
        self.has_partition
    }

    /// Fills in the values that are the same for all events.
    pub(super) fn bind(&self, context: &SinkContext) -> Subject {
        let text = fill_in(&self.text, context);
        Subject { pieces: pieces(&text), partitions: context.partitions }
    }
}

impl fmt::Display for SubjectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A subject in which only the parts that depend on the event are still placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pieces: Vec<TemplatePart>,
    partitions: Option<NonZeroU32>,
}

/// A part of a bound subject: text or a placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TemplatePart {
    Text(String),
    Key,
    Partition,
}

impl Subject {
    /// Returns the subject of one event.
    pub(super) fn of(&self, event: &Event) -> String {
        let mut subject = String::with_capacity(64);
        for piece in &self.pieces {
            match piece {
                TemplatePart::Text(text) => subject.push_str(text),
                TemplatePart::Key => subject.extend(event.key.hex().into_iter().map(char::from)),
                // Without a number of partitions, the checked settings allow no `{partition}` in the
                // template.
                TemplatePart::Partition => {
                    let partition = self.partitions.map_or(0, |partitions| event.key.partition(partitions));
                    subject.push_str(&partition.to_string());
                }
            }
        }
        subject
    }

    /// Returns the subject as a subscription would name it, with `*` for each part that depends on the event.
    pub(super) fn pattern(&self) -> String {
        let tokens = self.tokens(None);
        let shown = tokens.iter().map(|token| token.as_deref().unwrap_or("*"));
        shown.collect::<Vec<_>>().join(".")
    }

    /// Returns the parts between the dots; `None` for a part that can have any value. `partition` fills in
    /// the partition.
    pub(super) fn tokens(&self, partition: Option<u32>) -> Vec<Option<String>> {
        let mut tokens = vec![Some(String::new())];
        for piece in &self.pieces {
            match (piece, partition) {
                (TemplatePart::Text(text), _) => append(&mut tokens, text),
                (TemplatePart::Partition, Some(number)) => append(&mut tokens, &number.to_string()),
                (TemplatePart::Partition | TemplatePart::Key, _) => {
                    tokens.pop();
                    tokens.push(None);
                }
            }
        }
        tokens
    }

    /// Returns a subject that a server has named, without the key, because a key identifies a person (D14).
    /// If the text is not one of these subjects, returns the subject with its placeholders instead.
    pub(super) fn without_key(&self, named: &str) -> String {
        self.try_without_key(named).unwrap_or_else(|| self.to_string())
    }

    fn try_without_key(&self, named: &str) -> Option<String> {
        let (mut shown, mut rest) = (String::new(), named);
        for piece in &self.pieces {
            let behind = match piece {
                TemplatePart::Text(text) => rest.strip_prefix(text.as_str())?,
                TemplatePart::Key => {
                    rest.get(..KEY_DIGITS).filter(|key| is_hex(key)).and_then(|key| rest.strip_prefix(key))?
                }
                TemplatePart::Partition => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
            };
            match piece {
                TemplatePart::Key => shown.push_str(KEY),
                _ => shown.push_str(rest.strip_suffix(behind)?),
            }
            rest = behind;
        }
        rest.is_empty().then_some(shown)
    }

    /// Returns the number of partitions, if the subject depends on it.
    pub(super) fn partitions(&self) -> Option<NonZeroU32> {
        self.partitions.filter(|_| self.pieces.contains(&TemplatePart::Partition))
    }
}

/// Shows the subject with its placeholders.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| {
            f.write_str(match piece {
                TemplatePart::Text(text) => text,
                TemplatePart::Key => KEY,
                TemplatePart::Partition => PARTITION,
            })
        })
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn append(tokens: &mut Vec<Option<String>>, text: &str) {
    for (n, part) in text.split('.').enumerate() {
        if n > 0 {
            tokens.push(Some(String::new()));
        }
        if let Some(Some(token)) = tokens.last_mut() {
            token.push_str(part);
        }
    }
}

fn pieces(text: &str) -> Vec<TemplatePart> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let next = [(KEY, TemplatePart::Key), (PARTITION, TemplatePart::Partition)]
            .into_iter()
            .filter_map(|(name, piece)| Some((rest.split_once(name)?, piece)))
            .min_by_key(|((before, _), _)| before.len());
        let (before, piece, behind) = match next {
            Some(((before, behind), piece)) => (before, Some(piece), behind),
            None => (rest, None, ""),
        };
        if !before.is_empty() {
            pieces.push(TemplatePart::Text(before.to_owned()));
        }
        pieces.extend(piece);
        rest = behind;
    }
    pieces
}

/// A checked template of `Nats-Msg-Id`, by which the server recognises a duplicate (D7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdTemplate(String);

impl IdTemplate {
    /// # Errors
    /// The template is not valid; the text says why, for the operator.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        check_placeholders(text, &[NAMESPACE, DESTINATION_ID, MESSAGE_ID])?;
        if text.matches(MESSAGE_ID).count() != 1 {
            return Err(format!(
                "must hold {MESSAGE_ID} once: without it the server would drop events as doubles"
            ));
        }
        match text.chars().find(|c| !c.is_ascii_graphic()) {
            Some(bad) => Err(format!("{bad:?} is not allowed: visible ASCII characters only")),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Fills in the values that are the same for all events.
    pub(super) fn bind(&self, context: &SinkContext) -> RenderedId {
        let text = fill_in(&self.0, context);
        let (before, behind) = text.split_once(MESSAGE_ID).unwrap_or((&text, ""));
        RenderedId { before: escape(before.as_bytes()), behind: escape(behind.as_bytes()) }
    }
}

/// Makes the value of `Nats-Msg-Id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RenderedId {
    before: String,
    behind: String,
}

impl RenderedId {
    /// Returns the value for an id. Different ids give different values, whatever bytes they contain. `None`
    /// for an event without an id: it must not count as a duplicate of another one.
    pub(super) fn of(&self, id: &[u8]) -> Option<String> {
        if id.is_empty() {
            return None;
        }
        Some([self.before.as_str(), &escape(id), &self.behind].concat())
    }
}

/// Writes `%` and every byte that is not visible ASCII as `%XX`. A line end would end the header's value, and
/// spaces at its start and end would be lost.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            push_escaped(&mut text, byte);
        }
    }
    text
}

/// Returns a value for a header. Control characters, which a header can't contain, become `%XX`.
pub(super) fn header_value(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains(char::is_control) {
        return text.into_owned();
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_escaped(&mut clean, byte));
        } else {
            clean.push(character);
        }
    }
    clean
}

fn push_escaped(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn fill_in(text: &str, context: &SinkContext) -> String {
    text.replace(NAMESPACE, &context.namespace).replace(DESTINATION_ID, &context.destination_id)
}

fn check_placeholders(text: &str, known: &[&str]) -> Result<(), String> {
    let bare = known.iter().fold(text.to_owned(), |text, name| text.replace(name, ""));
    if bare.contains(['{', '}']) {
        return Err(format!("this placeholder is not known here: {}", known.join(", ")));
    }
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Headers, Message};
    use crate::key::Keying;

    fn context(partitions: Option<u32>) -> SinkContext {
        SinkContext {
            sink: "nats".to_owned(),
            namespace: "acme".to_owned(),
            destination_id: "main".to_owned(),
            connection_id: "b-0".to_owned(),
            queue: "main.RTO.acme".to_owned(),
            partitions: partitions.and_then(NonZeroU32::new),
            max_body: 4 << 20,
            ..SinkContext::default()
        }
    }

    fn event() -> Event {
        let message = Message {
            id: Bytes::from_static(b"ID:a-1:1:1:1:7"),
            body: Bytes::from_static(b"9e107d9d372bb6826bd81d3542a419d6"),
            timestamp: None,
            redelivered: false,
            headers: Headers::empty(),
            unreadable: None,
        };
        Event::new(message, &Keying::new(vec!["/md5".to_owned()], false))
    }

    #[test]
    fn placeholders_are_filled_in() {
        let twelve = NonZeroU32::new(12).unwrap();
        let partition = event().key.partition(twelve);
        for (template, subject, pattern) in [
            ("events", "events".to_owned(), "events"),
            ("atdata.{namespace}.{destination_id}", "atdata.acme.main".to_owned(), "atdata.acme.main"),
            ("e.{key}.x", "e.9e107d9d372bb6826bd81d3542a419d6.x".to_owned(), "e.*.x"),
            ("e.p{partition}", format!("e.p{partition}"), "e.*"),
            ("{partition}.{key}", format!("{partition}.9e107d9d372bb6826bd81d3542a419d6"), "*.*"),
            ("a{key}b{partition}c.d", format!("a9e107d9d372bb6826bd81d3542a419d6b{partition}c.d"), "*.d"),
        ] {
            let bound = SubjectTemplate::parse(template).unwrap().bind(&context(Some(12)));
            assert_eq!(bound.of(&event()), subject);
            assert_eq!(bound.pattern(), pattern);
        }
    }

    /// D14: the server's error text contains the key of a person.
    #[test]
    fn a_subject_is_shown_with_all_but_its_key() {
        let key = "9e107d9d372bb6826bd81d3542a419d6";
        for (template, named, shown) in [
            ("e.{namespace}.{key}", format!("e.acme.{key}"), "e.acme.{key}"),
            ("e.{key}.p{partition}", format!("e.{key}.p11"), "e.{key}.p11"),
            ("e.{namespace}", "e.acme".to_owned(), "e.acme"),
            ("e.{partition}{key}", format!("e.7{key}"), "e.{partition}{key}"),
            ("e.{namespace}.{key}", format!("other.{key}"), "e.acme.{key}"),
            ("e.{key}", format!("e.{key}0"), "e.{key}"),
            ("e.{key}", "e.é".repeat(20), "e.{key}"),
        ] {
            let bound = SubjectTemplate::parse(template).unwrap().bind(&context(Some(12)));
            assert_eq!(bound.without_key(&named), shown);
        }
    }

    #[test]
    fn subjects_that_nobody_may_publish_to_are_refused() {
        for (template, part) in [
            ("", "empty"),
            ("a..b", "empty"),
            (".a", "empty"),
            ("a.", "empty"),
            ("a.*", "wildcards"),
            ("a.>", "wildcards"),
            ("a b", "not allowed"),
            ("a\u{0}b", "not allowed"),
            ("$JS.API.x", "belong to the server"),
            ("_INBOX.x", "belong to the server"),
            ("a.{kye}", "placeholder"),
            ("a.{message_id}", "placeholder"),
            ("a.{key", "placeholder"),
        ] {
            let error = SubjectTemplate::parse(template).unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
        }
    }

    #[test]
    fn a_message_id_can_be_told_from_every_other() {
        let bound = |text: &str| IdTemplate::parse(text).unwrap().bind(&context(None));
        assert_eq!(bound(MESSAGE_ID).of(b"ID:a-1:1:1:1:7").unwrap(), "ID:a-1:1:1:1:7");
        assert_eq!(bound("{destination_id}/{message_id}").of(b" x%\r\n").unwrap(), "main/%20x%25%0D%0A");
        assert_eq!(bound("x{message_id}").of(b""), None, "events without an id are no doubles of each other");
        for template in ["", "fixed", "{key}", "{message_id}{message_id}", "{message_id} "] {
            IdTemplate::parse(template).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn different_ids_stay_different(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            let id = IdTemplate::parse("{namespace}{message_id}").unwrap().bind(&context(None));
            prop_assert_eq!(id.of(&a) == id.of(&b), a == b);
            prop_assert!(id.of(&a).is_none_or(|text| text.bytes().all(|byte| byte.is_ascii_graphic())));
        }

        #[test]
        fn no_key_is_ever_shown(key in "[0-9a-f]{32}", partition in 0..20_u32, template in prop::sample::select(
            vec!["e.{key}", "{partition}{key}", "{key}{partition}", "{key}.{partition}", "p{partition}.{key}.x"],
        )) {
            let bound = SubjectTemplate::parse(template).unwrap().bind(&context(Some(12)));
            let named = template.replace(KEY, &key).replace(PARTITION, &partition.to_string());
            prop_assert!(!bound.without_key(&named).contains(&key));
        }

        #[test]
        fn a_header_holds_one_line(bytes in any::<Vec<u8>>(), clean in "[ -~é]*") {
            prop_assert!(!header_value(&bytes).contains(char::is_control));
            prop_assert_eq!(header_value(clean.as_bytes()), clean);
        }
    }
}
