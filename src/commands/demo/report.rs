//! Writes the final report of a demo.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

use super::read_back::StoredEvents;
use crate::display::one_line;
use crate::pipeline::PipelineError;

#[derive(Debug)]
pub(super) enum DemoEnd {
    /// Everything was acknowledged, or everything in flight when the demo was stopped.
    Drained,
    /// Some events in flight could not be settled in time.
    Abandoned,
    /// The bridge had an internal error.
    Fault(PipelineError),
}

/// The counts of a demo, from the broker, the bridge and the files.
pub(super) struct DemoReport {
    /// Events that the user asked for.
    pub(super) events: u64,
    /// Events that the broker has sent.
    pub(super) published: u64,
    /// Events that the bridge has acknowledged.
    pub(super) acked: u64,
    pub(super) took: Duration,
    /// Bytes of memory, including the broker.
    pub(super) memory: Option<u64>,
    pub(super) ending: DemoEnd,
    pub(super) found: StoredEvents,
}

impl DemoReport {
    /// Returns whether the bridge kept all its guarantees.
    pub(super) fn is_clean(&self) -> bool {
        self.found.result.is_clean() && matches!(self.ending, DemoEnd::Drained)
    }

    /// Writes the report for people; scripts can read its last line. `root` is the directory of the files, which
    /// `stay` or are removed.
    pub(super) fn write(&self, root: &Path, stay: bool, out: &mut dyn Write) -> io::Result<()> {
        let findings = &self.found.result;
        let mut line = |name: &str, text: String| writeln!(out, "{name:<9} {text}");
        line("went in", self.went_in())?;
        let (files, size) = (self.found.files, HumanBytes(self.found.size));
        let s = if files == 1 { "" } else { "s" };
        line("came out", format!("{} events in {files} file{s}, {size}", HumanCount(findings.delivered)))?;
        line("", format!("{} dead letters{}", HumanCount(findings.dead), self.reasons()))?;
        line("order", self.order())?;
        for (count, what) in [
            (findings.misplaced, "in the wrong place: dead letters among the events, or events among those"),
            (findings.altered, "changed on the way, or never sent"),
        ] {
            if count > 0 {
                line("WRONG", format!("{} {what}", HumanCount(count)))?;
            }
        }
        line("took", self.speed())?;
        match &self.ending {
            DemoEnd::Drained => {}
            DemoEnd::Abandoned => line("STOPPED", "before everything on the way was settled".to_owned())?,
            DemoEnd::Fault(fault) => {
                line("FAULT", format!("of the bridge itself, please report it: {fault}"))?
            }
        }
        if let Some((file, lines)) = &self.found.examples {
            for (number, body) in lines.iter().enumerate() {
                line(if number == 0 { "such as" } else { "" }, one_line(body).into_owned())?;
            }
            let file = file.strip_prefix(root).unwrap_or(file);
            line("", format!("in {}", file.display()))?;
        }
        line(
            "files",
            match stay {
                true => format!("are in {}", root.display()),
                false => "are removed; --directory DIR keeps them".to_owned(),
            },
        )?;
        writeln!(out, "lost {}, doubled {}", findings.lost, findings.doubled)?;
        out.flush()
    }

    fn went_in(&self) -> String {
        let (sent, acked) = (HumanCount(self.published), HumanCount(self.acked));
        if self.acked == self.events {
            return format!("{sent} events, all acknowledged");
        }
        format!("{sent} events until it was stopped, {acked} of them acknowledged")
    }

    fn reasons(&self) -> String {
        let counts =
            self.found.reasons.iter().map(|(reason, count)| format!("{reason} {}", HumanCount(*count)));
        let counts = counts.collect::<Vec<_>>().join(", ");
        if counts.is_empty() { counts } else { format!(": {counts}") }
    }

    fn order(&self) -> String {
        match self.found.result.disordered {
            0 => "kept for every key".to_owned(),
            count => format!("BROKEN: {} events came after a later one of their key", HumanCount(count)),
        }
    }

    fn speed(&self) -> String {
        let seconds = self.took.as_secs_f64();
        let rate = HumanCount((self.acked as f64 / seconds.max(0.001)) as u64);
        let memory =
            self.memory.map(|bytes| format!(", {} of memory at most, broker included", HumanBytes(bytes)));
        format!("{seconds:.1} s, {rate} events/s{}", memory.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::super::population;
    use super::super::read_back::ReadBack;
    use super::*;
    use crate::simulator::Generator;

    /// More events than people, so that some people have two.
    const EVENTS: u64 = 12_000;

    /// The bodies of a demo's events with usable keys, and those of events without.
    fn bodies() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let generator = Generator::new(population());
        let body = |serial| {
            let mut body = Vec::new();
            generator.write(serial, &mut body);
            body
        };
        let (good, odd): (Vec<_>, Vec<_>) = (0..EVENTS).partition(|serial| generator.usable(*serial));
        (good.into_iter().map(body).collect(), odd.into_iter().map(body).collect())
    }

    /// Returns the report about a run that left these bodies, and whether the run was clean.
    fn report(events: &[Vec<u8>], letters: &[Vec<u8>], ending: DemoEnd) -> (String, bool) {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        fs::create_dir(place("events")).unwrap();
        fs::create_dir(place("letters")).unwrap();
        let (first, second) = events.split_at(events.len() / 2);
        let lines = |bodies: &[Vec<u8>]| {
            bodies.iter().flat_map(|body| [&body[..], b"\n"].concat()).collect::<Vec<_>>()
        };
        fs::write(place("events/1.jsonl"), lines(first)).unwrap();
        fs::write(place("events/2.jsonl.open"), [lines(second), b"{\"torn".to_vec()].concat()).unwrap();
        let letter = |body: &Vec<u8>| {
            let (name, body) = match std::str::from_utf8(body) {
                Ok(text) => ("body", text.to_owned()),
                Err(_) => ("body_base64", STANDARD.encode(body)),
            };
            format!("{}\n", serde_json::json!({ "reason": "key_missing", name: body }))
        };
        fs::write(place("letters/1.jsonl"), letters.iter().map(letter).collect::<String>()).unwrap();
        let read = ReadBack { generator: Generator::new(population()), published: EVENTS, acked: EVENTS };
        let found = read.read(&place("events"), &place("letters")).unwrap();
        let took = Duration::from_secs(2);
        let report = DemoReport {
            events: EVENTS,
            published: EVENTS,
            acked: EVENTS,
            took,
            memory: None,
            ending,
            found,
        };
        let mut out = Vec::new();
        report.write(directory.path(), false, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), report.is_clean())
    }

    #[test]
    fn a_good_run_says_so() {
        let (good, odd) = bodies();
        let (text, clean) = report(&good, &odd, DemoEnd::Drained);
        assert!(clean, "{text}");
        let expected = "\
went in   12,000 events, all acknowledged
came out  11,988 events in 2 files, ";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("12 dead letters: key_missing 12\norder     kept for every key\n"), "{text}");
        let (_, end) = text.split_once("took      2.0 s, 6,000 events/s\n").unwrap();
        let [first, second] = [&good[0], &good[1]].map(|body| String::from_utf8_lossy(body));
        let expected = format!(
            "such as   {first}\n          {second}\n          in events/1.jsonl\n\
             files     are removed; --directory DIR keeps them\nlost 0, doubled 0\n"
        );
        assert_eq!(end, expected);
    }

    #[test]
    fn loss_and_doubling_are_counted_wherever_they_happen() {
        let (mut good, mut odd) = bodies();
        good.remove(7);
        good.push(good[100].clone());
        odd.remove(0);
        odd.push(odd[0].clone());
        let (text, clean) = report(&good, &odd, DemoEnd::Drained);
        assert!(!clean);
        assert!(text.ends_with("\nlost 2, doubled 2\n"), "{text}");
    }

    #[test]
    fn every_other_fault_is_told_and_no_success() {
        let (good, odd) = bodies();
        let mut swapped = good.clone();
        let md5 = |body: &[u8]| body[..40].to_vec();
        let last = good.len() - 1;
        let sooner = good.iter().position(|body| md5(body) == md5(&good[last])).unwrap();
        assert_ne!(sooner, last);
        swapped.swap(sooner, last);
        let (text, clean) = report(&swapped, &odd, DemoEnd::Drained);
        assert!(!clean && text.contains("order     BROKEN: 1 events"), "{text}");
        let mut changed = good.clone();
        changed[5].push(b' ');
        let (text, clean) = report(&changed, &odd, DemoEnd::Drained);
        assert!(!clean && text.contains("WRONG     1 changed on the way"), "{text}");
        let (text, clean) = report(&[good.clone(), odd.clone()].concat(), &[], DemoEnd::Drained);
        assert!(!clean && text.contains("WRONG     12 in the wrong place"), "{text}");
        let (text, clean) = report(&good, &odd, DemoEnd::Abandoned);
        assert!(!clean && text.contains("STOPPED   before"), "{text}");
        let (text, clean) = report(&good, &odd, DemoEnd::Fault(PipelineError::SourceEnded));
        assert!(!clean && text.contains("FAULT     of the bridge itself"), "{text}");
    }
}
