//! Makes subjects and message ids from templates.

use std::fmt;
use std::num::NonZeroU32;

use crate::event::Event;
use crate::sink::SinkContext;
use crate::template::{Placeholder, Template, TemplatePart, percent_encoded};

const KEY_DIGITS: usize = 32;

/// The beginnings of subjects that the server reserves: no client may publish there.
const RESERVED: [&str; 2] = ["$", "_INBOX."];

fn parse(text: &str, known: &[Placeholder]) -> Result<Template, String> {
    let template = Template::parse(text, known).map_err(|_| {
        let known: Vec<&str> = known.iter().map(|placeholder| placeholder.text()).collect();
        format!("this placeholder is not known here: {}", known.join(", "))
    })?;
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(template) }
}

/// Fills in the values that are the same for all events.
fn bind(template: &Template, context: &SinkContext) -> Template {
    template.bind(|placeholder| match placeholder {
        Placeholder::Namespace => Some(context.namespace.clone()),
        Placeholder::DestinationId => Some(context.destination_id.clone()),
        _ => None,
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SubjectTemplate(Template);

impl SubjectTemplate {
    /// Parses and checks a template. An error says for the operator what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        use Placeholder::{DestinationId, Key, Namespace, Partition};
        let template = parse(text, &[Namespace, DestinationId, Key, Partition])?;
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
        Ok(Self(template))
    }

    /// Returns whether the template needs a fixed number of partitions.
    pub(super) fn has_partition(&self) -> bool {
        self.0.has(Placeholder::Partition)
    }

    pub(super) fn bind(&self, context: &SinkContext) -> Subject {
        Subject { template: bind(&self.0, context), partitions: context.partitions }
    }

    /// Returns the subjects of all subscriptions of a bridge: mirrored ones have several destination ids.
    pub(super) fn pattern_of_all(&self, context: &SinkContext) -> String {
        let namespace =
            |placeholder| (placeholder == Placeholder::Namespace).then(|| context.namespace.clone());
        Subject { template: self.0.bind(namespace), partitions: context.partitions }.pattern()
    }
}

impl fmt::Display for SubjectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A subject in which only the parts that depend on the event are still placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    template: Template,
    partitions: Option<NonZeroU32>,
}

impl Subject {
    pub(super) fn of(&self, event: &Event) -> String {
        self.template.expand(|subject, placeholder| {
            if placeholder == Placeholder::Key {
                subject.extend(event.key.hex().into_iter().map(char::from));
            } else {
                // Without a number of partitions, the checked settings allow no `{partition}` in the template.
                let partition = self.partitions.map_or(0, |partitions| event.key.partition(partitions));
                subject.push_str(&partition.to_string());
            }
        })
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
        for part in self.template.parts() {
            match (part, partition) {
                (TemplatePart::Text(text), _) => append(&mut tokens, text),
                (TemplatePart::Placeholder(Placeholder::Partition), Some(number)) => {
                    append(&mut tokens, &number.to_string());
                }
                (TemplatePart::Placeholder(_), _) => {
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
        for part in self.template.parts() {
            let behind = match part {
                TemplatePart::Text(text) => rest.strip_prefix(text.as_str())?,
                TemplatePart::Placeholder(Placeholder::Key) => {
                    rest.get(..KEY_DIGITS).filter(|key| is_hex(key)).and_then(|key| rest.strip_prefix(key))?
                }
                TemplatePart::Placeholder(_) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
            };
            match part {
                TemplatePart::Placeholder(key @ Placeholder::Key) => shown.push_str(key.text()),
                _ => shown.push_str(rest.strip_suffix(behind)?),
            }
            rest = behind;
        }
        rest.is_empty().then_some(shown)
    }

    /// Returns the number of partitions, if the subject depends on it.
    pub(super) fn partitions(&self) -> Option<NonZeroU32> {
        self.partitions.filter(|_| self.template.has(Placeholder::Partition))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.template.fmt(f)
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

/// A checked template of `Nats-Msg-Id`, by which the server recognises a duplicate (D7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdTemplate(Template);

impl IdTemplate {
    /// Parses and checks a template. An error says for the operator what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        use Placeholder::{DestinationId, MessageId, Namespace};
        let template = parse(text, &[Namespace, DestinationId, MessageId])?;
        if text.matches(MessageId.text()).count() != 1 {
            return Err(
                "must hold {message_id} once: without it the server would drop events as doubles".to_owned()
            );
        }
        match text.chars().find(|c| !c.is_ascii_graphic()) {
            Some(bad) => Err(format!("{bad:?} is not allowed: visible ASCII characters only")),
            None => Ok(Self(template)),
        }
    }

    pub(super) fn bind(&self, context: &SinkContext) -> RenderedId {
        let text = bind(&self.0, context).to_string();
        let (before, behind) = text.split_once(Placeholder::MessageId.text()).unwrap_or((&text, ""));
        RenderedId { before: escape(before.as_bytes()), behind: escape(behind.as_bytes()) }
    }
}

impl fmt::Display for IdTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
    percent_encoded(bytes, |byte| byte.is_ascii_graphic() && byte != b'%')
}

/// Returns a value for a header. Control characters, which a header can't contain, become `%XX`.
pub(super) fn header_value(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains(char::is_control) {
        return text.into_owned();
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character.is_control() {
            true => clean.push_str(&percent_encoded(character.to_string().as_bytes(), |_| false)),
            false => clean.push(character),
        }
    }
    clean
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
            namespace: "acme".to_owned(),
            destination_id: "main".to_owned(),
            partitions: partitions.and_then(NonZeroU32::new),
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
    fn one_pattern_has_the_subjects_of_all_subscriptions() {
        for (template, pattern) in [
            ("dead", "dead"),
            ("{namespace}.{destination_id}.{key}", "acme.*.*"),
            ("dead.x{destination_id}", "dead.*"),
        ] {
            assert_eq!(SubjectTemplate::parse(template).unwrap().pattern_of_all(&context(None)), pattern);
        }
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
        assert_eq!(bound("{message_id}").of(b"ID:a-1:1:1:1:7").unwrap(), "ID:a-1:1:1:1:7");
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
            let named = template.replace("{key}", &key).replace("{partition}", &partition.to_string());
            prop_assert!(!bound.without_key(&named).contains(&key));
        }

        #[test]
        fn a_header_holds_one_line(bytes in any::<Vec<u8>>(), clean in "[ -~é]*") {
            prop_assert!(!header_value(&bytes).contains(char::is_control));
            prop_assert_eq!(header_value(clean.as_bytes()), clean);
        }
    }
}
