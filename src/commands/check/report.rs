//! Writes the results of `check`, one line for each: text for people, or JSON for programs.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use crate::config::{Diagnostic, Origins};
use crate::display::one_line;
use crate::finding::{Code, Finding, codes};
use crate::sink::{SinkError, SinkErrorKind};
use crate::source::error::SourceError;

/// Why a part does not work.
pub(super) struct CheckError {
    code: Code,
    needs_operator: bool,
    message: String,
}

impl CheckError {
    /// Creates a failure that passes by itself.
    pub(super) fn passing(code: Code, message: String) -> Self {
        Self { code, needs_operator: false, message }
    }

    /// Creates a failure that stays until somebody acts.
    pub(super) fn held(code: Code, message: String) -> Self {
        Self { code, needs_operator: true, message }
    }
}

impl From<SinkError> for CheckError {
    fn from(error: SinkError) -> Self {
        let (general, needs_operator) = match error.kind {
            SinkErrorKind::Unavailable => (codes::SINK_UNAVAILABLE, false),
            SinkErrorKind::Misconfigured => (codes::SINK_MISCONFIGURED, true),
        };
        let code = error.code().cloned().unwrap_or(general);
        Self { code, needs_operator, message: error.to_string() }
    }
}

impl From<SourceError> for CheckError {
    fn from(error: SourceError) -> Self {
        let code = Code::of_label("source", error.label());
        Self { code, needs_operator: error.needs_operator(), message: error.to_string() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Error,
}

/// How an error goes on, in the words of `docs/troubleshooting.md`.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum ErrorState {
    Refused,
    Held,
    Retrying,
}

/// One line of the JSON format.
#[derive(Serialize)]
struct Line<'a> {
    part: &'a str,
    level: Level,
    code: &'a Code,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<ErrorState>,
}

/// Collects the results: writes each at once, and counts what went wrong.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    is_json: bool,
    origins: Arc<Origins>,
    pub(super) failures: usize,
    pub(super) warnings: usize,
}

const CONFIGURATION: &str = "configuration";

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut dyn Write, is_json: bool) -> Self {
        Self { out, is_json, origins: Arc::default(), failures: 0, warnings: 0 }
    }

    /// Reports a configuration that can't be used. Its mistakes are text on standard error otherwise.
    pub(super) fn refused(&mut self, mistakes: &[Diagnostic]) -> io::Result<()> {
        mistakes.iter().try_for_each(|mistake| {
            let (code, message) = (codes::CONFIGURATION_REFUSED, mistake.to_string());
            let state = Some(ErrorState::Refused);
            self.line(CONFIGURATION, Level::Error, &code, &message, state)
        })
    }

    /// Reports a configuration that can be used, and takes `origins`, which later messages name. In the text
    /// format its warnings are on standard error, as for every verb.
    pub(super) fn configured(&mut self, origins: Arc<Origins>, warnings: &[String]) -> io::Result<()> {
        let warning = |warning: &String| Finding::warning(codes::CONFIGURATION_WARNING, warning);
        let found: Vec<_> = warnings.iter().map(warning).collect();
        self.warnings += found.len();
        self.passed_part(CONFIGURATION, if self.is_json { &found } else { &[] })?;
        self.origins = origins;
        Ok(())
    }

    /// Reports the outcome of one part.
    pub(super) fn part(
        &mut self,
        part: &str,
        outcome: Result<Vec<Finding>, impl Into<CheckError>>,
    ) -> io::Result<()> {
        match outcome.map_err(Into::into) {
            Ok(found) => {
                self.warnings += found.iter().filter(|finding| finding.is_warning).count();
                self.passed_part(part, &found)
            }
            Err(CheckError { code, needs_operator, message }) => {
                self.failures += 1;
                let state = if needs_operator { ErrorState::Held } else { ErrorState::Retrying };
                self.line(part, Level::Error, &code, &message, Some(state))
            }
        }
    }

    fn passed_part(&mut self, part: &str, found: &[Finding]) -> io::Result<()> {
        self.line(part, Level::Ok, &codes::PASSED, "passed", None)?;
        found.iter().try_for_each(|Finding { code, is_warning, message }| {
            let level = if *is_warning { Level::Warning } else { Level::Ok };
            self.line(part, level, code, message, None)
        })
    }

    fn line(
        &mut self,
        part: &str,
        level: Level,
        code: &Code,
        message: &str,
        state: Option<ErrorState>,
    ) -> io::Result<()> {
        let annotated = self.origins.annotate(message);
        let message = &*one_line(&annotated);
        if self.is_json {
            let line = Line { part, level, code, message, state };
            serde_json::to_writer(&mut self.out, &line)?;
            return writeln!(self.out);
        }
        match level {
            Level::Ok if *code == codes::PASSED => writeln!(self.out, "ok      {part}"),
            Level::Ok => writeln!(self.out, "        {message}"),
            Level::Warning => writeln!(self.out, "        warning: {message}"),
            Level::Error => writeln!(self.out, "FAILED  {part}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(is_json: bool) -> (String, usize, usize) {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, is_json);
        report.configured(Arc::default(), &[]).unwrap();
        let found = vec![
            Finding::detail(Code::new("a-fact"), "it is there"),
            Finding::warning(Code::new("a-risk"), "line 1\nline 2: change it"),
        ];
        report.part("sink a", Ok::<_, SinkError>(found)).unwrap();
        report.part("sink b", Err(SinkError::unavailable("away"))).unwrap();
        report.part("sink c", Err(SinkError::misconfigured("no topic: create it"))).unwrap();
        let in_use = SourceError::AlreadyConnected { peer: "x".to_owned() };
        report.part("broker d", Err(in_use)).unwrap();
        let (failures, warnings) = (report.failures, report.warnings);
        (String::from_utf8(out).unwrap(), failures, warnings)
    }

    #[test]
    fn text_has_a_line_for_each_part_and_finding() {
        let (text, failures, warnings) = report(false);
        assert_eq!((failures, warnings), (3, 1));
        let expected = "ok      configuration\n\
                        ok      sink a\n        it is there\n        warning: line 1\\nline 2: change it\n\
                        FAILED  sink b: away\n\
                        FAILED  sink c: no topic: create it\n\
                        FAILED  broker d: the connection id is still in use";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn json_has_an_object_for_each_line_of_the_text() {
        let (text, failures, warnings) = report(true);
        assert_eq!((failures, warnings), (3, 1));
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = [
            ("configuration", "ok", "passed", None),
            ("sink a", "ok", "passed", None),
            ("sink a", "ok", "a-fact", None),
            ("sink a", "warning", "a-risk", None),
            ("sink b", "error", "sink-unavailable", Some("retrying")),
            ("sink c", "error", "sink-misconfigured", Some("held")),
            ("broker d", "error", "source-already-connected", Some("held")),
        ];
        let found: Vec<_> = lines
            .iter()
            .map(|line| {
                let text = |key: &str| line[key].as_str();
                (text("part").unwrap(), text("level").unwrap(), text("code").unwrap(), text("state"))
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(lines[3]["message"], "line 1\\nline 2: change it");
    }
}
