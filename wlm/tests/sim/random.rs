//! Random numbers from a seed.

use std::time::Duration;

/// SplitMix64: small, and neighbouring seeds give unrelated numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `min` to `max`, both possible.
    pub(crate) fn within(&mut self, min: u64, max: u64) -> u64 {
        min + self.next() % (max - min + 1)
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        let index = self.next() % list.len() as u64;
        &list[usize::try_from(index).unwrap()]
    }

    /// Between `min` and `max`, every order of magnitude as likely as any other.
    pub(crate) fn spread(&mut self, min: u64, max: u64) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let (low, high) = ((min as f64).ln(), (max as f64).ln());
        (low + unit * (high - low)).exp() as u64
    }

    pub(crate) fn span_us(&mut self, min: u64, max: u64) -> Duration {
        Duration::from_micros(self.spread(min, max))
    }
}
