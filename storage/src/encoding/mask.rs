//! Which rows of one vector are still wanted: one bit per row.

use crate::VECTOR_ROWS;

/// Words of a [`Mask`].
pub(super) const MASK_WORDS: usize = VECTOR_ROWS / 64;

/// A selection of rows of one vector; bit `i` of word `w` is row `64 * w + i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask([u64; MASK_WORDS]);

impl Mask {
    /// The first `rows` rows; a vector has at most [`VECTOR_ROWS`].
    pub fn full(rows: usize) -> Mask {
        debug_assert!(rows <= VECTOR_ROWS, "a vector has at most {VECTOR_ROWS} rows");
        let word = |index: usize| match rows.saturating_sub(index * 64) {
            0 => 0,
            left if left >= 64 => u64::MAX,
            left => (1 << left) - 1,
        };
        Mask(std::array::from_fn(word))
    }

    /// No row.
    pub fn none() -> Mask {
        Mask([0; MASK_WORDS])
    }

    /// From its words, row 0 in the lowest bit of the first.
    pub fn from_words(words: [u64; MASK_WORDS]) -> Mask {
        Mask(words)
    }

    /// Its words, row 0 in the lowest bit of the first.
    pub fn words(&self) -> &[u64; MASK_WORDS] {
        &self.0
    }

    pub(super) fn words_mut(&mut self) -> &mut [u64; MASK_WORDS] {
        &mut self.0
    }

    /// How many rows are selected.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no row is selected.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Whether `row` is selected; rows beyond the vector are not.
    pub fn contains(&self, row: usize) -> bool {
        self.0.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Selects `row`, which is below [`VECTOR_ROWS`].
    pub fn insert(&mut self, row: usize) {
        self.0[row / 64] |= 1 << (row % 64);
    }

    /// Keeps the rows that `other` selects too.
    pub fn and(&mut self, other: &Mask) {
        for (word, keep) in self.0.iter_mut().zip(&other.0) {
            *word &= keep;
        }
    }

    /// Drops the rows that `other` selects.
    pub fn and_not(&mut self, other: &Mask) {
        for (word, drop) in self.0.iter_mut().zip(&other.0) {
            *word &= !drop;
        }
    }

    /// The selected rows, ascending.
    pub fn rows(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Some(index * 64 + bit)
            })
        })
    }
}
