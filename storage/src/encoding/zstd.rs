//! Zstd: the text of each vector in a frame of its own, so that reading a row costs one vector.
//!
//! ```text
//!  lengths of the rows' text | lengths of the frames, vector by vector | frames
//! ```

use arrow_buffer::Buffer;

use super::FormatError;
use super::column_builder::TextValues;
use super::key_stream::KeyStream;
use super::layout::{Reader, Writer};
use super::mask::Mask;
use super::text::{TextTest, check_lengths, load_lengths, with_scratch, write_lengths};
use crate::VECTOR_ROWS;

/// Redshift's default; higher levels cost much more time to load.
const LEVEL: i32 = 3;

/// A frame is not expanded to more than this many times its size plus [`FRAME_BYTES_FREE`]; zstd
/// cannot do better than this, so a larger claim is damage.
const EXPANSION_MAX: usize = 1 << 17;
const FRAME_BYTES_FREE: usize = 1 << 20;

/// One opened chunk.
pub(super) struct ZstdText {
    rows: usize,
    lengths: KeyStream,
    /// Where the frame of each vector begins, and the end of all.
    starts: Vec<usize>,
    frames: Buffer,
}

impl ZstdText {
    /// Deflates and writes texts of the given lengths that lie one after another in `bytes`.
    pub(super) fn write(lengths: &[i64], bytes: &[u8], out: &mut Writer) {
        write_lengths(lengths, out);
        let mut frames = Vec::new();
        let mut start = 0;
        for lengths in lengths.chunks(VECTOR_ROWS) {
            let end = start + lengths.iter().sum::<i64>() as usize;
            // Deflating into memory fails only when memory does.
            let frame = zstd::bulk::compress(&bytes[start..end], LEVEL)
                .expect("a zstd frame is made of any bytes");
            out.u64(frame.len() as u64);
            frames.extend_from_slice(&frame);
            start = end;
        }
        out.raw(&frames);
        out.align();
    }

    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<ZstdText, FormatError> {
        let lengths = KeyStream::open(rows, reader)?;
        check_lengths(&lengths, rows)?;
        let frame_lengths = reader.items(rows.div_ceil(VECTOR_ROWS), 8)?;
        let mut starts = vec![0];
        let mut end = 0_usize;
        for length in frame_lengths.as_chunks::<8>().0 {
            let length = usize::try_from(u64::from_le_bytes(*length)).ok();
            let next = length.and_then(|length| end.checked_add(length));
            end = next.ok_or(FormatError::new("a frame is too long"))?;
            starts.push(end);
        }
        let frames = reader.part(end)?;
        reader.align()?;
        Ok(ZstdText { rows, lengths, starts, frames })
    }

    /// Inflates a vector, and lends its text with the lengths of its rows.
    fn with_text<R>(
        &self,
        vector: usize,
        work: impl FnOnce(&[u8], &super::text::Lengths) -> Result<R, FormatError>,
    ) -> Result<R, FormatError> {
        let rows = self.rows.saturating_sub(vector * VECTOR_ROWS).min(VECTOR_ROWS);
        let lengths = load_lengths(&self.lengths, vector, rows);
        let frame = match self.starts.get(vector..vector + 2) {
            Some([start, end]) => &self.frames[*start..*end],
            Some(_) | None => return Err(FormatError::new("there is no such vector")),
        };
        let total: usize = lengths.iter().map(|length| *length as usize).sum();
        if total > frame.len().saturating_mul(EXPANSION_MAX).saturating_add(FRAME_BYTES_FREE) {
            return Err(FormatError::new("a frame cannot hold so much text"));
        }
        with_scratch(|text| {
            text.try_reserve(total)
                .map_err(|_| FormatError::new("a vector of text is too large"))?;
            text.resize(total, 0);
            match zstd::bulk::decompress_to_buffer(frame, text.as_mut_slice()) {
                Ok(inflated) if inflated == total => work(text, &lengths),
                Ok(_) | Err(_) => Err(FormatError::new("a frame does not hold the text")),
            }
        })
    }

    pub(super) fn filter(
        &self,
        vector: usize,
        test: &TextTest,
        mask: &mut Mask,
    ) -> Result<(), FormatError> {
        self.with_text(vector, |text, lengths| {
            test.filter_all(text, lengths, mask);
            Ok(())
        })
    }

    pub(super) fn decode(
        &self,
        vector: usize,
        mask: &Mask,
        out: &mut TextValues,
    ) -> Result<(), FormatError> {
        self.with_text(vector, |text, lengths| {
            let selected = mask.rows().map(|row| lengths[row] as usize);
            let bytes = out.bytes_for(selected.clone().sum());
            let first = bytes.len();
            let mut start = 0;
            for (row, length) in lengths.iter().enumerate() {
                let end = start + *length as usize;
                if mask.contains(row) {
                    bytes.extend_from_slice(&text[start..end]);
                }
                start = end;
            }
            out.push_rows(first, selected)
        })
    }

    pub(super) fn prefetch(&self, vector: usize) {
        self.lengths.prefetch(vector);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.starts.capacity() * size_of::<usize>() + self.lengths.heap_bytes()
    }
}
