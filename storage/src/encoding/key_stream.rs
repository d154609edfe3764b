//! A stream of keys in one of the encodings of whole numbers. Columns of fixed-width types are key
//! streams; so are the codes of a dictionary and the lengths of texts.

use super::keys::FromKey;
use super::layout::{Reader, Writer};
use super::mask::Mask;
use super::raw::RawKeys;
use super::{Encoding, FormatError};
use crate::VECTOR_ROWS;

/// The keys of one vector.
pub(super) type KeyVector = [i64; VECTOR_ROWS];

/// One opened stream.
pub(super) enum KeyStream {
    Raw(RawKeys),
}

/// The tags that streams begin with.
const TAG_RAW: u64 = 1;

/// Writes `keys` in `encoding`. `width` is that of [`Encoding::Raw`].
pub(super) fn write_keys(encoding: Encoding, keys: &[i64], width: usize, out: &mut Writer) {
    let _ = encoding;
    out.u64(TAG_RAW);
    RawKeys::write(keys, width, out);
}

impl KeyStream {
    /// Reads a stream of `rows` keys and checks all of its lengths and widths.
    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<KeyStream, FormatError> {
        match reader.u64()? {
            TAG_RAW => Ok(KeyStream::Raw(RawKeys::open(rows, reader)?)),
            _ => Err(FormatError::new("unknown encoding of numbers")),
        }
    }

    /// Reads the keys of a vector; slots beyond its last row hold anything.
    pub(super) fn load(&self, vector: usize, out: &mut KeyVector) {
        match self {
            KeyStream::Raw(raw) => raw.load(vector, out),
        }
    }

    /// Keeps the rows whose key lies in one of the ranges.
    pub(super) fn filter(&self, vector: usize, ranges: &[(i64, i64)], mask: &mut Mask) {
        match self {
            KeyStream::Raw(_) => self.filter_loaded(vector, ranges, mask),
        }
    }

    fn filter_loaded(&self, vector: usize, ranges: &[(i64, i64)], mask: &mut Mask) {
        let mut keys = [0; VECTOR_ROWS];
        self.load(vector, &mut keys);
        let mut keep = Mask::none();
        for row in mask.rows() {
            let candidate = ranges.partition_point(|(_, high)| *high < keys[row]);
            if ranges.get(candidate).is_some_and(|(low, _)| *low <= keys[row]) {
                keep.insert(row);
            }
        }
        *mask = keep;
    }

    /// Appends the values of the selected rows.
    pub(super) fn decode<T: FromKey>(&self, vector: usize, mask: &Mask, out: &mut Vec<T>) {
        match self {
            KeyStream::Raw(_) => {
                let mut keys = [0; VECTOR_ROWS];
                self.load(vector, &mut keys);
                out.extend(mask.rows().map(|row| T::from_key(keys[row])));
            }
        }
    }

    /// Starts to fetch the vector's bytes into the cache.
    pub(super) fn prefetch(&self, vector: usize) {
        match self {
            KeyStream::Raw(_) => {
                let _ = vector;
            }
        }
    }

    /// Bytes that the stream holds besides those of its chunk.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            KeyStream::Raw(_) => 0,
        }
    }
}
