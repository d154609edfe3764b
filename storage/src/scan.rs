//! Scans one row group: predicates on encoded data, one window of 8,192 rows at a time.
//!
//! ```text
//!  RowGroupScan ---- next_window ----> Window: one mask for each of its 8 vectors
//!   rows not deleted, masks first,       | decode(column): the rows that the masks still hold
//!   predicates,       2 vectors ahead    | refine(keep):   drop some of them, decode the rest later
//!   cheapest first                       | row_ids():      which rows they are
//! ```
//!
//! A window is worked on in two phases, first the masks of all its vectors and then the decoding of
//! what survives, so that the bytes of later vectors can be fetched into the processor's cache
//! while earlier ones are worked on.
//!
//! A row is named by its segment and its number in it ([`RowId`]), deleted rows counted, so that the
//! name holds for as long as the segment is there.

use std::cell::OnceCell;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow_buffer::BooleanBuffer;

use crate::encoding::{ColumnBuilder, ColumnChunk, CompiledCondition, Mask};
use crate::error::{Error, Result};
use crate::ids::RowId;
use crate::predicate::{Condition, Predicate};
use crate::schema::ColumnType;
use crate::segment::Segment;
use crate::zone_map::{Pruning, prune};
use crate::{ROW_GROUP_ROWS, VECTOR_ROWS, WINDOW_ROWS};

/// Vectors of a window.
const WINDOW_VECTORS: usize = WINDOW_ROWS / VECTOR_ROWS;
/// How many vectors ahead bytes are fetched into the processor's cache.
const PREFETCH_VECTORS: usize = 2;

/// The scan of one row group.
pub struct RowGroupScan {
    predicates: Vec<ChunkPredicate>,
    vector_count: usize,
    next_vector: usize,
    window: Window,
}

/// A predicate made ready for the chunk of its column.
struct ChunkPredicate {
    column: usize,
    chunk: Arc<ColumnChunk>,
    condition: CompiledCondition,
}

/// The rows of one window that are still wanted.
pub struct Window {
    segment: Segment,
    row_group: usize,
    row_group_rows: usize,
    /// Chunks by column of the schema, read when first needed; `None` inside: the column was added
    /// after the segment was written.
    chunks: Vec<OnceCell<Option<Arc<ColumnChunk>>>>,
    first_vector: usize,
    masks: [Mask; WINDOW_VECTORS],
    /// The bits in each mask.
    counts: [usize; WINDOW_VECTORS],
    selected: usize,
}

impl RowGroupScan {
    /// See [`Segment::scan_row_group`].
    pub(crate) fn start(
        segment: &Segment,
        row_group: usize,
        predicates: &[Predicate],
    ) -> Result<Option<RowGroupScan>> {
        if segment.live_row_group_rows(row_group) == 0 {
            return Ok(None);
        }
        let Some(undecided) = undecided(segment, row_group, predicates)? else { return Ok(None) };
        let window = Window::new(segment, row_group);
        let mut ready = Vec::with_capacity(undecided.len());
        for Predicate { column, condition } in undecided {
            let chunk = window
                .chunk(*column)?
                .expect("zone maps decide every condition on a column that is not stored");
            let compiled = chunk.compile(condition);
            if compiled.is_never() {
                return Ok(None);
            }
            let chunk = Arc::clone(chunk);
            ready.push(ChunkPredicate { column: *column, chunk, condition: compiled });
        }
        let vector_count = window.row_group_rows.div_ceil(VECTOR_ROWS);
        Ok(Some(RowGroupScan { predicates: ready, vector_count, next_vector: 0, window }))
    }

    /// Runs the predicates over the next window that has survivors; `None` at the end of the row
    /// group.
    pub fn next_window(&mut self) -> Result<Option<&mut Window>> {
        while self.next_vector < self.vector_count {
            self.fill_window()?;
            if self.window.selected > 0 {
                return Ok(Some(&mut self.window));
            }
        }
        Ok(None)
    }

    fn fill_window(&mut self) -> Result<()> {
        let window = &mut self.window;
        window.first_vector = self.next_vector;
        window.masks = [Mask::none(); WINDOW_VECTORS];
        window.counts = [0; WINDOW_VECTORS];
        self.next_vector += WINDOW_VECTORS;
        let end = self.next_vector.min(self.vector_count);
        for (slot, vector) in (window.first_vector..end).enumerate() {
            let rows = (window.row_group_rows - vector * VECTOR_ROWS).min(VECTOR_ROWS);
            let mut mask = Mask::full(rows);
            if let Some(deletions) = window.segment.deletions() {
                deletions.deleted_in(window.row_group).drop_from(vector, &mut mask);
            }
            for predicate in &self.predicates {
                if mask.is_empty() {
                    break;
                }
                predicate.chunk.prefetch(vector + PREFETCH_VECTORS);
                predicate
                    .chunk
                    .filter(vector, &predicate.condition, &mut mask)
                    .map_err(|error| window.damaged(predicate.column, &error.to_string()))?;
            }
            window.counts[slot] = mask.count();
            window.masks[slot] = mask;
        }
        window.selected = window.counts.iter().sum();
        Ok(())
    }
}

/// The predicates that zone maps do not decide, cheapest first; `None` if no row passes.
fn undecided<'a>(
    segment: &Segment,
    row_group: usize,
    predicates: &'a [Predicate],
) -> Result<Option<Vec<&'a Predicate>>> {
    let columns = &segment.schema().columns;
    let mut undecided = Vec::with_capacity(predicates.len());
    for predicate in predicates {
        if predicate.column >= columns.len() {
            let column = predicate.column;
            return Err(Error::SchemaMismatch(format!("there is no column {column} to filter")));
        }
        match prune(&segment.zone(row_group, predicate.column), &predicate.condition) {
            Pruning::Never => return Ok(None),
            Pruning::Maybe => undecided.push(predicate),
            Pruning::Always => {}
        }
    }
    // Stable: of two that cost the same, the first one written runs first.
    undecided.sort_by_key(|predicate| {
        condition_cost(columns[predicate.column].column_type, &predicate.condition)
    });
    Ok(Some(undecided))
}

/// Roughly what a condition costs per row, for ordering only.
fn condition_cost(column_type: ColumnType, condition: &Condition) -> usize {
    let text = column_type == ColumnType::Text;
    match condition {
        Condition::IsNull | Condition::IsNotNull => 0,
        Condition::Compare(..) | Condition::Between(..) if text => 6,
        Condition::Compare(..) => 1,
        Condition::Between(..) => 2,
        Condition::In(constants) | Condition::NotIn(constants) => {
            let base = if text { 6 } else { 2 };
            base + constants.len().min(4)
        }
        Condition::Like(_) | Condition::NotLike(_) => 20,
    }
}

impl Window {
    fn new(segment: &Segment, row_group: usize) -> Window {
        let column_count = segment.schema().columns.len();
        Window {
            segment: segment.clone(),
            row_group,
            row_group_rows: segment.row_group_rows(row_group),
            chunks: (0..column_count).map(|_| OnceCell::new()).collect(),
            first_vector: 0,
            masks: [Mask::none(); WINDOW_VECTORS],
            counts: [0; WINDOW_VECTORS],
            selected: 0,
        }
    }

    /// How many rows are still wanted.
    pub fn selected(&self) -> usize {
        self.selected
    }

    /// The wanted rows by their number in the segment, ascending.
    pub fn row_numbers(&self) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(self.selected);
        for (slot, mask) in self.masks.iter().enumerate() {
            let start = self.row_group * ROW_GROUP_ROWS + (self.first_vector + slot) * VECTOR_ROWS;
            // A segment has at most 2^20 rows.
            numbers.extend(mask.rows().map(|row| (start + row) as u32));
        }
        numbers
    }

    /// The wanted rows by their [`RowId::pack`]ed ids, in the order in which they are decoded: what
    /// DELETE and UPDATE carry through a plan to say which rows they hit.
    pub fn row_ids(&self) -> UInt64Array {
        let segment = self.segment.id();
        let ids = self.row_numbers().into_iter().map(|row| RowId { segment, row }.pack());
        UInt64Array::from_iter_values(ids)
    }

    /// The wanted rows of one column of the schema.
    pub fn decode(&self, column: usize) -> Result<ArrayRef> {
        let column_type = self.segment.schema().columns[column].column_type;
        let Some(chunk) = self.chunk(column)? else {
            return Ok(new_null_array(&column_type.arrow_type(), self.selected));
        };
        let mut builder = ColumnBuilder::new(column_type, self.selected);
        for (slot, (mask, count)) in self.masks.iter().zip(&self.counts).enumerate() {
            if self.counts.get(slot + PREFETCH_VECTORS).is_some_and(|count| *count > 0) {
                chunk.prefetch(self.first_vector + slot + PREFETCH_VECTORS);
            }
            if *count > 0 {
                chunk
                    .decode(self.first_vector + slot, mask, *count, &mut builder)
                    .map_err(|error| self.damaged(column, &error.to_string()))?;
            }
        }
        let decoded = builder.finish();
        assert_eq!(decoded.len(), self.selected, "a column has a value for each wanted row");
        Ok(decoded)
    }

    /// Drops wanted rows: the `i`-th one stays if `keep[i]` is true, and goes if it is false or
    /// NULL. `keep` has one value for each wanted row.
    pub fn refine(&mut self, keep: &BooleanArray) {
        assert_eq!(keep.len(), self.selected, "one answer for each wanted row");
        let kept = match keep.nulls() {
            Some(valid) => keep.values() & valid.inner(),
            None => keep.values().clone(),
        };
        let mut answers = BitReader { bits: &kept, position: 0 };
        for (mask, count) in self.masks.iter_mut().zip(&mut self.counts) {
            if *count == 0 {
                continue;
            }
            let words = mask.words().map(|word| scatter(answers.take(word.count_ones()), word));
            *mask = Mask::from_words(words);
            *count = mask.count();
        }
        self.selected = self.counts.iter().sum();
    }

    fn chunk(&self, column: usize) -> Result<Option<&Arc<ColumnChunk>>> {
        let cell = &self.chunks[column];
        if let Some(chunk) = cell.get() {
            return Ok(chunk.as_ref());
        }
        let chunk = self.segment.chunk(column, self.row_group)?;
        Ok(cell.get_or_init(|| chunk).as_ref())
    }

    fn damaged(&self, column: usize, reason: &str) -> Error {
        self.segment.damaged_column(column, self.row_group, reason.to_owned())
    }
}

/// Takes up to 64 bits at a time from the front.
struct BitReader<'a> {
    bits: &'a BooleanBuffer,
    position: usize,
}

impl BitReader<'_> {
    /// The next `count` bits, the first one lowest; as many are left.
    fn take(&mut self, count: u32) -> u64 {
        if count == 0 {
            return 0;
        }
        let start = self.bits.offset() + self.position;
        self.position += count as usize;
        let bytes = &self.bits.values()[start / 8..];
        let mut window = [0; 16];
        let length = bytes.len().min(window.len());
        window[..length].copy_from_slice(&bytes[..length]);
        let bits = (u128::from_le_bytes(window) >> (start % 8)) as u64;
        bits & (u64::MAX >> (64 - count))
    }
}

/// Puts the lowest bits of `bits`, in order, at the places where `places` has a bit.
fn scatter(bits: u64, places: u64) -> u64 {
    if bits.count_ones() == places.count_ones() {
        return places;
    }
    let (mut bits, mut left, mut scattered) = (bits, places, 0);
    while bits != 0 {
        let lowest = left & left.wrapping_neg();
        if bits & 1 == 1 {
            scattered |= lowest;
        }
        left ^= lowest;
        bits >>= 1;
    }
    scattered
}

#[cfg(test)]
mod tests;
