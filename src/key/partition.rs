//! Computes the partition of a key, as Kafka's Java client does (D5).

use std::num::NonZeroU32;

use super::Key;

impl Key {
    /// Returns the partition of this key among `partitions`: `(murmur2(hex) & 0x7fffffff) mod N`, as Kafka's
    /// Java client computes it (D5).
    pub fn partition(&self, partitions: NonZeroU32) -> u32 {
        (murmur2(&self.hex()) & 0x7fff_ffff) % partitions
    }
}

/// Kafka's murmur2, seed 0x9747b28c (`org.apache.kafka.common.utils.Utils#murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (n, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * n);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The test vectors of Kafka's own `UtilsTest#testMurmur2`.
    #[test]
    fn murmur2_is_that_of_kafka() {
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    /// Kafka hashes the 32 characters, not the 16 bytes, and clears the sign bit instead of negating.
    #[test]
    fn the_partition_is_of_the_hex_form() {
        let key = Key::digest(b"jane@example.com");
        let twelve = NonZeroU32::new(12).unwrap();
        let hash = murmur2(key.to_string().as_bytes()).cast_signed();
        assert_eq!(i64::from(key.partition(twelve)), i64::from(hash & i32::MAX) % 12);
        assert_eq!(key.partition(NonZeroU32::MIN), 0);
    }

    proptest! {
        #[test]
        fn a_partition_is_less_than_their_number(body in any::<[u8; 16]>(), partitions in 1..u32::MAX) {
            prop_assert!(Key::digest(&body).partition(NonZeroU32::new(partitions).unwrap()) < partitions);
        }
    }
}
