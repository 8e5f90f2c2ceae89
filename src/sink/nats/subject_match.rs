//! Checks whether a stream takes every subject that a template can produce.

use super::template::Subject;

/// The most partitions that are checked one by one, for streams that name each partition.
const MOST_PARTITIONS: u32 = 10_000;

/// Returns whether the stream's subjects, with their wildcards, cover every subject that events can have.
pub(super) fn covers(stream: &[String], subject: &Subject) -> bool {
    let covered = |partition| takes(stream, &subject.tokens(partition));
    if covered(None) {
        return true;
    }
    subject.partitions().is_some_and(|partitions| {
        partitions.get() <= MOST_PARTITIONS && (0..partitions.get()).all(|partition| covered(Some(partition)))
    })
}

/// Returns whether one of the patterns takes every subject made of `tokens`; a token that is `None` can have any value.
pub(super) fn takes(patterns: &[String], tokens: &[Option<String>]) -> bool {
    patterns.iter().any(|pattern| matches(pattern, tokens))
}

/// Returns whether one of the patterns takes some subject made of `tokens`.
pub(super) fn meets(patterns: &[String], tokens: &[Option<String>]) -> bool {
    patterns.iter().any(|pattern| {
        let mut rest = tokens.iter();
        for wanted in pattern.split('.') {
            let Some(token) = rest.next() else { return false };
            match (wanted, token) {
                (">", _) => return true,
                ("*", _) | (_, None) => {}
                (literal, Some(token)) if literal == token => {}
                _ => return false,
            }
        }
        rest.next().is_none()
    })
}

/// Returns whether `pattern` takes every subject made of `tokens`; a token that is `None` can have any value.
fn matches(pattern: &str, tokens: &[Option<String>]) -> bool {
    let mut rest = tokens.iter();
    for wanted in pattern.split('.') {
        let Some(token) = rest.next() else { return false };
        match wanted {
            ">" => return true,
            "*" => {}
            literal if token.as_deref() == Some(literal) => {}
            _ => return false,
        }
    }
    rest.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::sink::SinkContext;
    use crate::sink::nats::template::SubjectTemplate;

    fn subject(template: &str, partitions: u32) -> Subject {
        SubjectTemplate::parse(template).unwrap().bind(&SinkContext {
            namespace: "acme".to_owned(),
            destination_id: "main".to_owned(),
            partitions: NonZeroU32::new(partitions),
            ..SinkContext::default()
        })
    }

    #[test]
    fn wildcards_count_and_literals_do_not_reach_what_varies() {
        for (stream, template, covered) in [
            (&["events"][..], "events", true),
            (&["events"], "events.{key}", false),
            (&["events.*"], "events.{key}", true),
            (&["events.*"], "events.a-{key}", true),
            (&["events.*"], "events.{key}.x", false),
            (&["events.>"], "events.{key}.{partition}", true),
            (&["events.>"], "events", false),
            (&[">"], "events", true),
            (&["*.acme.main"], "{namespace}.acme.main", true),
            (&["other.>", "events.acme.>"], "events.{namespace}.{destination_id}", true),
            (&["events.*.x"], "events.{key}.y", false),
            (&["events.0", "events.1", "events.2"], "events.{partition}", true),
            (&["events.0", "events.1"], "events.{partition}", false),
            (&["events.p0.*", "events.p1.>", "events.p2.*"], "events.p{partition}.{key}", true),
            (&[], "events", false),
        ] {
            let stream: Vec<String> = stream.iter().map(|&pattern| pattern.to_owned()).collect();
            assert_eq!(covers(&stream, &subject(template, 3)), covered, "{stream:?} {template}");
        }
    }

    /// Compares a subject with a pattern as the server does: each token, character by character.
    fn server_takes(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern.first(), subject.first()) {
            (None, None) => true,
            (Some(&">"), Some(_)) => true,
            (Some(&wanted), Some(&token)) if wanted == "*" || wanted == token => {
                server_takes(&pattern[1..], &subject[1..])
            }
            _ => false,
        }
    }

    proptest! {
        /// With a small alphabet and two partitions, the test can try every subject.
        #[test]
        fn what_is_covered_is_taken(
            template in prop::collection::vec(prop::sample::select(vec!["a", "b", "{partition}"]), 1..4),
            patterns in prop::collection::vec(
                prop::collection::vec(prop::sample::select(vec!["a", "0", "1", "*", ">"]), 1..4), 0..4),
        ) {
            let text = template.join(".");
            // `>` is allowed only at the end.
            let patterns: Vec<Vec<&str>> = patterns
                .into_iter()
                .map(|mut pattern| {
                    let end = pattern.iter().position(|token| *token == ">").map_or(pattern.len(), |at| at + 1);
                    pattern.truncate(end);
                    pattern
                })
                .collect();
            let stream: Vec<String> = patterns.iter().map(|pattern| pattern.join(".")).collect();
            let taken = ["0", "1"].iter().all(|partition| {
                let subject = text.replace("{partition}", partition);
                let tokens: Vec<&str> = subject.split('.').collect();
                patterns.iter().any(|pattern| server_takes(pattern, &tokens))
            });
            prop_assert_eq!(covers(&stream, &subject(&text, 2)), taken);
        }
    }
}
