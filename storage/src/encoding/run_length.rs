//! Run length: runs of equal keys, cut at the ends of vectors.
//!
//! ```text
//!  number of runs, vector by vector | frames of reference of the runs' keys | of their last rows
//! ```
//!
//! The runs are unpacked when the chunk is opened: there are few, or the encoding was asked for.

use super::FormatError;
use super::frame_of_reference::{self, FrameOfReference};
use super::key_stream::KeyVector;
use super::layout::{Reader, Writer};
use super::mask::Mask;
use crate::VECTOR_ROWS;

/// One opened stream.
pub(super) struct RunLength {
    /// All runs; the last row of a vector's last run is the last row of the vector.
    runs: Vec<Run>,
    /// Where the runs of each vector begin, and the end of all.
    starts: Vec<u32>,
}

struct Run {
    key: i64,
    /// Last row of the run, within its vector.
    last: u16,
}

struct Runs {
    counts: Vec<u32>,
    keys: Vec<i64>,
    last_rows: Vec<i64>,
}

fn find_runs(keys: &[i64]) -> Runs {
    let mut runs = Runs { counts: Vec::new(), keys: Vec::new(), last_rows: Vec::new() };
    for keys in keys.chunks(VECTOR_ROWS) {
        let before = runs.keys.len();
        let mut last = -1;
        for run in keys.chunk_by(|left, right| left == right) {
            last += run.len() as i64;
            runs.keys.push(run[0]);
            runs.last_rows.push(last);
        }
        runs.counts.push((runs.keys.len() - before) as u32);
    }
    runs
}

/// Bytes of the encoded keys.
pub(super) fn encoded_bytes(keys: &[i64]) -> usize {
    let runs = find_runs(keys);
    let streams = [&runs.keys, &runs.last_rows];
    let packed = streams.map(|keys| frame_of_reference::measure(keys).encoded_bytes());
    4 * runs.counts.len() + packed.iter().sum::<usize>()
}

impl RunLength {
    pub(super) fn write(keys: &[i64], out: &mut Writer) {
        let runs = find_runs(keys);
        runs.counts.iter().for_each(|count| out.u32(*count));
        out.align();
        FrameOfReference::write(&runs.keys, out);
        FrameOfReference::write(&runs.last_rows, out);
    }

    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<RunLength, FormatError> {
        let counts = reader.items(rows.div_ceil(VECTOR_ROWS), 4)?;
        reader.align()?;
        let mut starts = vec![0];
        let mut total = 0_u32;
        for count in counts.as_chunks::<4>().0 {
            let count = u32::from_le_bytes(*count);
            if count as usize > VECTOR_ROWS {
                return Err(FormatError::new("a vector has more runs than rows"));
            }
            total += count;
            starts.push(total);
        }
        let keys = FrameOfReference::open(total as usize, reader)?;
        let last_rows = FrameOfReference::open(total as usize, reader)?;
        let runs = unpack_runs(total as usize, &keys, &last_rows);
        let stream = RunLength { runs, starts };
        for vector in 0..stream.starts.len() - 1 {
            let rows = (rows - vector * VECTOR_ROWS).min(VECTOR_ROWS);
            let runs = stream.vector(vector);
            let ascending = runs.windows(2).all(|pair| pair[0].last < pair[1].last);
            if !ascending || runs.last().is_none_or(|run| usize::from(run.last) + 1 != rows) {
                return Err(FormatError::new("the runs of a vector do not add up"));
            }
        }
        Ok(stream)
    }

    fn vector(&self, vector: usize) -> &[Run] {
        match self.starts.get(vector..vector + 2) {
            Some([start, end]) => &self.runs[*start as usize..*end as usize],
            Some(_) | None => &[],
        }
    }

    pub(super) fn load(&self, vector: usize, out: &mut KeyVector) {
        let mut start = 0;
        for run in self.vector(vector) {
            let end = usize::from(run.last) + 1;
            out[start..end].fill(run.key);
            start = end;
        }
    }

    /// Keeps the rows of the runs whose key passes.
    pub(super) fn filter(&self, vector: usize, passes: impl Fn(i64) -> bool, mask: &mut Mask) {
        let mut start = 0;
        for run in self.vector(vector) {
            let end = usize::from(run.last) + 1;
            if !passes(run.key) {
                let mut dropped = Mask::full(end);
                dropped.and_not(&Mask::full(start));
                mask.and_not(&dropped);
            }
            start = end;
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>() + self.starts.capacity() * size_of::<u32>()
    }
}

/// Last rows that do not fit are cut; the caller finds that they do not ascend.
fn unpack_runs(total: usize, keys: &FrameOfReference, last_rows: &FrameOfReference) -> Vec<Run> {
    let mut runs = Vec::with_capacity(total);
    let mut key_vector: KeyVector = [0; VECTOR_ROWS];
    let mut last_vector: KeyVector = [0; VECTOR_ROWS];
    for vector in 0..total.div_ceil(VECTOR_ROWS) {
        keys.load(vector, &mut key_vector);
        last_rows.load(vector, &mut last_vector);
        let count = (total - vector * VECTOR_ROWS).min(VECTOR_ROWS);
        let pairs = key_vector.iter().zip(&last_vector).take(count);
        runs.extend(pairs.map(|(key, last)| Run { key: *key, last: *last as u16 }));
    }
    runs
}
