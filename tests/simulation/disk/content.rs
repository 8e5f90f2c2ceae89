//! Simulates the content of a file: what processes see of it, and what is on the disk.

use std::collections::BTreeSet;

use fastrand::Rng;

use crate::files::Found;

/// Bytes of a page, which reaches the disk as a whole.
const PAGE: usize = 64;

/// The content of a file.
#[derive(Default)]
pub struct Content {
    bytes: Vec<u8>,
    /// What is surely on the disk.
    durable: Vec<u8>,
    /// The pages that may not be on the disk as they are in `bytes`.
    dirty: BTreeSet<usize>,
    /// A reader may take the file.
    pub is_published: bool,
    /// What is in `durable`, if that was read since it has changed.
    pub found: Option<Found>,
}

impl Content {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub fn append(&mut self, bytes: &[u8]) {
        let first = self.bytes.len() / PAGE;
        self.bytes.extend_from_slice(bytes);
        self.dirty.extend(first..self.bytes.len().div_ceil(PAGE));
    }

    /// Writes bytes that are there already.
    pub fn write_again(&mut self, start: usize, len: usize) {
        self.dirty.extend(start / PAGE..(start + len).div_ceil(PAGE));
    }

    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        // Its end becomes zeros, so the last page changes.
        let pages = len.div_ceil(PAGE);
        self.dirty.split_off(&pages);
        self.dirty.extend((!len.is_multiple_of(PAGE)).then_some(len / PAGE));
    }

    /// Makes all that is dirty durable.
    pub fn sync(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        self.found = None;
        self.durable.resize(self.bytes.len(), 0);
        dirty.into_iter().for_each(|page| self.write(page));
    }

    /// A sync that fails. The system then forgets which pages are not on the disk, as Linux does.
    pub fn fail_to_sync(&mut self, random: &mut Rng) {
        let dirty = std::mem::take(&mut self.dirty);
        self.found = None;
        if random.bool() {
            self.durable.resize(self.bytes.len(), 0);
        }
        dirty.into_iter().filter(|_| random.bool()).for_each(|page| self.write(page));
    }

    pub fn power_cut(&mut self, random: &mut Rng) {
        let (old, new) = (self.durable.len(), self.bytes.len());
        let len = match random.u8(0..3) {
            0 => old,
            1 if new > old => random.usize(old..=new).next_multiple_of(PAGE).min(new),
            _ => new,
        };
        self.durable.resize(len, 0);
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().filter(|_| random.bool()).for_each(|page| self.write(page));
        self.bytes.clone_from(&self.durable);
        (self.is_published, self.found) = (false, None);
    }

    /// Writes a page to the disk, as far as the file reaches there.
    fn write(&mut self, page: usize) {
        let end = ((page + 1) * PAGE).min(self.bytes.len()).min(self.durable.len());
        let start = (page * PAGE).min(end);
        self.durable[start..end].copy_from_slice(&self.bytes[start..end]);
    }
}
