//! Delta: differences from the key before, in frames of reference; for ascending keys and slowly
//! moving ones.
//!
//! ```text
//!  first key | smallest | largest, vector by vector each | frames of reference of the differences
//! ```
//!
//! The first difference of a vector is a copy of the second, so that it does not widen the vector.
//! Differences are modulo 2^64; a vector is decoded from its first key on, and then compared.

use super::FormatError;
use super::frame_of_reference::{self, FrameOfReference};
use super::key_stream::KeyVector;
use super::layout::{Reader, Writer};
use crate::VECTOR_ROWS;

/// One opened stream.
pub(super) struct Delta {
    vectors: Vec<Start>,
    differences: FrameOfReference,
}

/// Where a vector starts, and the bounds of its keys.
struct Start {
    first: i64,
    low: i64,
    high: i64,
}

/// Bytes of the encoded keys.
pub(super) fn encoded_bytes(keys: &[i64]) -> usize {
    let metadata = 24 * keys.len().div_ceil(VECTOR_ROWS);
    metadata + frame_of_reference::measure(&differences(keys)).encoded_bytes()
}

fn differences(keys: &[i64]) -> Vec<i64> {
    let mut differences = Vec::with_capacity(keys.len());
    for keys in keys.chunks(VECTOR_ROWS) {
        let step = |pair: &[i64]| pair[1].wrapping_sub(pair[0]);
        differences.push(keys.windows(2).next().map_or(0, step));
        differences.extend(keys.windows(2).map(step));
    }
    differences
}

impl Delta {
    pub(super) fn write(keys: &[i64], out: &mut Writer) {
        let vectors = || keys.chunks(VECTOR_ROWS);
        vectors().for_each(|keys| out.i64(keys[0]));
        vectors().for_each(|keys| out.i64(keys.iter().copied().min().unwrap_or_default()));
        vectors().for_each(|keys| out.i64(keys.iter().copied().max().unwrap_or_default()));
        FrameOfReference::write(&differences(keys), out);
    }

    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<Delta, FormatError> {
        let count = rows.div_ceil(VECTOR_ROWS);
        let (first, low, high) =
            (reader.items(count, 8)?, reader.items(count, 8)?, reader.items(count, 8)?);
        let numbers = |bytes: &[u8]| -> Vec<i64> {
            bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
        };
        let bounds = numbers(&low).into_iter().zip(numbers(&high));
        let starts = numbers(&first).into_iter().zip(bounds);
        let vectors = starts.map(|(first, (low, high))| Start { first, low, high }).collect();
        Ok(Delta { vectors, differences: FrameOfReference::open(rows, reader)? })
    }

    pub(super) fn load(&self, vector: usize, out: &mut KeyVector) {
        let Some(start) = self.vectors.get(vector) else { return };
        self.differences.load(vector, out);
        let mut key = start.first.wrapping_sub(out[0]);
        for slot in out.iter_mut() {
            key = key.wrapping_add(*slot);
            *slot = key;
        }
    }

    /// The smallest and the largest key of a vector.
    pub(super) fn bounds(&self, vector: usize) -> Option<(i64, i64)> {
        self.vectors.get(vector).map(|start| (start.low, start.high))
    }

    pub(super) fn prefetch(&self, vector: usize) {
        self.differences.prefetch(vector);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.vectors.capacity() * size_of::<Start>() + self.differences.heap_bytes()
    }
}
