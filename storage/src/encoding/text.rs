//! What the encodings of text share: finding the bytes of a row, and testing rows.

use std::cell::RefCell;

use arrow_buffer::Buffer;

use super::FormatError;
use super::column_builder::TextValues;
use super::key_stream::{KeyStream, write_keys};
use super::layout::{Reader, Writer};
use super::like::LikePattern;
use super::mask::Mask;
use crate::VECTOR_ROWS;
use crate::predicate::{Comparison, Condition, Constant};

/// Lengths of the rows of one vector, in bytes.
pub(super) type Lengths = [u32; VECTOR_ROWS];

/// Below this many selected rows a filter reads the rows one by one.
pub(super) const SPARSE_ROWS: usize = 100;

/// Pieces of bytes, one a row, one after another; their lengths are a key stream.
pub(super) struct Slices {
    rows: usize,
    lengths: KeyStream,
    /// Where the bytes of every 64th row begin, and the end of all.
    starts: Vec<u64>,
    bytes: Buffer,
}

impl Slices {
    /// Writes pieces of the given lengths that lie one after another in `bytes`.
    pub(super) fn write(lengths: &[i64], bytes: &[u8], out: &mut Writer) {
        write_lengths(lengths, out);
        out.u64(bytes.len() as u64);
        out.raw(bytes);
        out.align();
    }

    /// Reads the lengths of all rows and checks that they add up to the bytes.
    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<Slices, FormatError> {
        let lengths = KeyStream::open(rows, reader)?;
        check_lengths(&lengths, rows)?;
        let mut starts = Vec::with_capacity(rows.div_ceil(64) + 1);
        let mut end = 0_u64;
        for vector in 0..rows.div_ceil(VECTOR_ROWS) {
            let rows = (rows - vector * VECTOR_ROWS).min(VECTOR_ROWS);
            for group in load_lengths(&lengths, vector, rows)[..rows].chunks(64) {
                starts.push(end);
                end += group.iter().map(|length| u64::from(*length)).sum::<u64>();
            }
        }
        starts.push(end);
        let length = reader.u64()?;
        if length != end {
            return Err(FormatError::new("text lengths do not add up"));
        }
        let length = usize::try_from(length).map_err(|_| FormatError::new("text is too long"))?;
        let bytes = reader.part(length)?;
        reader.align()?;
        Ok(Slices { rows, lengths, starts, bytes })
    }

    /// How many rows `vector` has.
    pub(super) fn vector_rows(&self, vector: usize) -> usize {
        self.rows.saturating_sub(vector * VECTOR_ROWS).min(VECTOR_ROWS)
    }

    /// The bytes of rows `64 * group` to `64 * (group + groups)` of the chunk.
    pub(super) fn groups(&self, group: usize, groups: usize) -> &[u8] {
        let last = self.starts.len() - 1;
        let start = self.starts[group.min(last)];
        let end = self.starts[(group + groups).min(last)];
        &self.bytes[start as usize..end as usize]
    }

    /// The lengths of the rows of a vector; zero beyond its last row.
    pub(super) fn lengths(&self, vector: usize) -> Lengths {
        load_lengths(&self.lengths, vector, self.vector_rows(vector))
    }

    /// Where in [`Self::bytes`] the selected rows of a vector lie, row by row.
    pub(super) fn locate<'a>(
        &'a self,
        vector: usize,
        lengths: &'a Lengths,
        mask: &'a Mask,
    ) -> impl Iterator<Item = (usize, &'a [u8])> + 'a {
        let first_group = vector * (VECTOR_ROWS / 64);
        mask.words().iter().enumerate().filter(|(_, word)| **word != 0).flat_map(
            move |(index, word)| {
                let group = (first_group + index).min(self.starts.len() - 1);
                let mut start = self.starts[group] as usize;
                let mut next = index * 64;
                let mut rest = *word;
                std::iter::from_fn(move || {
                    if rest == 0 {
                        return None;
                    }
                    let row = index * 64 + rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    let skipped = &lengths[next..row];
                    start += skipped.iter().map(|length| *length as usize).sum::<usize>();
                    let end = start + lengths[row] as usize;
                    let piece = &self.bytes[start..end];
                    (start, next) = (end, row + 1);
                    Some((row, piece))
                })
            },
        )
    }

    pub(super) fn prefetch(&self, vector: usize) {
        self.lengths.prefetch(vector);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.starts.capacity() * size_of::<u64>() + self.lengths.heap_bytes()
    }
}

/// Writes the lengths of texts or of pieces of text.
pub(super) fn write_lengths(lengths: &[i64], out: &mut Writer) {
    write_keys(super::Encoding::FrameOfReference, lengths, 8, out);
}

/// Checks that all lengths fit `u32`.
pub(super) fn check_lengths(stream: &KeyStream, rows: usize) -> Result<(), FormatError> {
    match stream.all_below(rows, 1 << 32) {
        true => Ok(()),
        false => Err(FormatError::new("a text length is out of range")),
    }
}

/// Reads the lengths of one vector, which were checked; zero beyond its last row.
pub(super) fn load_lengths(stream: &KeyStream, vector: usize, rows: usize) -> Lengths {
    let mut lengths = [0; VECTOR_ROWS];
    stream.load(vector, &mut lengths);
    lengths[rows..].fill(0);
    lengths
}

/// Text as it is.
pub(super) struct RawText {
    slices: Slices,
}

impl RawText {
    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<RawText, FormatError> {
        Ok(RawText { slices: Slices::open(rows, reader)? })
    }

    pub(super) fn filter(&self, vector: usize, test: &TextTest, mask: &mut Mask) {
        let lengths = self.slices.lengths(vector);
        if mask.count() > SPARSE_ROWS {
            let groups = VECTOR_ROWS / 64;
            return test.filter_all(self.slices.groups(vector * groups, groups), &lengths, mask);
        }
        let mut keep = Mask::none();
        for (row, text) in self.slices.locate(vector, &lengths, mask) {
            if test.matches(text) {
                keep.insert(row);
            }
        }
        *mask = keep;
    }

    pub(super) fn decode(
        &self,
        vector: usize,
        mask: &Mask,
        out: &mut TextValues,
    ) -> Result<(), FormatError> {
        let lengths = self.slices.lengths(vector);
        let selected = mask.rows().map(|row| lengths[row] as usize);
        let bytes = out.bytes_for(selected.clone().sum());
        let start = bytes.len();
        for (_, text) in self.slices.locate(vector, &lengths, mask) {
            bytes.extend_from_slice(text);
        }
        out.push_rows(start, selected)
    }

    pub(super) fn slices(&self) -> &Slices {
        &self.slices
    }
}

/// A condition on text that is tested on values, one by one or a vector at once.
pub(super) struct TextTest {
    matcher: Matcher,
    /// Whether the rows that do not match pass.
    negated: bool,
}

enum Matcher {
    Compare(Comparison, Vec<u8>),
    Between(Vec<u8>, Vec<u8>),
    /// Sorted.
    In(Vec<Vec<u8>>),
    Like(Box<LikePattern>),
}

impl TextTest {
    /// Tests for NULL are handled by the caller. Text is compared byte by byte, which is the order
    /// of its characters.
    pub(super) fn new(condition: &Condition) -> TextTest {
        let text = |constant: &Constant| match constant {
            Constant::Text(text) => text.as_bytes().to_vec(),
            Constant::Int(_) | Constant::Decimal(_) | Constant::Float(_) => {
                unreachable!("the constant {constant:?} is compared with text")
            }
        };
        let sorted = |constants: &[Constant]| {
            let mut texts: Vec<_> = constants.iter().map(text).collect();
            texts.sort_unstable();
            Matcher::In(texts)
        };
        let (matcher, negated) = match condition {
            Condition::Compare(comparison, constant) => {
                (Matcher::Compare(*comparison, text(constant)), false)
            }
            Condition::Between(low, high) => (Matcher::Between(text(low), text(high)), false),
            Condition::In(constants) => (sorted(constants), false),
            Condition::NotIn(constants) => (sorted(constants), true),
            Condition::Like(pattern) => (Matcher::Like(Box::new(LikePattern::new(pattern))), false),
            Condition::NotLike(pattern) => {
                (Matcher::Like(Box::new(LikePattern::new(pattern))), true)
            }
            Condition::IsNull | Condition::IsNotNull => {
                unreachable!("a test for NULL looks at no text")
            }
        };
        TextTest { matcher, negated }
    }

    /// Whether the condition is true of `text`.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let matched = match &self.matcher {
            Matcher::Compare(comparison, constant) => {
                let constant = constant.as_slice();
                match comparison {
                    Comparison::Equal => text == constant,
                    Comparison::NotEqual => text != constant,
                    Comparison::Less => text < constant,
                    Comparison::LessOrEqual => text <= constant,
                    Comparison::Greater => text > constant,
                    Comparison::GreaterOrEqual => text >= constant,
                }
            }
            Matcher::Between(low, high) => text >= low.as_slice() && text <= high.as_slice(),
            Matcher::In(texts) => {
                texts.binary_search_by(|other| other.as_slice().cmp(text)).is_ok()
            }
            Matcher::Like(pattern) => pattern.matches(text),
        };
        matched != self.negated
    }

    /// Keeps the rows that pass, given the texts of all rows one after another. Rows that the
    /// lengths place beyond `bytes` (of damaged chunks) count as empty.
    pub(super) fn filter_all(&self, bytes: &[u8], lengths: &Lengths, mask: &mut Mask) {
        if let Matcher::Like(pattern) = &self.matcher
            && pattern.required().is_some()
        {
            let matched = search(pattern, bytes, lengths);
            match self.negated {
                true => mask.and_not(&matched),
                false => mask.and(&matched),
            }
            return;
        }
        let mut keep = Mask::none();
        let mut start = 0;
        for (row, length) in lengths.iter().enumerate() {
            let end = start + *length as usize;
            if mask.contains(row) && self.matches(bytes.get(start..end).unwrap_or_default()) {
                keep.insert(row);
            }
            start = end;
        }
        *mask = keep;
    }
}

/// The rows that match, found by searching all texts at once for what each match contains.
fn search(pattern: &LikePattern, bytes: &[u8], lengths: &Lengths) -> Mask {
    let mut matched = Mask::none();
    let Some(finder) = pattern.required() else { return matched };
    let needle = finder.needle().len();
    let (mut row, mut row_start) = (0, 0);
    let mut row_end = lengths[0] as usize;
    let mut position = 0;
    while let Some(found) = bytes.get(position..).and_then(|rest| finder.find(rest)) {
        let found = position + found;
        while row_end <= found {
            row += 1;
            let Some(length) = lengths.get(row) else { return matched };
            row_start = row_end;
            row_end += *length as usize;
        }
        if found + needle > row_end {
            // The match runs over the end of the row.
            position = found + 1;
            continue;
        }
        let text = bytes.get(row_start..row_end).unwrap_or_default();
        if pattern.contains_only() || pattern.matches(text) {
            matched.insert(row);
        }
        position = row_end;
    }
    matched
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The scratch of a thread is given back when it has grown beyond this.
const SCRATCH_BYTES_KEPT: usize = 4 << 20;

/// Lends a vector of bytes that keeps its memory from call to call, empty.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = work(&mut scratch);
    if scratch.capacity() <= SCRATCH_BYTES_KEPT {
        SCRATCH.set(scratch);
    }
    result
}
