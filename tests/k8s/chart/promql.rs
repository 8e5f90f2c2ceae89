//! Finds the metrics and labels in a Prometheus query. It does not validate the query, which promtool does.

/// Metrics and labels of a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub metrics: Vec<String>,
    pub labels: Vec<String>,
}

/// Words before a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words between expressions.
const BETWEEN: [&str; 6] = ["and", "or", "unless", "bool", "offset", "atan2"];

/// Finds the metrics and labels of a query.
pub fn names(query: &str) -> Names {
    let mut names = Names::default();
    let (mut in_labels, mut list_follows) = (false, false);
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '\'' => 2 + rest.split_at(1).1.find(first).expect("a closing quote"),
            '[' => 1 + rest.find(']').expect("a closing bracket"),
            '0'..='9' => {
                rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.').len()
            }
            _ if first.is_ascii_alphabetic() || first == '_' => {
                let name = first_name(rest);
                let after = rest.split_at(name.len()).1.trim_start();
                let called = after.starts_with('(') || ["by", "without"].contains(&first_name(after));
                match name {
                    _ if in_labels => names.labels.push(name.into()),
                    _ if BEFORE_LABELS.contains(&name) => list_follows = after.starts_with('('),
                    _ if BETWEEN.contains(&name) || called => {}
                    _ => names.metrics.push(name.into()),
                }
                name.len()
            }
            _ => {
                match first {
                    '{' => in_labels = true,
                    '(' if list_follows => (in_labels, list_follows) = (true, false),
                    '}' | ')' => in_labels = false,
                    _ => {}
                }
                first.len_utf8()
            }
        };
        rest = rest.split_at(taken).1;
    }
    names
}

/// The name at the beginning of a text.
pub fn first_name(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').next().unwrap_or_default()
}

#[test]
fn metrics_and_labels_are_distinguished() {
    let query = concat!(
        "sum by (pod, le) (rate(a_total{queue=\"x{y\",state!='z'}[5m])) / on (pod) group_left (b) c offset 1h > 1e6",
        " or vector(0) unless d:e"
    );
    let names = names(query);
    assert_eq!(names.metrics, ["a_total", "c", "d:e"]);
    assert_eq!(names.labels, ["pod", "le", "queue", "state", "pod", "b"]);
}
