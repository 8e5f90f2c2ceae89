//! Says how many bytes of a file are read or written at once.

/// The most. More is no faster.
pub(super) const CHUNK: usize = 256 << 10;
const LEAST: usize = 4 << 10;

/// Returns how many bytes of `len` are read or written at once. A short file is not worth filling a large buffer with
/// zeros.
pub(super) fn chunk_of(len: u64) -> usize {
    usize::try_from(len).unwrap_or(CHUNK).clamp(LEAST, CHUNK)
}
