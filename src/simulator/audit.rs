//! Compares what came out with what was generated: nothing lost, nothing doubled, every key in order.

use memchr::memmem;

use super::generator::{Generator, StreamSlot};

/// The place where a body was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditedPlace {
    /// In the files or topics of a sink.
    Sink,
    /// Among the dead letters of the bridge.
    DeadLetters,
}

/// The result of an audit, in events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditResult {
    /// Different events that were found in the sink.
    pub delivered: u64,
    /// Different events that were found among the dead letters.
    pub dead: u64,
    /// Events found more than once; each find after the first counts.
    pub doubled: u64,
    /// Events that were found in no place.
    pub lost: u64,
    /// Events that came, for the first time, after a later one of the same key.
    pub disordered: u64,
    /// Events without a usable key in the sink, or with one among the dead letters.
    pub misplaced: u64,
    /// Bodies that were never generated, or that differ from the generated ones.
    pub altered: u64,
}

impl AuditResult {
    /// Returns whether the audit found no error.
    pub fn is_clean(&self) -> bool {
        let Self { delivered: _, dead: _, doubled, lost, disordered, misplaced, altered } = self;
        [doubled, lost, disordered, misplaced, altered].into_iter().all(|count| *count == 0)
    }
}

/// Reads the bodies and counts errors. Takes one bit of memory for each event and one number for each person.
#[derive(Debug)]
pub struct Audit {
    generator: Generator,
    /// One bit for each serial number.
    seen: Vec<u64>,
    /// For each person, one more than the last serial number.
    next: Vec<u64>,
    scratch: Vec<u8>,
    result: AuditResult,
}

impl Audit {
    /// Creates an audit of the events of `generator`.
    pub fn new(generator: Generator) -> Self {
        let people = generator.config().keys as usize + 1;
        let (seen, scratch, result) = Default::default();
        Self { generator, seen, next: vec![0; people], scratch, result }
    }

    /// Checks a body; call it in the order of the file. `events`: how many events were generated.
    pub fn see(&mut self, body: &[u8], place: AuditedPlace, events: u64) {
        let Some(serial) = serial_in(body).filter(|serial| *serial < events) else {
            self.result.altered += 1;
            return;
        };
        let slot = self.generator.slot(serial);
        if !self.is_whole(body, serial, slot) {
            self.result.altered += 1;
            return;
        }
        if !self.mark(serial) {
            self.result.doubled += 1;
            return;
        }
        match place {
            AuditedPlace::Sink => self.result.delivered += 1,
            AuditedPlace::DeadLetters => self.result.dead += 1,
        }
        if self.generator.usable(serial) != (place == AuditedPlace::Sink) {
            self.result.misplaced += 1;
        }
        if let StreamSlot::Event { person, .. } = slot
            && let Some(next) = self.next.get_mut(person as usize)
        {
            self.result.disordered += u64::from(serial < *next);
            *next = serial.max(*next) + 1;
        }
    }

    /// Returns the result. The first `settled` events must have come out; later ones may have.
    pub fn finish(mut self, settled: u64) -> AuditResult {
        let lost = (0..settled).filter(|serial| !self.contains(*serial)).count();
        self.result.lost = lost as u64;
        self.result
    }

    /// Odd bodies may have been repaired by the bridge. Regular bodies must be equal, byte for byte.
    fn is_whole(&mut self, body: &[u8], serial: u64, slot: StreamSlot) -> bool {
        if let StreamSlot::Odd { .. } = slot {
            return true;
        }
        self.scratch.clear();
        self.generator.write(serial, &mut self.scratch);
        self.scratch == body
    }

    fn contains(&self, serial: u64) -> bool {
        let word = self.seen.get((serial / 64) as usize);
        word.is_some_and(|word| word >> (serial % 64) & 1 == 1)
    }

    /// Marks an event as seen. Returns whether it is new.
    fn mark(&mut self, serial: u64) -> bool {
        if self.contains(serial) {
            return false;
        }
        let word = (serial / 64) as usize;
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if let Some(word) = self.seen.get_mut(word) {
            *word |= 1 << (serial % 64);
        }
        true
    }
}

/// Returns the number after the word `serial`, which every generated body contains.
fn serial_in(body: &[u8]) -> Option<u64> {
    let rest = body.get(memmem::find(body, b"serial")?..)?;
    let digits = rest.get(rest.iter().position(u8::is_ascii_digit)?..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::generator::GeneratorConfig;
    use super::super::malformed::Malformation;
    use super::*;

    const EVENTS: u64 = 300;

    fn generator() -> Generator {
        Generator::new(GeneratorConfig {
            keys: 3,
            hot_every: 4,
            odd_every: 7,
            malformations: Malformation::all().collect(),
            ..Default::default()
        })
    }

    fn body(serial: u64) -> Vec<u8> {
        let mut body = Vec::new();
        generator().write(serial, &mut body);
        body
    }

    fn place(serial: u64) -> AuditedPlace {
        if generator().usable(serial) { AuditedPlace::Sink } else { AuditedPlace::DeadLetters }
    }

    /// Audits these events, each in its right place.
    fn audit(serials: impl IntoIterator<Item = u64>) -> Audit {
        let mut audit = Audit::new(generator());
        for serial in serials {
            audit.see(&body(serial), place(serial), EVENTS);
        }
        audit
    }

    #[test]
    fn all_of_it_in_order_is_clean() {
        let findings = audit(0..EVENTS).finish(EVENTS);
        assert!(findings.is_clean(), "{findings:?}");
        assert_eq!(findings.delivered + findings.dead, EVENTS);
        assert!(findings.dead > 0);
    }

    #[test]
    fn what_came_late_counts_as_there_but_not_as_missing() {
        let findings = audit(0..200).finish(150);
        assert!(findings.is_clean(), "{findings:?}");
        assert_eq!(audit(0..200).finish(203).lost, 3);
        assert_eq!(audit((0..50).chain(53..EVENTS)).finish(EVENTS).lost, 3);
    }

    #[test]
    fn doubles_are_counted_and_do_not_disturb_the_order() {
        let findings = audit((0..100).chain(90..EVENTS)).finish(EVENTS);
        assert_eq!(findings, AuditResult { doubled: 10, ..audit(0..EVENTS).finish(EVENTS) });
    }

    #[test]
    fn an_event_after_a_later_one_of_its_key_is_disorder() {
        let regular = |serial: &u64| matches!(generator().slot(*serial), StreamSlot::Event { person: 0, .. });
        let mut serials: Vec<_> = (0..EVENTS).filter(regular).collect();
        serials.swap(3, 4);
        assert_eq!(audit(serials).finish(0).disordered, 1);
    }

    #[test]
    fn what_was_not_generated_like_this_is_altered() {
        let mut audit = audit(0..EVENTS);
        let mut changed = body(0);
        changed.push(b' ');
        for strange in [changed.as_slice(), &body(EVENTS), b"{}", b"serial", b"serial 99999999999999999999"] {
            audit.see(strange, AuditedPlace::Sink, EVENTS);
        }
        assert_eq!(audit.finish(EVENTS).altered, 5);
    }

    #[test]
    fn the_wrong_place_is_noticed() {
        let mut audit = Audit::new(generator());
        audit.see(&body(0), AuditedPlace::DeadLetters, EVENTS);
        audit.see(&body(6), AuditedPlace::Sink, EVENTS);
        assert_eq!(audit.finish(0).misplaced, 2);
    }
}
