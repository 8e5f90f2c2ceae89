//! Collects the lines that become durable together.

use std::collections::HashMap;

use super::id_record::IdList;
use super::name_template::FileSlot;

/// The most bytes of buffers that are kept between groups.
pub(super) const KEPT_CAPACITY: usize = 4 << 20;

/// Lines for one or more files that become durable together. Each line has a ticket, which the writer returns
/// with the result.
#[derive(Debug)]
pub(crate) struct Group<T> {
    parts: Vec<(FileSlot, Vec<u8>)>,
    index: HashMap<FileSlot, usize>,
    last: usize,
    bytes: usize,
    pub(super) tickets: Vec<T>,
    pub(super) ids: IdList,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            index: HashMap::new(),
            last: 0,
            bytes: 0,
            tickets: Vec::new(),
            ids: IdList::default(),
        }
    }
}

impl<T> Group<T> {
    /// Adds the bytes that `write` appends to the lines of `slot`, and the `ids` of their events. Adds nothing if
    /// `write` fails: an id without a line would be a lost event (I1).
    pub(crate) fn append<E>(
        &mut self,
        slot: FileSlot,
        ticket: T,
        ids: impl IntoIterator<Item = impl AsRef<[u8]>>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let lines = self.lines(slot);
        let before = lines.len();
        if let Err(error) = write(lines) {
            lines.truncate(before);
            return Err(error);
        }
        let added = lines.len() - before;
        self.bytes += added;
        self.tickets.push(ticket);
        ids.into_iter().for_each(|id| self.ids.add(id.as_ref()));
        Ok(())
    }

    fn lines(&mut self, slot: FileSlot) -> &mut Vec<u8> {
        if self.parts.get(self.last).is_none_or(|(last, _)| *last != slot) {
            self.last = *self.index.entry(slot).or_insert(self.parts.len());
            if self.last == self.parts.len() {
                self.parts.push((slot, Vec::new()));
            }
        }
        &mut self.parts[self.last].1
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = (FileSlot, &[u8])> {
        self.parts
            .iter()
            .filter(|(_, lines)| !lines.is_empty())
            .map(|(slot, lines)| (*slot, lines.as_slice()))
    }

    /// Empties the group. Keeps its buffers unless they are large.
    pub(super) fn clear(&mut self) {
        if self.parts.iter().map(|(_, lines)| lines.capacity()).sum::<usize>() > KEPT_CAPACITY {
            *self = Self::default();
        }
        self.parts.iter_mut().for_each(|(_, lines)| lines.clear());
        self.tickets.clear();
        self.ids.clear();
        self.bytes = 0;
    }
}
