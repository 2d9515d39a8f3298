//! Seeded randomness. A machine is given one at birth, so that a seed replays a run.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A deterministic stream of random numbers (`ChaCha` with 8 rounds).
///
/// It is meant for jitter, choices and simulation, and not for keys.
#[derive(Debug, Clone)]
pub struct Entropy(ChaCha8Rng);

impl Entropy {
    /// The stream that belongs to `seed`: the same on every machine and in every version.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A stream that nobody can replay, seeded from the process's own hash keys.
    #[must_use]
    pub fn from_process() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self::from_seed(RandomState::new().hash_one("macula"))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`, without modulo bias; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Lemire's multiplication: the high word of a 128-bit product is uniform enough once the
        // few low words that would be biased are drawn again.
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(bound);
            let [low, high] = [wide & u128::from(u64::MAX), wide >> 64];
            if low >= u128::from(threshold) {
                return u64::try_from(high).unwrap_or(0);
            }
        }
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.next_u64() >> 32).unwrap_or(0);
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    /// True with the given probability; never for 0, always for 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A stream of its own for one part of a whole, so that parts do not disturb one another.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::from_seed(self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::Entropy;

    #[test]
    fn one_seed_gives_one_stream_for_ever() {
        let mut entropy = Entropy::from_seed(7);
        let drawn: Vec<u64> = (0..3).map(|_| entropy.next_u64()).collect();
        insta::assert_debug_snapshot!(drawn);
    }

    #[test]
    fn below_covers_its_range_and_nothing_else() {
        let mut entropy = Entropy::from_seed(1);
        let mut seen = [0_u32; 6];
        for _ in 0..6000 {
            seen[usize::try_from(entropy.below(6)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
        assert_eq!(entropy.below(0), 0);
        assert_eq!(entropy.below(1), 0);
    }

    #[test]
    fn chance_keeps_its_extremes() {
        let mut entropy = Entropy::from_seed(2);
        assert!((0..1000).all(|_| !entropy.chance(0.0)));
        assert!((0..1000).all(|_| entropy.chance(1.0)));
    }
}
