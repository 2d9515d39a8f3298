//! Tables by numbers that this node gives out itself.
//!
//! They are counted up, and nobody else can choose them, so a hash that resists nobody is good
//! enough and costs a multiplication.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by such numbers. It is for looking up, and not for walking over.
pub(crate) type ById<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// An odd number with its bits well mixed: 2^64 over the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes one number.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(FACTOR);
        // Tables look at the lowest and at the highest bits.
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use super::{ById, IdHasher};
    use crate::pubsub::proto::word::SubId;

    #[test]
    fn numbers_in_a_row_are_spread_over_low_and_high_bits() {
        let build = BuildHasherDefault::<IdHasher>::default();
        let hashes: Vec<u64> = (0..1_024).map(|id| build.hash_one(SubId(id))).collect();
        let low: BTreeSet<u64> = hashes.iter().map(|hash| hash & 0x3ff).collect();
        let high: BTreeSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert!(low.len() > 512, "{} of 1,024 places", low.len());
        assert_eq!(high.len(), 128, "of 128 marks");
    }

    #[test]
    fn what_is_put_in_is_found() {
        let mut table: ById<SubId, u64> = ById::default();
        table.extend((0..10_000).map(|id| (SubId(id), id)));
        assert!((0..10_000).all(|id| table.get(&SubId(id)) == Some(&id)));
    }
}
