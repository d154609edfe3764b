//! The inner loops: bits, comparison of a vector with bounds, compression of a vector by a mask.

/// The bits of `word` at the set bits of `selected`, moved together at the low end.
pub(super) fn gather_bits(word: u64, selected: u64) -> u64 {
    let (mut rest, mut gathered, mut position) = (selected, 0, 0);
    while rest != 0 {
        gathered |= (word >> rest.trailing_zeros() & 1) << position;
        position += 1;
        rest &= rest - 1;
    }
    gathered
}
