//! A stream of keys in one of the encodings of whole numbers. Columns of fixed-width types are key
//! streams; so are the codes of a dictionary and the lengths of texts.

use super::delta::{self, Delta};
use super::frame_of_reference::{self, FrameOfReference, SINGLE_ROWS_MAX};
use super::kernel::{COMPRESS_SLACK, Compressed, Lane as _};
use super::keys::FromKey;
use super::layout::{Reader, Writer};
use super::mask::Mask;
use super::raw::RawKeys;
use super::run_length::{self, RunLength};
use super::{Encoding, FormatError};
use crate::VECTOR_ROWS;
use crate::io::EncodingAim;

/// The keys of one vector.
pub(super) type KeyVector = [i64; VECTOR_ROWS];

/// One opened stream.
pub(super) enum KeyStream {
    Raw(RawKeys),
    FrameOfReference(FrameOfReference),
    Delta(Delta),
    RunLength(RunLength),
}

/// The tags that streams begin with.
const TAG_RAW: u64 = 1;
const TAG_FRAME_OF_REFERENCE: u64 = 2;
const TAG_DELTA: u64 = 3;
const TAG_RUN_LENGTH: u64 = 4;

/// A smaller encoding that decodes more slowly must be at most this part of the size.
const SLOWER_SIZE_PERCENT: usize = 50;
/// The same where only the size counts; less would not be worth anything.
const SMALLER_SIZE_PERCENT: usize = 97;

/// Writes `keys` in `encoding`; those of text and dictionaries stand for a frame of reference.
/// `width` is that of [`Encoding::Raw`].
pub(super) fn write_keys(encoding: Encoding, keys: &[i64], width: usize, out: &mut Writer) {
    match encoding {
        Encoding::Raw => {
            out.u64(TAG_RAW);
            RawKeys::write(keys, width, out);
        }
        Encoding::Delta => {
            out.u64(TAG_DELTA);
            Delta::write(keys, out);
        }
        Encoding::RunLength => {
            out.u64(TAG_RUN_LENGTH);
            RunLength::write(keys, out);
        }
        Encoding::FrameOfReference | Encoding::Dictionary | Encoding::Fsst | Encoding::Zstd => {
            out.u64(TAG_FRAME_OF_REFERENCE);
            FrameOfReference::write(keys, out);
        }
    }
}

/// The encoding for `keys`, which stand for all of the column, and its bytes: a frame of reference,
/// which decodes fastest, unless another is smaller: much smaller, where speed counts.
pub(super) fn choose(keys: &[i64], aim: EncodingAim) -> (Encoding, usize) {
    let size_percent = match aim {
        EncodingAim::Speed => SLOWER_SIZE_PERCENT,
        EncodingAim::Size => SMALLER_SIZE_PERCENT,
    };
    let plain = frame_of_reference::measure(keys).encoded_bytes();
    let others = [
        (Encoding::RunLength, run_length::encoded_bytes(keys)),
        (Encoding::Delta, delta::encoded_bytes(keys)),
    ];
    let best = others.into_iter().min_by_key(|(_, bytes)| *bytes);
    match best {
        Some((encoding, bytes)) if bytes * 100 <= plain * size_percent => (encoding, bytes),
        Some(_) | None => (Encoding::FrameOfReference, plain),
    }
}

fn in_ranges(ranges: &[(i64, i64)], key: i64) -> bool {
    let candidate = ranges.partition_point(|(_, high)| *high < key);
    ranges.get(candidate).is_some_and(|(low, _)| *low <= key)
}

impl KeyStream {
    /// Reads a stream of `rows` keys and checks all of its lengths and widths.
    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<KeyStream, FormatError> {
        Ok(match reader.u64()? {
            TAG_RAW => KeyStream::Raw(RawKeys::open(rows, reader)?),
            TAG_FRAME_OF_REFERENCE => {
                KeyStream::FrameOfReference(FrameOfReference::open(rows, reader)?)
            }
            TAG_DELTA => KeyStream::Delta(Delta::open(rows, reader)?),
            TAG_RUN_LENGTH => KeyStream::RunLength(RunLength::open(rows, reader)?),
            _ => return Err(FormatError::new("unknown encoding of numbers")),
        })
    }

    /// Reads the values of a vector; slots beyond its last row hold anything.
    pub(super) fn load<T: FromKey>(&self, vector: usize, out: &mut [T; VECTOR_ROWS]) {
        let load: &dyn Fn(&mut KeyVector) = match self {
            KeyStream::FrameOfReference(frames) => return frames.load(vector, out),
            KeyStream::Raw(raw) => &|keys| raw.load(vector, keys),
            KeyStream::Delta(delta) => &|keys| delta.load(vector, keys),
            KeyStream::RunLength(runs) => &|keys| runs.load(vector, keys),
        };
        let mut keys = [0; VECTOR_ROWS];
        load(&mut keys);
        for (slot, key) in out.iter_mut().zip(keys) {
            *slot = T::from_key(key);
        }
    }

    /// Whether all of the `rows` keys are in `0..limit`.
    pub(super) fn all_below(&self, rows: usize, limit: usize) -> bool {
        let mut keys: KeyVector = [0; VECTOR_ROWS];
        (0..rows.div_ceil(VECTOR_ROWS)).all(|vector| {
            self.load(vector, &mut keys);
            let count = (rows - vector * VECTOR_ROWS).min(VECTOR_ROWS);
            // As unsigned numbers the negative ones are the largest.
            keys[..count].iter().fold(0, |max, key| max.max(*key as u64)) < limit as u64
        })
    }

    /// Keeps the rows whose key lies in one of the ranges, which ascend.
    pub(super) fn filter(&self, vector: usize, ranges: &[(i64, i64)], mask: &mut Mask) {
        match self {
            KeyStream::FrameOfReference(frames) => frames.filter(vector, ranges, mask),
            KeyStream::RunLength(runs) => runs.filter(vector, |key| in_ranges(ranges, key), mask),
            KeyStream::Raw(_) => self.filter_loaded(vector, ranges, mask),
            KeyStream::Delta(delta) => {
                let Some(bounds) = delta.bounds(vector) else { return };
                let touches = |range: &(i64, i64)| range.0 <= bounds.1 && range.1 >= bounds.0;
                let covers = |range: &(i64, i64)| range.0 <= bounds.0 && range.1 >= bounds.1;
                match ranges.iter().find(|range| touches(range)) {
                    None => *mask = Mask::none(),
                    Some(range) if covers(range) => {}
                    Some(_) => self.filter_loaded(vector, ranges, mask),
                }
            }
        }
    }

    fn filter_loaded(&self, vector: usize, ranges: &[(i64, i64)], mask: &mut Mask) {
        let mut keys: KeyVector = [0; VECTOR_ROWS];
        self.load(vector, &mut keys);
        let mut keep = Mask::none();
        if let [(low, high)] = ranges {
            for (bits, keys) in keep.words_mut().iter_mut().zip(keys.as_chunks::<64>().0) {
                for (row, key) in keys.iter().enumerate() {
                    *bits |= u64::from(*key >= *low && *key <= *high) << row;
                }
            }
            return mask.and(&keep);
        }
        for row in mask.rows().filter(|row| in_ranges(ranges, keys[*row])) {
            keep.insert(row);
        }
        *mask = keep;
    }

    /// Appends the values of the selected rows.
    pub(super) fn decode<T: FromKey>(&self, vector: usize, mask: &Mask, out: &mut Vec<T>) {
        match self {
            KeyStream::FrameOfReference(frames) => frames.decode(vector, mask, out),
            KeyStream::Raw(_) | KeyStream::Delta(_) | KeyStream::RunLength(_) => {
                let mut keys: KeyVector = [0; VECTOR_ROWS];
                self.load(vector, &mut keys);
                let selected = mask.count();
                if selected == VECTOR_ROWS {
                    out.extend(keys.iter().map(|key| T::from_key(*key)));
                } else if selected <= SINGLE_ROWS_MAX {
                    out.extend(mask.rows().map(|row| T::from_key(keys[row])));
                } else {
                    let keys = keys.map(|key| key as u64);
                    let mut together: Compressed<u64> = [0; VECTOR_ROWS + COMPRESS_SLACK];
                    let count = u64::compress(&keys, mask.words(), &mut together);
                    out.extend(together[..count].iter().map(|key| T::from_key(*key as i64)));
                }
            }
        }
    }

    /// Starts to fetch the vector's bytes into the cache.
    pub(super) fn prefetch(&self, vector: usize) {
        match self {
            KeyStream::Raw(raw) => raw.prefetch(vector),
            KeyStream::FrameOfReference(frames) => frames.prefetch(vector),
            KeyStream::Delta(delta) => delta.prefetch(vector),
            KeyStream::RunLength(_) => {}
        }
    }

    /// Bytes that the stream holds besides those of its chunk.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            KeyStream::Raw(_) => 0,
            KeyStream::FrameOfReference(frames) => frames.heap_bytes(),
            KeyStream::Delta(delta) => delta.heap_bytes(),
            KeyStream::RunLength(runs) => runs.heap_bytes(),
        }
    }
}
