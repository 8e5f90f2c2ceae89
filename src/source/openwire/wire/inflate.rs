//! Inflates compressed bodies: reads only as much of a zlib stream (RFC 1950) as the body announces, and
//! detects all damage.

use flate2::{Decompress, FlushDecompress, Status};

use super::primitives::FieldError;

/// The largest factor by which deflate can inflate data, rounded up.
const MOST_INFLATED: u64 = 1040;

/// Java's buffers start with at most this many bytes and double.
const SURPLUS: usize = 4 << 10;

const CORRUPT: FieldError = "it can't be decompressed";

/// We do not use flate2's own reader: it treats a stream that stops before its checksum as complete.
pub(super) struct Inflater<'a> {
    zlib: Decompress,
    compressed: &'a [u8],
    ended: bool,
}

impl<'a> Inflater<'a> {
    pub(super) fn new(compressed: &'a [u8]) -> Self {
        Self { zlib: Decompress::new(true), compressed, ended: false }
    }

    /// Whether the compressed bytes could inflate to `length` bytes.
    pub(super) fn may_hold(&self, length: usize) -> bool {
        length as u64 / MOST_INFLATED <= self.zlib.total_in() + self.compressed.len() as u64
    }

    /// Inflates the next `length` bytes, which are the body, and checks what follows.
    pub(super) fn body(&mut self, length: usize) -> Result<Vec<u8>, FieldError> {
        if !self.may_hold(length) {
            return Err("it is shorter than it says");
        }
        let mut body = vec![0; length];
        self.fill(&mut body)?;
        // The checksum comes at the very end. Java's surplus behind the body is read to reach it, but not an
        // inflation bomb's.
        let mut surplus = [0; SURPLUS];
        let most = length as u64 + SURPLUS as u64 + self.zlib.total_out();
        while !self.ended && self.zlib.total_out() < most {
            if self.inflate(&mut surplus)? == 0 && !self.ended {
                return Err(CORRUPT);
            }
        }
        Ok(body)
    }

    /// Inflates until `out` is full.
    pub(super) fn fill(&mut self, mut out: &mut [u8]) -> Result<(), FieldError> {
        while !out.is_empty() {
            match self.inflate(out)? {
                0 => return Err(CORRUPT),
                inflated => out = &mut out[inflated..],
            }
        }
        Ok(())
    }

    /// Inflates into `out` as much as it has room for, and returns how much that is; 0 only at the end.
    fn inflate(&mut self, out: &mut [u8]) -> Result<usize, FieldError> {
        let (read, written) = (self.zlib.total_in(), self.zlib.total_out());
        let status =
            self.zlib.decompress(self.compressed, out, FlushDecompress::None).map_err(|_| CORRUPT)?;
        self.compressed = &self.compressed[(self.zlib.total_in() - read) as usize..];
        self.ended = status == Status::StreamEnd;
        Ok((self.zlib.total_out() - written) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::openwire::testing::zlib;

    /// An announced length is trusted only if deflate could make so many bytes from the input. A bomb behind
    /// a small body is not inflated.
    #[test]
    fn a_bomb_costs_neither_memory_nor_time() {
        let lie = Inflater::new(&zlib(b"ab")).body(i32::MAX as usize);
        assert_eq!(lie, Err("it is shorter than it says"));
        let bomb = zlib(&vec![0; 50 << 20]);
        let mut inflater = Inflater::new(&bomb);
        assert_eq!(inflater.body(10), Ok(vec![0; 10]));
        assert!(inflater.zlib.total_out() < 3 * SURPLUS as u64);
        let mut whole = Inflater::new(&bomb);
        assert_eq!(whole.fill(&mut [0; 4]), Ok(()));
        assert!(whole.body((50 << 20) - 4).is_ok(), "no more than deflate can do");
    }

    #[test]
    fn a_stream_without_its_checksum_is_damaged() {
        let whole = zlib(b"some text");
        assert_eq!(Inflater::new(&whole).body(9), Ok(b"some text".to_vec()));
        for length in 0..whole.len() {
            assert_eq!(Inflater::new(&whole[..length]).body(9), Err(CORRUPT), "{length}");
        }
    }
}
