//! Numbers that look like chance and are the same each time, on every machine: `SplitMix64` (Steele, Lea and Flood 2014).

/// A source of such numbers.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The one of a seed and of what it is for.
    pub(crate) fn new(seed: u64, of: &str) -> Self {
        // FNV-1a, 64 bits: it has to be the same on every machine, and no more.
        let hash = of.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below a bound, which isn't nought.
    #[expect(clippy::cast_possible_truncation, reason = "what is left is below a bound of that type")]
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    /// One of several, of which there is at least one.
    pub(crate) fn one<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_something_else() {
        let draw = |seed, of| {
            let mut chance = Chance::new(seed, of);
            (0..8).map(|_| chance.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        let mut chance = Chance::new(1, "");
        let all: std::collections::BTreeSet<_> = (0..1_000).map(|_| chance.below(7)).collect();
        assert_eq!(all.len(), 7);
    }
}
