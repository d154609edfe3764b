//! Raw: values as they lie in memory, at the width of the column's type. Chosen by ENCODE RAW and
//! for decimals that do not fit 64 bits.

use arrow_buffer::Buffer;

use super::FormatError;
use super::kernel;
use super::key_stream::KeyVector;
use super::layout::{Reader, Writer};
use super::mask::Mask;
use crate::VECTOR_ROWS;

/// Keys, each in `width` bytes.
pub(super) struct RawKeys {
    width: usize,
    bytes: Buffer,
}

impl RawKeys {
    /// Writes `keys`, all of which fit `width` (1, 2, 4 or 8) bytes as signed numbers; with a width
    /// of 1 they are 0 or 1, or codes below 128.
    pub(super) fn write(keys: &[i64], width: usize, out: &mut Writer) {
        out.u64(width as u64);
        for key in keys {
            let bytes = key.to_le_bytes();
            debug_assert!(sign_extended(&bytes[..width]) == *key, "{key} needs more bytes");
            out.raw(&bytes[..width]);
        }
        out.align();
    }

    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<RawKeys, FormatError> {
        let width = match reader.u64()? {
            width @ (1 | 2 | 4 | 8) => width as usize,
            _ => return Err(FormatError::new("a raw value is not 1, 2, 4 or 8 bytes wide")),
        };
        let bytes = reader.items(rows, width)?;
        reader.align()?;
        Ok(RawKeys { width, bytes })
    }

    /// Reads the keys of a vector; slots beyond its last row keep what they held.
    pub(super) fn load(&self, vector: usize, out: &mut KeyVector) {
        let start = (vector * VECTOR_ROWS * self.width).min(self.bytes.len());
        let end = (start + VECTOR_ROWS * self.width).min(self.bytes.len());
        let bytes = &self.bytes[start..end];
        match self.width {
            1 => load_fixed::<1>(bytes, out, |bytes| i8::from_le_bytes(bytes).into()),
            2 => load_fixed::<2>(bytes, out, |bytes| i16::from_le_bytes(bytes).into()),
            4 => load_fixed::<4>(bytes, out, |bytes| i32::from_le_bytes(bytes).into()),
            _ => load_fixed::<8>(bytes, out, i64::from_le_bytes),
        }
    }

    pub(super) fn prefetch(&self, vector: usize) {
        let length = VECTOR_ROWS * self.width;
        kernel::prefetch(&self.bytes, vector * length, length);
    }
}

fn sign_extended(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len() as u32;
    let value = bytes.iter().rev().fold(0_i64, |value, byte| (value << 8) | i64::from(*byte));
    (value << unused) >> unused
}

fn load_fixed<const N: usize>(bytes: &[u8], out: &mut KeyVector, read: impl Fn([u8; N]) -> i64) {
    let (items, _) = bytes.as_chunks::<N>();
    for (slot, item) in out.iter_mut().zip(items) {
        *slot = read(*item);
    }
}

/// Decimals of 16 bytes.
pub(super) struct RawWide {
    bytes: Buffer,
}

impl RawWide {
    pub(super) fn write(values: &[i128], out: &mut Writer) {
        for value in values {
            out.raw(&value.to_le_bytes());
        }
    }

    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<RawWide, FormatError> {
        Ok(RawWide { bytes: reader.items(rows, 16)? })
    }

    pub(super) fn prefetch(&self, vector: usize) {
        kernel::prefetch(&self.bytes, vector * VECTOR_ROWS * 16, VECTOR_ROWS * 16);
    }

    fn vector(&self, vector: usize) -> &[[u8; 16]] {
        let (items, _) = self.bytes.as_chunks::<16>();
        let start = (vector * VECTOR_ROWS).min(items.len());
        &items[start..(start + VECTOR_ROWS).min(items.len())]
    }

    /// Keeps the rows whose value lies in one of the ranges.
    pub(super) fn filter(&self, vector: usize, ranges: &[(i128, i128)], mask: &mut Mask) {
        let values = self.vector(vector);
        let mut keep = Mask::none();
        for row in mask.rows().filter(|row| *row < values.len()) {
            let value = i128::from_le_bytes(values[row]);
            let candidate = ranges.partition_point(|(_, high)| *high < value);
            if ranges.get(candidate).is_some_and(|(low, _)| *low <= value) {
                keep.insert(row);
            }
        }
        *mask = keep;
    }

    /// Appends the selected values.
    pub(super) fn decode(&self, vector: usize, mask: &Mask, out: &mut Vec<i128>) {
        let values = self.vector(vector);
        out.extend(mask.rows().map(|row| match values.get(row) {
            Some(value) => i128::from_le_bytes(*value),
            None => 0,
        }));
    }
}
