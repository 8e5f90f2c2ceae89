//! Checks what a simulation must never show.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use atdata_bridge::simulator::Generator;

use crate::destination::{Destination, Kind, Record, is_refused};
use crate::files::{Files, Letter};
use crate::letters::Letters;
use crate::schedule::Setting;

/// Where events end.
pub struct Settled<'a> {
    pub destinations: &'a [Destination],
    pub letters: &'a Letters,
    pub files: Files<'a>,
    pub has_files: bool,
    /// A process may hold events of a session that has ended without a sign.
    pub ends_unnoticed: bool,
    pub generator: &'a Generator,
}

impl Settled<'_> {
    /// Returns the first of these events that a sink has not settled: it is neither durable there nor a dead letter.
    pub fn missing(&self, numbers: &[u64]) -> Option<u64> {
        let letters = LazyCell::new(|| self.letters());
        let is_letter =
            |number: u64, sink: Option<&str>| letters.contains(&(number, sink.map(str::to_owned)));
        let in_files = if self.has_files { self.files.durable_events(numbers) } else { BTreeSet::new() };
        let is_settled = |number: u64| {
            if !self.generator.usable(number - 1) {
                return is_letter(number, None);
            }
            if self.has_files && !in_files.contains(&number) {
                return false;
            }
            self.destinations.iter().all(|destination| {
                destination.has(number) || (is_refused(number) && is_letter(number, Some(destination.name())))
            })
        };
        numbers.iter().copied().find(|number| !is_settled(*number))
    }

    /// The dead letters that are durable.
    fn letters(&self) -> BTreeSet<Letter> {
        let mut letters = self.letters.all();
        letters.extend(self.files.durable_letters());
        letters
    }
}

/// The numbers of the events that are durable.
fn numbers_in(records: &[Record]) -> BTreeSet<u64> {
    records.iter().map(|record| record.number).collect()
}

/// Checks all destinations at the end.
pub fn at_the_end(settled: &Settled<'_>, setting: &Setting) -> Result<(), String> {
    for destination in settled.destinations {
        let records = destination.records();
        let there = numbers_in(&records);
        for number in 1..=setting.events {
            let is_expected = settled.generator.usable(number - 1) && !is_refused(number);
            if is_expected && !there.contains(&number) {
                return Err(format!("{} has lost {number}", destination.name()));
            }
            if !is_expected && there.contains(&number) {
                return Err(format!("{} has {number}, which it must not have", destination.name()));
            }
        }
        duplicates(destination, &records, settled.ends_unnoticed)?;
        if setting.replicas == 1 || setting.is_strict {
            order(destination, &records, setting)?;
        }
    }
    settled.files.check(setting, settled.generator)?;
    for (number, sink) in settled.letters() {
        let is_right = match &sink {
            None => !settled.generator.usable(number - 1),
            Some(_) => is_refused(number),
        };
        if !is_right {
            return Err(format!("a dead letter of {number} that should not be (sink {sink:?})"));
        }
    }
    Ok(())
}

/// An event may come twice only if the second connection looked before the first copy was there. Or if the session had
/// ended unnoticed, and other processes had written so much since that the second was not told of the event.
fn duplicates(destination: &Destination, records: &[Record], ends_unnoticed: bool) -> Result<(), String> {
    if destination.kind() == Kind::Unreadable {
        return Ok(());
    }
    let mut first: BTreeMap<u64, (usize, &Record)> = BTreeMap::new();
    for (place, record) in records.iter().enumerate() {
        let Some((earlier_place, earlier)) = first.get(&record.number) else {
            first.insert(record.number, (place, record));
            continue;
        };
        let was_told = !ends_unnoticed || *earlier_place >= record.untold;
        let could_see = was_told && record.looked.is_some_and(|looked| earlier.landed <= looked);
        let is_forbidden = match destination.kind() {
            Kind::TakesOver | Kind::DropsDuplicates => true,
            Kind::Readable | Kind::Unreadable => could_see || earlier.connection == record.connection,
        };
        if is_forbidden {
            return Err(format!(
                "{} has {} twice: {earlier:?} and {record:?}",
                destination.name(),
                record.number
            ));
        }
    }
    Ok(())
}

/// The first appearances of each key's events are in the order of publishing.
fn order(destination: &Destination, records: &[Record], setting: &Setting) -> Result<(), String> {
    let is_promised = setting.replicas == 1 || destination.kind() == Kind::TakesOver;
    if !is_promised {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<_, u64> = BTreeMap::new();
    for record in records.iter().filter(|record| seen.insert(record.number)) {
        if let Some(before) = last.insert(record.key, record.number)
            && before > record.number
        {
            return Err(format!(
                "{} has {} of key {:?} after {before}",
                destination.name(),
                record.number,
                record.key
            ));
        }
    }
    Ok(())
}
