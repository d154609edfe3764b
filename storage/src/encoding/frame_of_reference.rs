//! Frame of reference: `key = base(vector) + multiplier(chunk) * code`, with the codes of a vector
//! bit-packed in the width that its largest needs.
//!
//! The multiplier is the greatest common divisor of all differences in the chunk (100 for decimals
//! that happen to be whole). Codes are unpacked to the smallest integer that holds the largest code
//! of the chunk, whatever the type of the column: a date of one year needs 9 bits and 16-bit lanes.
//! Width 0 is a constant vector. The base and the largest code are the zone map of the vector: most
//! vectors of a selective filter are settled by them alone.
//!
//! ```text
//!  lane bytes, multiplier | base, vector by vector | largest code | width | packed codes
//! ```
//!
//! All arithmetic is modulo 2^64, which is exact for any two 64-bit keys.
#![expect(
    unsafe_code,
    reason = "unpacking reads words that were checked when the chunk was opened"
)]

use std::mem::MaybeUninit;

use arrow_buffer::Buffer;

use super::FormatError;
use super::kernel::{self, Codes, Compressed, Lane};
use super::keys::FromKey;
use super::layout::{Reader, Writer};
use super::mask::Mask;
use crate::{ROW_GROUP_ROWS, VECTOR_ROWS};

/// Up to this many selected rows are unpacked one by one.
pub(super) const SINGLE_ROWS_MAX: usize = 40;
/// Up to this many ranges are compared with whole vectors; more are searched for each row.
const COMPARED_RANGES_MAX: usize = 8;
/// Bytes of the packed codes of a vector for each bit of their width.
const BYTES_PER_BIT: usize = VECTOR_ROWS / 8;

/// One opened stream.
pub(super) struct FrameOfReference {
    lane: LaneWidth,
    multiplier: u64,
    vectors: Vec<Frame>,
    packed: Buffer,
}

/// Metadata of a vector. Checked when opened: `width` is at most the lane's, and the
/// `BYTES_PER_BIT * width` bytes at `offset` lie within the packed bytes.
#[derive(Clone, Copy)]
struct Frame {
    base: i64,
    code_max: u64,
    offset: u32,
    width: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneWidth {
    One,
    Two,
    Four,
    Eight,
}

macro_rules! with_lane {
    ($width:expr, $lane:ident => $work:expr) => {
        match $width {
            LaneWidth::One => {
                type $lane = u8;
                $work
            }
            LaneWidth::Two => {
                type $lane = u16;
                $work
            }
            LaneWidth::Four => {
                type $lane = u32;
                $work
            }
            LaneWidth::Eight => {
                type $lane = u64;
                $work
            }
        }
    };
}

/// What the encoding of some keys needs: see [`measure`].
pub(super) struct Measure {
    bounds: Vec<(i64, i64)>,
    multiplier: u64,
}

/// Finds the bounds of each vector and the multiplier of `keys`.
pub(super) fn measure(keys: &[i64]) -> Measure {
    let bounds: Vec<(i64, i64)> = keys.chunks(VECTOR_ROWS).map(bounds).collect();
    let lowest = bounds.iter().map(|(low, _)| *low).min().unwrap_or_default();
    Measure { bounds, multiplier: common_divisor(keys, lowest) }
}

fn bounds(keys: &[i64]) -> (i64, i64) {
    let wider = |(low, high): (i64, i64), key: &i64| (low.min(*key), high.max(*key));
    keys.iter().fold((i64::MAX, i64::MIN), wider)
}

/// The greatest common divisor of the distances to `lowest`; 1 if there are none.
fn common_divisor(keys: &[i64], lowest: i64) -> u64 {
    let mut divisor = 0;
    for key in keys {
        let distance = distance(*key, lowest);
        if divisor == 0 || !distance.is_multiple_of(divisor) {
            let (mut large, mut small) = (distance, divisor);
            while small != 0 {
                (large, small) = (small, large % small);
            }
            divisor = large;
            if divisor == 1 {
                break;
            }
        }
    }
    divisor.max(1)
}

/// `key - base` for `key >= base`, exact over all of `i64`.
fn distance(key: i64, base: i64) -> u64 {
    (key as u64).wrapping_sub(base as u64)
}

fn bits_of(code: u64) -> u8 {
    (64 - code.leading_zeros()) as u8
}

impl Measure {
    fn code_max(&self, (low, high): (i64, i64)) -> u64 {
        distance(high, low) / self.multiplier
    }

    fn lane(&self) -> LaneWidth {
        let widest = self.bounds.iter().map(|bounds| self.code_max(*bounds)).max();
        match bits_of(widest.unwrap_or_default()) {
            0..=8 => LaneWidth::One,
            9..=16 => LaneWidth::Two,
            17..=32 => LaneWidth::Four,
            _ => LaneWidth::Eight,
        }
    }

    /// Bytes of the encoded keys.
    pub(super) fn encoded_bytes(&self) -> usize {
        let vector =
            |bounds: &(i64, i64)| 17 + BYTES_PER_BIT * usize::from(bits_of(self.code_max(*bounds)));
        16 + self.bounds.iter().map(vector).sum::<usize>()
    }
}

impl FrameOfReference {
    /// Writes `keys`, at most a row group of them.
    pub(super) fn write(keys: &[i64], out: &mut Writer) {
        assert!(keys.len() <= ROW_GROUP_ROWS, "offsets of packed vectors have 32 bits");
        let measure = measure(keys);
        out.u64(lane_bytes(measure.lane()) as u64);
        out.u64(measure.multiplier);
        measure.bounds.iter().for_each(|(low, _)| out.i64(*low));
        measure.bounds.iter().for_each(|bounds| out.u64(measure.code_max(*bounds)));
        measure.bounds.iter().for_each(|bounds| out.u8(bits_of(measure.code_max(*bounds))));
        out.align();
        with_lane!(measure.lane(), T => pack_all::<T>(keys, &measure, out));
        out.align();
    }

    /// Reads the stream of `rows` keys.
    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<FrameOfReference, FormatError> {
        let lane = match reader.u64()? {
            1 => LaneWidth::One,
            2 => LaneWidth::Two,
            4 => LaneWidth::Four,
            8 => LaneWidth::Eight,
            _ => return Err(FormatError::new("a lane is not 1, 2, 4 or 8 bytes wide")),
        };
        let multiplier = reader.u64()?;
        if multiplier == 0 {
            return Err(FormatError::new("a multiplier is zero"));
        }
        let count = rows.div_ceil(VECTOR_ROWS);
        let bases = reader.items(count, 8)?;
        let codes_max = reader.items(count, 8)?;
        let widths = reader.part(count)?;
        reader.align()?;
        let (bases, codes_max) = (bases.as_chunks::<8>().0, codes_max.as_chunks::<8>().0);
        let mut offset = 0_u32;
        let mut vectors = Vec::with_capacity(count);
        for ((base, code_max), width) in bases.iter().zip(codes_max).zip(widths.iter()) {
            let (base, code_max) = (i64::from_le_bytes(*base), u64::from_le_bytes(*code_max));
            if usize::from(*width) > 8 * lane_bytes(lane) || bits_of(code_max) != *width {
                return Err(FormatError::new("a bit width does not fit"));
            }
            vectors.push(Frame { base, code_max, offset, width: *width });
            offset = offset
                .checked_add(BYTES_PER_BIT as u32 * u32::from(*width))
                .ok_or(FormatError::new("packed vectors are too long"))?;
        }
        let packed = reader.part(offset as usize)?;
        if !packed.as_ptr().addr().is_multiple_of(8) {
            return Err(FormatError::new("packed vectors are not aligned"));
        }
        reader.align()?;
        Ok(FrameOfReference { lane, multiplier, vectors, packed })
    }

    /// The packed codes of a vector. `T` is the stream's lane.
    #[inline(always)]
    fn packed<T: Lane>(&self, frame: Frame) -> &[T] {
        debug_assert!(size_of::<T>() == lane_bytes(self.lane), "the lane is the stream's");
        let count = BYTES_PER_BIT * usize::from(frame.width) / size_of::<T>();
        // SAFETY: `open` checked that these bytes lie within `packed`, which is aligned to eight
        // bytes as is every offset (a multiple of 128). Any bits are a value of an integer.
        unsafe {
            let start = self.packed.as_ptr().add(frame.offset as usize);
            std::slice::from_raw_parts(start.cast::<T>(), count)
        }
    }

    #[inline(always)]
    fn unpack<T: Lane>(&self, frame: Frame, out: &mut Codes<T>) {
        // SAFETY: the input has exactly the words of `width`, which is at most the lane's bits.
        unsafe { T::unchecked_unpack(usize::from(frame.width), self.packed(frame), out) }
    }

    #[inline(always)]
    fn key(&self, frame: Frame, code: u64) -> i64 {
        (frame.base as u64).wrapping_add(self.multiplier.wrapping_mul(code)) as i64
    }

    /// Reads the keys of a vector.
    pub(super) fn load<V: FromKey>(&self, vector: usize, out: &mut [V; VECTOR_ROWS]) {
        let Some(frame) = self.vectors.get(vector).copied() else { return };
        with_lane!(self.lane, T => {
            let mut codes: Codes<T> = [0; VECTOR_ROWS];
            self.unpack(frame, &mut codes);
            for (slot, code) in out.iter_mut().zip(&codes) {
                *slot = V::from_key(self.key(frame, code.wide()));
            }
        });
    }

    /// Writes the values of codes to `out`, which has as many slots: all of them.
    #[inline(always)]
    fn widen<T: Lane, V: FromKey>(&self, frame: Frame, codes: &[T], out: &mut [MaybeUninit<V>]) {
        debug_assert_eq!(codes.len(), out.len(), "a slot for each code");
        if self.multiplier == 1 {
            let base = frame.base as u64;
            return V::write_keys(codes, |code| base.wrapping_add(code.wide()) as i64, out);
        }
        V::write_keys(codes, |code| self.key(frame, code.wide()), out);
    }

    /// Keeps the rows whose key lies in one of the ranges, which ascend.
    pub(super) fn filter(&self, vector: usize, ranges: &[(i64, i64)], mask: &mut Mask) {
        let Some(frame) = self.vectors.get(vector).copied() else {
            *mask = Mask::none();
            return;
        };
        let codes_of = |range: &(i64, i64)| self.code_range(frame, *range);
        let mut codes = ranges.iter().filter_map(codes_of);
        let Some(first) = codes.next() else {
            *mask = Mask::none();
            return;
        };
        let more: Vec<(u64, u64)> = codes.collect();
        if more.is_empty() && first == (0, frame.code_max) {
            return;
        }
        with_lane!(self.lane, T => self.filter_codes::<T>(frame, first, &more, mask));
    }

    /// The codes that stand for keys of a range; `None` if there are none.
    fn code_range(&self, frame: Frame, (low, high): (i64, i64)) -> Option<(u64, u64)> {
        if high < frame.base {
            return None;
        }
        let first = match low <= frame.base {
            true => 0,
            false => distance(low, frame.base).div_ceil(self.multiplier),
        };
        let last = (distance(high, frame.base) / self.multiplier).min(frame.code_max);
        (first <= last).then_some((first, last))
    }

    fn filter_codes<T: Lane>(
        &self,
        frame: Frame,
        first: (u64, u64),
        more: &[(u64, u64)],
        mask: &mut Mask,
    ) {
        let mut codes: Codes<T> = [T::default(); VECTOR_ROWS];
        self.unpack(frame, &mut codes);
        let lanes = |(low, high): (u64, u64)| (T::from_wide(low), T::from_wide(high));
        let first_lanes = lanes(first);
        match *more {
            // With the number of ranges known the comparisons are one straight piece of code.
            [] => return kernel::keep_between(&codes, &[first_lanes], mask.words_mut()),
            [second] => {
                let ranges = [first_lanes, lanes(second)];
                return kernel::keep_between(&codes, &ranges, mask.words_mut());
            }
            _ if more.len() < COMPARED_RANGES_MAX => {
                let mut ranges = [first_lanes; COMPARED_RANGES_MAX];
                for (slot, range) in ranges[1..].iter_mut().zip(more) {
                    *slot = lanes(*range);
                }
                let ranges = &ranges[..=more.len()];
                return kernel::keep_between(&codes, ranges, mask.words_mut());
            }
            _ => {}
        }
        let mut keep = Mask::none();
        for row in mask.rows() {
            let code = codes[row].wide();
            let candidate = more.partition_point(|(_, high)| *high < code);
            let hit = more.get(candidate).is_some_and(|(low, _)| *low <= code);
            if hit || (first.0 <= code && code <= first.1) {
                keep.insert(row);
            }
        }
        *mask = keep;
    }

    /// Appends the values of the selected rows.
    pub(super) fn decode<V: FromKey>(&self, vector: usize, mask: &Mask, out: &mut Vec<V>) {
        let selected = mask.count();
        let Some(frame) = self.vectors.get(vector).copied() else {
            return out.resize(out.len() + selected, V::default());
        };
        out.reserve(selected);
        let slots = &mut out.spare_capacity_mut()[..selected];
        with_lane!(self.lane, T => self.decode_codes::<T, V>(frame, mask, slots));
        // SAFETY: `decode_codes` has written all of the slots.
        unsafe { out.set_len(out.len() + selected) };
    }

    /// Writes the values of the selected rows to `out`, which has as many slots: all of them.
    fn decode_codes<T: Lane, V: FromKey>(
        &self,
        frame: Frame,
        mask: &Mask,
        out: &mut [MaybeUninit<V>],
    ) {
        if out.len() <= SINGLE_ROWS_MAX {
            let packed = self.packed::<T>(frame);
            for (slot, row) in out.iter_mut().zip(mask.rows()) {
                // SAFETY: as in `unpack`; the rows of a mask are below 1,024.
                let code =
                    unsafe { T::unchecked_unpack_single(usize::from(frame.width), packed, row) };
                slot.write(V::from_key(self.key(frame, code.wide())));
            }
            return;
        }
        let mut codes: Codes<T> = [T::default(); VECTOR_ROWS];
        self.unpack(frame, &mut codes);
        if out.len() == VECTOR_ROWS {
            return self.widen(frame, &codes, out);
        }
        let mut compressed: Compressed<T> = [T::default(); VECTOR_ROWS + kernel::COMPRESS_SLACK];
        let count = T::compress(&codes, mask.words(), &mut compressed);
        assert_eq!(count, out.len(), "each selected row has a code");
        self.widen(frame, &compressed[..count], out);
    }

    pub(super) fn prefetch(&self, vector: usize) {
        if let Some(frame) = self.vectors.get(vector) {
            let length = BYTES_PER_BIT * usize::from(frame.width);
            kernel::prefetch(&self.packed, frame.offset as usize, length);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.vectors.capacity() * size_of::<Frame>()
    }
}

fn lane_bytes(lane: LaneWidth) -> usize {
    with_lane!(lane, T => size_of::<T>())
}

fn pack_all<T: Lane>(keys: &[i64], measure: &Measure, out: &mut Writer) {
    let divide = ExactDivision::by(measure.multiplier);
    let mut codes: Codes<T> = [T::default(); VECTOR_ROWS];
    let mut packed: Codes<T> = [T::default(); VECTOR_ROWS];
    for (keys, bounds) in keys.chunks(VECTOR_ROWS).zip(&measure.bounds) {
        for (code, key) in codes.iter_mut().zip(keys) {
            *code = T::from_wide(divide.quotient(distance(*key, bounds.0)));
        }
        codes[keys.len()..].fill(T::default());
        let width = usize::from(bits_of(measure.code_max(*bounds)));
        let words = BYTES_PER_BIT * width / size_of::<T>();
        // SAFETY: 1,024 codes go into exactly the words of `width`, at most the bits of the lane.
        unsafe { T::unchecked_pack(width, &codes, &mut packed[..words]) };
        packed[..words].iter().for_each(|word| word.append_to(out.bytes()));
    }
}

/// Division of multiples by a constant: a shift by the divisor's power of two and a multiplication
/// with the inverse of its odd part modulo 2^64.
struct ExactDivision {
    shift: u32,
    inverse: u64,
}

impl ExactDivision {
    fn by(divisor: u64) -> ExactDivision {
        let shift = divisor.trailing_zeros();
        let odd = divisor >> shift;
        // Each step of Newton's iteration doubles the right bits; the first guess has three.
        let step =
            |inverse: u64| inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        let inverse = (0..5).fold(odd, |inverse, _| step(inverse));
        ExactDivision { shift, inverse }
    }

    #[inline(always)]
    fn quotient(&self, multiple: u64) -> u64 {
        (multiple >> self.shift).wrapping_mul(self.inverse)
    }
}
