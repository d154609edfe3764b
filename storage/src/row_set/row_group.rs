//! The part of a [`super::RowSet`] in one row group, and its bytes.

use crate::encoding::Mask;
use crate::little_endian::{ByteReader, ByteWriter, Unreadable};
use crate::{ROW_GROUP_ROWS, VECTOR_ROWS};

const WORD_BITS: usize = u64::BITS as usize;
/// Words of a [`Bitmap`].
const BITMAP_WORDS: usize = ROW_GROUP_ROWS / WORD_BITS;
/// Words of a vector in a [`Bitmap`].
const VECTOR_WORDS: usize = VECTOR_ROWS / WORD_BITS;
/// Each row group's bytes begin at a multiple of this.
const ALIGNMENT: usize = 8;

/// One bit a row; bit `i` of word `w` is row `64 * w + i`.
type Bitmap = [u64; BITMAP_WORDS];

/// The set's rows in one row group, by their number in the row group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroupSet {
    len: u32,
    form: Form,
}

/// The smallest form; of two that are as small, the one that stands first here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// First and last row of each run, ascending, with a gap between two runs. No rows at all are
    /// no runs, all rows are one.
    Runs(Box<[(u16, u16)]>),
    /// Row by row, ascending.
    Rows(Box<[u16]>),
    Bitmap(Box<Bitmap>),
}

/// Codes of the forms.
const FORM_RUNS: u32 = 1;
const FORM_ROWS: u32 = 2;
const FORM_BITMAP: u32 = 3;

const RUN_BYTES: usize = size_of::<(u16, u16)>();
const ROW_BYTES: usize = size_of::<u16>();
const BITMAP_BYTES: usize = size_of::<Bitmap>();

impl RowGroupSet {
    pub(super) fn empty() -> RowGroupSet {
        RowGroupSet { len: 0, form: Form::Runs(Box::default()) }
    }

    /// How many rows are in the set.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no row is in the set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a row is in the set.
    pub fn contains(&self, row: usize) -> bool {
        let Ok(row) = u16::try_from(row) else { return false };
        match &self.form {
            Form::Runs(runs) => {
                let after = runs.partition_point(|(first, _)| *first <= row);
                after > 0 && runs[after - 1].1 >= row
            }
            Form::Rows(rows) => rows.binary_search(&row).is_ok(),
            Form::Bitmap(bits) => {
                bits[usize::from(row) / WORD_BITS] >> (usize::from(row) % WORD_BITS) & 1 == 1
            }
        }
    }

    /// Drops the set's rows from the mask of a vector of the row group.
    pub fn drop_from(&self, vector: usize, mask: &mut Mask) {
        let start = vector * VECTOR_ROWS;
        let end = start + VECTOR_ROWS;
        let mut dropped = [0; VECTOR_WORDS];
        match &self.form {
            Form::Runs(runs) => {
                let from = runs.partition_point(|(_, last)| usize::from(*last) < start);
                let overlapping =
                    runs[from..].iter().take_while(|(first, _)| usize::from(*first) < end);
                for (first, last) in overlapping {
                    let first = usize::from(*first).max(start) - start;
                    let last = usize::from(*last).min(end - 1) - start;
                    set_range(&mut dropped, first, last);
                }
            }
            Form::Rows(rows) => {
                let from = rows.partition_point(|row| usize::from(*row) < start);
                for row in rows[from..].iter().take_while(|row| usize::from(**row) < end) {
                    set(&mut dropped, usize::from(*row) - start);
                }
            }
            Form::Bitmap(bits) => {
                dropped.copy_from_slice(&bits[vector * VECTOR_WORDS..][..VECTOR_WORDS]);
            }
        }
        mask.and_not(&Mask::from_words(dropped));
    }

    /// The rows, ascending.
    pub fn rows(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match &self.form {
            Form::Runs(runs) => Box::new(
                runs.iter().flat_map(|(first, last)| usize::from(*first)..=usize::from(*last)),
            ),
            Form::Rows(rows) => Box::new(rows.iter().map(|row| usize::from(*row))),
            Form::Bitmap(bits) => Box::new(rows_of_words(bits).map(usize::from)),
        }
    }

    /// The set with more rows.
    pub(super) fn with(&self, rows: impl Iterator<Item = usize>) -> RowGroupSet {
        let mut bits = self.to_bitmap();
        rows.for_each(|row| set(bits.as_mut_slice(), row));
        RowGroupSet::from_bitmap(bits)
    }

    pub(super) fn union(&self, other: &RowGroupSet) -> RowGroupSet {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        let mut bits = self.to_bitmap();
        let more = other.to_bitmap();
        bits.iter_mut().zip(more.iter()).for_each(|(word, more)| *word |= more);
        RowGroupSet::from_bitmap(bits)
    }

    pub(super) fn intersects(&self, other: &RowGroupSet) -> bool {
        if self.is_empty() || other.is_empty() {
            return false;
        }
        let (ours, theirs) = (self.to_bitmap(), other.to_bitmap());
        ours.iter().zip(theirs.iter()).any(|(ours, theirs)| ours & theirs != 0)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Runs(runs) => runs.len() * RUN_BYTES,
            Form::Rows(rows) => rows.len() * ROW_BYTES,
            Form::Bitmap(_) => BITMAP_BYTES,
        }
    }

    fn to_bitmap(&self) -> Box<Bitmap> {
        let mut bits = Box::new([0; BITMAP_WORDS]);
        match &self.form {
            Form::Runs(runs) => {
                for (first, last) in runs {
                    set_range(bits.as_mut_slice(), usize::from(*first), usize::from(*last));
                }
            }
            Form::Rows(rows) => {
                rows.iter().for_each(|row| set(bits.as_mut_slice(), usize::from(*row)));
            }
            Form::Bitmap(words) => bits.copy_from_slice(words.as_slice()),
        }
        bits
    }

    fn from_bitmap(bits: Box<Bitmap>) -> RowGroupSet {
        let len: usize = bits.iter().map(|word| word.count_ones() as usize).sum();
        let runs = run_count(&bits);
        let form = if runs * RUN_BYTES <= (len * ROW_BYTES).min(BITMAP_BYTES) {
            Form::Runs(runs_of(&bits, runs))
        } else if len * ROW_BYTES <= BITMAP_BYTES {
            Form::Rows(rows_of(&bits, len))
        } else {
            Form::Bitmap(bits)
        };
        RowGroupSet { len: len as u32, form }
    }

    /// Writes form, number of items, and the items, up to a multiple of eight bytes.
    pub(super) fn write(&self, writer: &mut ByteWriter) {
        match &self.form {
            Form::Runs(runs) => {
                writer.u32(FORM_RUNS);
                writer.count(runs.len());
                for (first, last) in runs {
                    writer.u16(*first);
                    writer.u16(*last);
                }
            }
            Form::Rows(rows) => {
                writer.u32(FORM_ROWS);
                writer.count(rows.len());
                rows.iter().for_each(|row| writer.u16(*row));
            }
            Form::Bitmap(bits) => {
                writer.u32(FORM_BITMAP);
                writer.count(bits.len());
                bits.iter().for_each(|word| writer.u64(*word));
            }
        }
        writer.zeros_up_to(writer.as_slice().len().next_multiple_of(ALIGNMENT));
    }

    /// Reads the set of a row group of `row_count` rows. Only the smallest form is taken, so that
    /// a set has one form in memory too.
    pub(super) fn read(
        reader: &mut ByteReader<'_>,
        row_count: usize,
    ) -> Result<RowGroupSet, Unreadable> {
        let form = reader.u32()?;
        let items = reader.u32()? as usize;
        let bits = match form {
            FORM_RUNS => read_runs(reader, items)?,
            FORM_ROWS => read_rows(reader, items)?,
            FORM_BITMAP if items == BITMAP_WORDS => read_bitmap(reader)?,
            FORM_BITMAP => return Err(Unreadable(format!("a bitmap has {items} words"))),
            _ => return Err(Unreadable(format!("there is no form {form}"))),
        };
        if last_row(&bits).is_some_and(|row| row >= row_count) {
            return Err(Unreadable(format!("it has a row beyond the {row_count} rows")));
        }
        let set = RowGroupSet::from_bitmap(bits);
        let code = match &set.form {
            Form::Runs(_) => FORM_RUNS,
            Form::Rows(_) => FORM_ROWS,
            Form::Bitmap(_) => FORM_BITMAP,
        };
        if code != form {
            return Err(Unreadable(format!("form {form} is not the smallest one")));
        }
        Ok(set)
    }
}

fn read_runs(reader: &mut ByteReader<'_>, count: usize) -> Result<Box<Bitmap>, Unreadable> {
    let mut bits = Box::new([0; BITMAP_WORDS]);
    let mut before = None;
    for _ in 0..count {
        let (first, last) = (reader.u16()?, reader.u16()?);
        // Two runs without a gap between them would be one.
        if before.is_some_and(|before: u16| before >= first.saturating_sub(1)) || last < first {
            return Err(Unreadable("its runs are not in order".into()));
        }
        set_range(bits.as_mut_slice(), usize::from(first), usize::from(last));
        before = Some(last);
    }
    skip_gap(reader, count * RUN_BYTES)?;
    Ok(bits)
}

fn read_rows(reader: &mut ByteReader<'_>, count: usize) -> Result<Box<Bitmap>, Unreadable> {
    let mut bits = Box::new([0; BITMAP_WORDS]);
    let mut before = None;
    for _ in 0..count {
        let row = reader.u16()?;
        if before.is_some_and(|before| before >= row) {
            return Err(Unreadable("its rows are not in order".into()));
        }
        set(bits.as_mut_slice(), usize::from(row));
        before = Some(row);
    }
    skip_gap(reader, count * ROW_BYTES)?;
    Ok(bits)
}

fn read_bitmap(reader: &mut ByteReader<'_>) -> Result<Box<Bitmap>, Unreadable> {
    let mut bits = Box::new([0; BITMAP_WORDS]);
    for word in bits.iter_mut() {
        *word = reader.u64()?;
    }
    Ok(bits)
}

/// Skips the zeros after so many bytes of items.
fn skip_gap(reader: &mut ByteReader<'_>, bytes: usize) -> Result<(), Unreadable> {
    let gap = reader.bytes(bytes.next_multiple_of(ALIGNMENT) - bytes)?;
    match gap.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(Unreadable("the gap after its items is not zero".into())),
    }
}

fn set(words: &mut [u64], row: usize) {
    words[row / WORD_BITS] |= 1 << (row % WORD_BITS);
}

/// Sets the bits from `first` to `last`, both included.
fn set_range(words: &mut [u64], first: usize, last: usize) {
    let (first_word, last_word) = (first / WORD_BITS, last / WORD_BITS);
    let from_first = u64::MAX << (first % WORD_BITS);
    let up_to_last = u64::MAX >> (WORD_BITS - 1 - last % WORD_BITS);
    if first_word == last_word {
        words[first_word] |= from_first & up_to_last;
        return;
    }
    words[first_word] |= from_first;
    words[first_word + 1..last_word].fill(u64::MAX);
    words[last_word] |= up_to_last;
}

fn last_row(bits: &Bitmap) -> Option<usize> {
    let index = bits.iter().rposition(|word| *word != 0)?;
    Some(index * WORD_BITS + bits[index].ilog2() as usize)
}

fn run_count(bits: &Bitmap) -> usize {
    let mut carry = 0;
    let mut runs = 0;
    for word in bits {
        // A run starts where a bit is set and the one before is not.
        runs += (word & !(word << 1 | carry)).count_ones() as usize;
        carry = word >> (WORD_BITS - 1);
    }
    runs
}

fn runs_of(bits: &Bitmap, count: usize) -> Box<[(u16, u16)]> {
    let mut runs: Vec<(u16, u16)> = Vec::with_capacity(count);
    for row in rows_of_words(bits) {
        match runs.last_mut() {
            Some((_, last)) if usize::from(*last) + 1 == usize::from(row) => *last = row,
            _ => runs.push((row, row)),
        }
    }
    runs.into_boxed_slice()
}

fn rows_of(bits: &Bitmap, count: usize) -> Box<[u16]> {
    let mut rows = Vec::with_capacity(count);
    rows.extend(rows_of_words(bits));
    rows.into_boxed_slice()
}

fn rows_of_words(bits: &Bitmap) -> impl Iterator<Item = u16> + '_ {
    bits.iter().enumerate().flat_map(|(index, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let bit = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            // A row group has 2^16 rows.
            Some((index * WORD_BITS + bit) as u16)
        })
    })
}
