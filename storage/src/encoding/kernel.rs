//! The inner loops: comparing the codes of a vector with bounds, moving selected codes together.
//!
//! Each loop is written once with AVX2 and once in plain Rust for other machines. Which one runs is
//! settled when the crate is built: x86-64 builds target x86-64-v3, which has AVX2, since the
//! bit-packing kernels have no run-time choice either.
#![expect(unsafe_code, reason = "vector instructions, reads of packed words without checks")]

use std::mem::MaybeUninit;

use fastlanes::BitPacking;

use super::mask::MASK_WORDS;
use crate::VECTOR_ROWS;

/// Compressing writes whole registers, so its output is this much longer than a vector.
pub(super) const COMPRESS_SLACK: usize = 64;

/// Keys that [`write_wide`] takes.
pub(super) const WIDENED_AT_ONCE: usize = 16;

/// Writes keys as 128-bit integers; all slots are written.
#[inline(always)]
pub(super) fn write_wide(
    keys: [i64; WIDENED_AT_ONCE],
    out: &mut [MaybeUninit<i128>; WIDENED_AT_ONCE],
) {
    #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
    for (keys, out) in keys.as_chunks::<4>().0.iter().zip(out.as_chunks_mut::<4>().0) {
        avx2::write_wide(keys, out);
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
    for (slot, key) in out.iter_mut().zip(keys) {
        slot.write(i128::from(key));
    }
}

/// The codes of one vector.
pub(super) type Codes<T> = [T; VECTOR_ROWS];
/// Codes moved together.
pub(super) type Compressed<T> = [T; VECTOR_ROWS + COMPRESS_SLACK];

/// The bits of `word` at the set bits of `selected`, moved together at the low end.
#[inline]
pub(super) fn gather_bits(word: u64, selected: u64) -> u64 {
    #[cfg(all(target_arch = "x86_64", target_feature = "bmi2"))]
    // SAFETY: the build targets a machine with BMI2.
    unsafe {
        std::arch::x86_64::_pext_u64(word, selected)
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "bmi2")))]
    {
        let (mut rest, mut gathered, mut position) = (selected, 0, 0);
        while rest != 0 {
            gathered |= (word >> rest.trailing_zeros() & 1) << position;
            position += 1;
            rest &= rest - 1;
        }
        gathered
    }
}

/// Starts to fetch `length` bytes from `bytes[start..]` into the cache.
#[inline]
pub(super) fn prefetch(bytes: &[u8], start: usize, length: usize) {
    let end = (start + length).min(bytes.len());
    #[cfg(target_arch = "x86_64")]
    for line in (start..end).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing; the address lies within `bytes`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = end;
}

/// An unsigned integer that codes are unpacked to.
pub(super) trait Lane: BitPacking + Copy + Default + Ord {
    /// Widens.
    fn wide(self) -> u64;
    /// Cuts to the lane.
    fn from_wide(value: u64) -> Self;
    /// Appends its little-endian bytes.
    fn append_to(self, out: &mut Vec<u8>);
    /// Bits of the 64 codes from `codes[64 * word]`, set where `low <= code <= high` for one of the
    /// ranges.
    fn between(codes: &Codes<Self>, word: usize, ranges: &[(Self, Self)]) -> u64;
    /// Moves the codes whose bits are set to the front of `out`; returns how many they are.
    fn compress(codes: &Codes<Self>, mask: &[u64; MASK_WORDS], out: &mut Compressed<Self>)
    -> usize;
}

/// Clears the bits of the codes outside all of the ranges.
#[inline(always)]
pub(super) fn keep_between<T: Lane>(
    codes: &Codes<T>,
    ranges: &[(T, T)],
    mask: &mut [u64; MASK_WORDS],
) {
    for (word, bits) in mask.iter_mut().enumerate() {
        *bits &= T::between(codes, word, ranges);
    }
}

macro_rules! plain_lane {
    () => {
        #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
        #[inline]
        fn between(codes: &Codes<Self>, word: usize, ranges: &[(Self, Self)]) -> u64 {
            let codes = &codes[word * 64..][..64];
            let in_any =
                |code: Self| ranges.iter().any(|(low, high)| code >= *low && code <= *high);
            let bit = |(row, code): (usize, &Self)| u64::from(in_any(*code)) << row;
            codes.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit)
        }

        #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
        #[inline]
        fn compress(
            codes: &Codes<Self>,
            mask: &[u64; MASK_WORDS],
            out: &mut Compressed<Self>,
        ) -> usize {
            let mut count = 0;
            for (codes, bits) in codes.as_chunks::<64>().0.iter().zip(mask) {
                for (row, code) in codes.iter().enumerate() {
                    out[count] = *code;
                    count += (bits >> row & 1) as usize;
                }
            }
            count
        }
    };
}

macro_rules! lane {
    ($lane:ty, $between:ident, $compress8:ident) => {
        impl Lane for $lane {
            #[inline(always)]
            fn wide(self) -> u64 {
                self as u64
            }

            #[inline(always)]
            fn from_wide(value: u64) -> $lane {
                value as $lane
            }

            #[inline(always)]
            fn append_to(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
            #[inline(always)]
            fn between(codes: &Codes<$lane>, word: usize, ranges: &[($lane, $lane)]) -> u64 {
                let (chunks, _) = codes.as_chunks::<64>();
                avx2::$between(&chunks[word], ranges)
            }

            #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
            #[inline]
            fn compress(
                codes: &Codes<$lane>,
                mask: &[u64; MASK_WORDS],
                out: &mut Compressed<$lane>,
            ) -> usize {
                let mut count = 0;
                for (word, bits) in mask.iter().enumerate() {
                    for (part, byte) in bits.to_le_bytes().into_iter().enumerate() {
                        // SAFETY: eight codes are read at `64 * word + 8 * part <= 1016`. Eight are
                        // written at `count`, which is at most the rows before: 1016.
                        unsafe {
                            let from = codes.as_ptr().add(word * 64 + part * 8);
                            avx2::$compress8(from, byte, out.as_mut_ptr().add(count));
                        }
                        count += byte.count_ones() as usize;
                    }
                }
                count
            }

            plain_lane!();
        }
    };
}

lane!(u8, between_u8, compress_u8);
lane!(u16, between_u16, compress_u16);
lane!(u32, between_u32, compress_u32);
lane!(u64, between_u64, compress_u64);

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
mod avx2 {
    //! Eight codes, or 64, at a time.

    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    /// Writes each key beside its sign.
    #[inline(always)]
    pub(super) fn write_wide(keys: &[i64; 4], out: &mut [MaybeUninit<i128>; 4]) {
        // SAFETY: four keys are read, and 32 bytes are written at each half of four slots of 16. Low
        // halves come first on this architecture.
        unsafe {
            let to = out.as_mut_ptr();
            let keys = _mm256_loadu_si256(keys.as_ptr().cast());
            let signs = _mm256_cmpgt_epi64(_mm256_setzero_si256(), keys);
            let even = _mm256_unpacklo_epi64(keys, signs);
            let odd = _mm256_unpackhi_epi64(keys, signs);
            _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(even, odd));
            _mm256_storeu_si256(to.add(2).cast(), _mm256_permute2x128_si256::<0x31>(even, odd));
        }
    }

    /// For each byte of mask, the positions of its set bits, first to last.
    static POSITIONS: [[u8; 8]; 256] = {
        let mut table = [[0; 8]; 256];
        let mut mask = 0;
        while mask < 256 {
            let (mut count, mut bit) = (0, 0);
            while bit < 8 {
                if mask >> bit & 1 == 1 {
                    table[mask][count] = bit as u8;
                    count += 1;
                }
                bit += 1;
            }
            mask += 1;
        }
        table
    };

    /// The same as positions of pairs of bytes.
    static PAIR_POSITIONS: [[u8; 16]; 256] = {
        let mut table = [[0; 16]; 256];
        let mut mask = 0;
        while mask < 256 {
            let mut index = 0;
            while index < 8 {
                table[mask][2 * index] = 2 * POSITIONS[mask][index];
                table[mask][2 * index + 1] = 2 * POSITIONS[mask][index] + 1;
                index += 1;
            }
            mask += 1;
        }
        table
    };

    /// For each four bits of mask, the positions of the 32-bit halves of the set 64-bit codes.
    static HALF_POSITIONS: [[u32; 8]; 16] = {
        let mut table = [[0; 8]; 16];
        let mut mask = 0;
        while mask < 16 {
            let mut index = 0;
            while index < 4 {
                table[mask][2 * index] = 2 * POSITIONS[mask][index] as u32;
                table[mask][2 * index + 1] = 2 * POSITIONS[mask][index] as u32 + 1;
                index += 1;
            }
            mask += 1;
        }
        table
    };

    /// # Safety
    /// Eight codes can be read at `from` and written at `to`.
    #[inline(always)]
    pub(super) unsafe fn compress_u8(from: *const u8, mask: u8, to: *mut u8) {
        // SAFETY: the caller's promise; the table has eight bytes for every byte.
        unsafe {
            let positions = _mm_loadl_epi64(POSITIONS[mask as usize].as_ptr().cast());
            _mm_storel_epi64(to.cast(), _mm_shuffle_epi8(_mm_loadl_epi64(from.cast()), positions));
        }
    }

    /// # Safety
    /// Eight codes can be read at `from` and written at `to`.
    #[inline(always)]
    pub(super) unsafe fn compress_u16(from: *const u16, mask: u8, to: *mut u16) {
        // SAFETY: the caller's promise; the table has 16 bytes for every byte.
        unsafe {
            let positions = _mm_loadu_si128(PAIR_POSITIONS[mask as usize].as_ptr().cast());
            _mm_storeu_si128(to.cast(), _mm_shuffle_epi8(_mm_loadu_si128(from.cast()), positions));
        }
    }

    /// # Safety
    /// Eight codes can be read at `from` and written at `to`.
    #[inline(always)]
    pub(super) unsafe fn compress_u32(from: *const u32, mask: u8, to: *mut u32) {
        // SAFETY: the caller's promise; the table has eight bytes for every byte.
        unsafe {
            let positions = _mm_loadl_epi64(POSITIONS[mask as usize].as_ptr().cast());
            let codes = _mm256_loadu_si256(from.cast());
            let moved = _mm256_permutevar8x32_epi32(codes, _mm256_cvtepu8_epi32(positions));
            _mm256_storeu_si256(to.cast(), moved);
        }
    }

    /// # Safety
    /// Eight codes can be read at `from` and written at `to`.
    #[inline(always)]
    pub(super) unsafe fn compress_u64(from: *const u64, mask: u8, to: *mut u64) {
        // SAFETY: the caller's promise: four codes at `from` and `to`, then four codes behind them,
        // written at most four further on. The table has 32 bytes for every four bits.
        unsafe {
            let (low, high) = ((mask & 15) as usize, (mask >> 4) as usize);
            let positions = _mm256_loadu_si256(HALF_POSITIONS[low].as_ptr().cast());
            let codes = _mm256_loadu_si256(from.cast());
            _mm256_storeu_si256(to.cast(), _mm256_permutevar8x32_epi32(codes, positions));
            let positions = _mm256_loadu_si256(HALF_POSITIONS[high].as_ptr().cast());
            let codes = _mm256_loadu_si256(from.add(4).cast());
            let moved = _mm256_permutevar8x32_epi32(codes, positions);
            _mm256_storeu_si256(to.add(low.count_ones() as usize).cast(), moved);
        }
    }

    #[inline(always)]
    pub(super) fn between_u8(codes: &[u8; 64], ranges: &[(u8, u8)]) -> u64 {
        // SAFETY: 32 bytes are read at 0 and 32 of 64.
        unsafe {
            let bits = |start: usize| {
                let codes = _mm256_loadu_si256(codes.as_ptr().add(start).cast());
                let within = any_of(ranges, |low, high| {
                    let (lows, highs) = (_mm256_set1_epi8(low as i8), _mm256_set1_epi8(high as i8));
                    let above = _mm256_cmpeq_epi8(_mm256_max_epu8(codes, lows), codes);
                    let below = _mm256_cmpeq_epi8(_mm256_min_epu8(codes, highs), codes);
                    _mm256_and_si256(above, below)
                });
                u64::from(_mm256_movemask_epi8(within) as u32)
            };
            bits(0) | bits(32) << 32
        }
    }

    #[inline(always)]
    pub(super) fn between_u16(codes: &[u16; 64], ranges: &[(u16, u16)]) -> u64 {
        // SAFETY: 16 codes are read at 0, 16, 32 and 48 of 64.
        unsafe {
            let within = |start: usize| {
                let codes = _mm256_loadu_si256(codes.as_ptr().add(start).cast());
                any_of(ranges, |low, high| {
                    let lows = _mm256_set1_epi16(low as i16);
                    let highs = _mm256_set1_epi16(high as i16);
                    let above = _mm256_cmpeq_epi16(_mm256_max_epu16(codes, lows), codes);
                    let below = _mm256_cmpeq_epi16(_mm256_min_epu16(codes, highs), codes);
                    _mm256_and_si256(above, below)
                })
            };
            // Packing works within 128-bit halves; the permutation puts them in order again.
            let bits = |start: usize| {
                let packed = _mm256_packs_epi16(within(start), within(start + 16));
                let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
                u64::from(_mm256_movemask_epi8(ordered) as u32)
            };
            bits(0) | bits(32) << 32
        }
    }

    #[inline(always)]
    pub(super) fn between_u32(codes: &[u32; 64], ranges: &[(u32, u32)]) -> u64 {
        let mut bits = 0;
        // SAFETY: eight codes are read at each multiple of eight below 64.
        unsafe {
            for part in 0..8 {
                let codes = _mm256_loadu_si256(codes.as_ptr().add(part * 8).cast());
                let within = any_of(ranges, |low, high| {
                    let lows = _mm256_set1_epi32(low as i32);
                    let highs = _mm256_set1_epi32(high as i32);
                    let above = _mm256_cmpeq_epi32(_mm256_max_epu32(codes, lows), codes);
                    let below = _mm256_cmpeq_epi32(_mm256_min_epu32(codes, highs), codes);
                    _mm256_and_si256(above, below)
                });
                let within = _mm256_movemask_ps(_mm256_castsi256_ps(within));
                bits |= u64::from(within as u8) << (part * 8);
            }
        }
        bits
    }

    #[inline(always)]
    pub(super) fn between_u64(codes: &[u64; 64], ranges: &[(u64, u64)]) -> u64 {
        let mut bits = 0;
        // SAFETY: four codes are read at each multiple of four below 64.
        unsafe {
            // There is only a signed comparison; turning the top bit keeps the order.
            let top = _mm256_set1_epi64x(i64::MIN);
            for part in 0..16 {
                let codes = _mm256_loadu_si256(codes.as_ptr().add(part * 4).cast());
                let codes = _mm256_xor_si256(codes, top);
                let within = any_of(ranges, |low, high| {
                    let lows = _mm256_xor_si256(_mm256_set1_epi64x(low as i64), top);
                    let highs = _mm256_xor_si256(_mm256_set1_epi64x(high as i64), top);
                    let below = _mm256_cmpgt_epi64(lows, codes);
                    let above = _mm256_cmpgt_epi64(codes, highs);
                    let all = _mm256_set1_epi64x(-1);
                    _mm256_andnot_si256(_mm256_or_si256(below, above), all)
                });
                let within = _mm256_movemask_pd(_mm256_castsi256_pd(within));
                bits |= u64::from(within as u8) << (part * 4);
            }
        }
        bits
    }

    /// The union of what `within` gives for each range: lanes of ones. Ranges are put together
    /// before their bits are taken out of the lanes, which is the slower part.
    #[inline(always)]
    fn any_of<T: Copy>(ranges: &[(T, T)], within: impl Fn(T, T) -> __m256i) -> __m256i {
        // SAFETY: the build targets a machine with AVX2.
        unsafe {
            let none = _mm256_setzero_si256();
            let add = |any, range: &(T, T)| _mm256_or_si256(any, within(range.0, range.1));
            ranges.iter().fold(none, add)
        }
    }
}
