//! Parses and fills in templates, such as `events.{namespace}.{key}`: text with placeholders, for the names of
//! files and for subjects.

use std::fmt;

/// All placeholders. Each kind of template knows only some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    ConnectionId,
    Date,
    DestinationId,
    Hour,
    Key,
    MessageId,
    Namespace,
    Partition,
}

impl Placeholder {
    /// Returns the placeholder as it stands in a template, with its braces.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ConnectionId => "{connection_id}",
            Self::Date => "{date}",
            Self::DestinationId => "{destination_id}",
            Self::Hour => "{hour}",
            Self::Key => "{key}",
            Self::MessageId => "{message_id}",
            Self::Namespace => "{namespace}",
            Self::Partition => "{partition}",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    Text(String),
    Placeholder(Placeholder),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<TemplatePart>);

impl Template {
    /// Parses a template that may hold the placeholders `known`, of which there is at least one.
    ///
    /// # Errors
    /// The mistake in the template, and what is allowed.
    pub fn parse(text: &str, known: &[Placeholder]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(at);
            if from_brace.starts_with('}') {
                return Err("a `}` without its `{`".to_owned());
            }
            let end = from_brace.find('}').ok_or("a `{` without its `}`")?;
            let (name, behind) = from_brace.split_at(end + 1);
            let found = known.iter().find(|placeholder| placeholder.text() == name);
            let found = found.ok_or_else(|| format!("`{name}` is not known: write {}", one_of(known)))?;
            push_text(&mut parts, before);
            parts.push(TemplatePart::Placeholder(*found));
            rest = behind;
        }
        push_text(&mut parts, rest);
        Ok(Self(parts))
    }

    /// Returns a template without placeholders: `text` is taken as it is.
    pub fn of_text(text: String) -> Self {
        Self(vec![TemplatePart::Text(text)])
    }

    pub fn parts(&self) -> &[TemplatePart] {
        &self.0
    }

    pub fn has(&self, placeholder: Placeholder) -> bool {
        self.0.contains(&TemplatePart::Placeholder(placeholder))
    }

    /// Fills in the placeholders for which `value` returns a text. The others stay.
    pub fn bind(&self, value: impl Fn(Placeholder) -> Option<String>) -> Self {
        let bound = |part: &TemplatePart| match part {
            TemplatePart::Placeholder(placeholder) => value(*placeholder).map(TemplatePart::Text),
            TemplatePart::Text(_) => None,
        };
        Self(self.0.iter().map(|part| bound(part).unwrap_or_else(|| part.clone())).collect())
    }

    /// Returns the text in which `append` has written the value of each placeholder.
    pub fn expand(&self, mut append: impl FnMut(&mut String, Placeholder)) -> String {
        let mut text = String::with_capacity(64);
        for part in &self.0 {
            match part {
                TemplatePart::Text(plain) => text.push_str(plain),
                TemplatePart::Placeholder(placeholder) => append(&mut text, *placeholder),
            }
        }
        text
    }
}

/// Shows the template as it was written; what [`Template::bind`] has filled in stands for its placeholder.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expand(|text, placeholder| text.push_str(placeholder.text())))
    }
}

fn push_text(parts: &mut Vec<TemplatePart>, text: &str) {
    if !text.is_empty() {
        parts.push(TemplatePart::Text(text.to_owned()));
    }
}

fn one_of(known: &[Placeholder]) -> String {
    let names: Vec<&str> = known.iter().map(|placeholder| placeholder.text()).collect();
    match names.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// Writes every byte for which `is_plain` is false as `%XX`. Only ASCII may be plain. If `%` is not plain, different bytes give
/// different texts.
pub fn percent_encoded(bytes: &[u8], is_plain: impl Fn(u8) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: [Placeholder; 2] = [Placeholder::Key, Placeholder::Partition];

    #[test]
    fn mistakes_are_told() {
        for (text, expected) in [
            ("a{b", "a `{` without its `}`"),
            ("a}b", "a `}` without its `{`"),
            ("{key}}", "a `}` without its `{`"),
            ("{k{key}", "`{k{key}` is not known: write {key} or {partition}"),
            ("{topic}", "`{topic}` is not known: write {key} or {partition}"),
            ("{date}", "`{date}` is not known: write {key} or {partition}"),
        ] {
            assert_eq!(Template::parse(text, &KNOWN), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_value_is_not_read_as_a_template() {
        let bound = Template::parse("{key}.{partition}", &KNOWN).unwrap();
        let bound = bound.bind(|placeholder| (placeholder == Placeholder::Key).then(|| "{partition}".into()));
        assert_eq!(bound.expand(|text, _| text.push('7')), "{partition}.7");
        assert!(!bound.has(Placeholder::Key) && bound.has(Placeholder::Partition));
    }

    proptest! {
        #[test]
        fn a_template_is_shown_as_it_was_written(
            parts in prop::collection::vec(prop::sample::select(vec!["{key}", "{partition}", "a", ".", "é"]), 0..8)
        ) {
            let text = parts.concat();
            prop_assert_eq!(Template::parse(&text, &KNOWN).unwrap().to_string(), text);
        }
    }
}
