//! Sorted batches in memory and their merge.
//!
//! The merge is a tree of losers (Knuth, The Art of Computer Programming, vol. 3, 5.4.1): a row costs
//! one comparison for each level. Keys are compared by their first eight bytes, and in full only
//! where these are equal.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::Rows;
use datafusion::common::Result;
use datafusion::common::utils::memory::get_record_batch_memory_size;

/// A row of a run: the first bytes of its key, as a number that is ordered as they are, and its
/// place in the batch.
#[derive(Debug, Clone, Copy)]
struct Entry {
    prefix: u64,
    row: u32,
}

/// A batch whose rows have an order.
#[derive(Debug)]
pub(super) struct Run {
    batch: RecordBatch,
    /// Of the rows as they are in the batch.
    keys: Rows,
    order: Vec<Entry>,
    /// What a row of the batch takes, about.
    row_bytes: usize,
}

impl Run {
    /// Sorts the rows of `batch` by their `keys`; rows of equal keys stay as they are.
    pub(super) fn new(batch: RecordBatch, keys: Rows) -> Self {
        let entry = |row: u32| Entry { prefix: prefix(keys.row(row as usize).as_ref()), row };
        let mut order: Vec<Entry> = (0..).take(batch.num_rows()).map(entry).collect();
        order.sort_unstable_by(|a, b| {
            let by_key = || keys.row(a.row as usize).cmp(&keys.row(b.row as usize));
            a.prefix.cmp(&b.prefix).then_with(by_key).then(a.row.cmp(&b.row))
        });
        let bytes = get_record_batch_memory_size(&batch);
        let row_bytes = bytes.div_ceil(batch.num_rows().max(1));
        Self { batch, keys, order, row_bytes }
    }

    /// What it holds, bytes.
    pub(super) fn size_bytes(&self) -> usize {
        get_record_batch_memory_size(&self.batch)
            + self.keys.size()
            + self.order.capacity() * size_of::<Entry>()
    }
}

/// The first eight bytes, filled up with zeros. Keys whose prefixes differ are ordered as these.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = key.len().min(8);
    bytes[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(bytes)
}

/// Gives the rows of many runs in their common order.
#[derive(Debug)]
pub(super) struct Merge {
    schema: SchemaRef,
    runs: Vec<Run>,
    /// How many rows of each run are given.
    given: Vec<usize>,
    /// The run with the next row first, then at each inner node of the tree the run that lost there;
    /// the children of node `n` are `2n` and `2n + 1`, the leaf of run `r` is `runs + r`.
    tree: Vec<usize>,
}

impl Merge {
    pub(super) fn new(schema: SchemaRef, runs: Vec<Run>) -> Self {
        let count = runs.len();
        let mut merge = Self { schema, given: vec![0; count], tree: vec![0; count], runs };
        // Who won at each node, leaves last.
        let mut winners: Vec<usize> = vec![0; count];
        winners.extend(0..count);
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) =
                if merge.is_before(right, left) { (right, left) } else { (left, right) };
            winners[node] = winner;
            merge.tree[node] = loser;
        }
        if let Some(first) = merge.tree.first_mut() {
            *first = if count == 1 { 0 } else { winners[1] };
        }
        merge
    }

    /// Whether the next row of run `a` goes before that of run `b`. A run without rows is last.
    fn is_before(&self, a: usize, b: usize) -> bool {
        let next = |run: usize| self.runs[run].order.get(self.given[run]);
        match (next(a), next(b)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(first), Some(second)) => {
                let key = |run: usize, entry: &Entry| self.runs[run].keys.row(entry.row as usize);
                let by_key = || key(a, first).cmp(&key(b, second));
                let order = first.prefix.cmp(&second.prefix).then_with(by_key);
                order.then(a.cmp(&b)) == Ordering::Less
            }
        }
    }

    /// The run and place in its batch of the next row.
    fn next_row(&mut self) -> Option<(usize, usize)> {
        let run = *self.tree.first()?;
        let entry = *self.runs[run].order.get(self.given[run])?;
        self.given[run] += 1;
        let mut winner = run;
        let mut node = (self.runs.len() + run) / 2;
        while node > 0 {
            if self.is_before(self.tree[node], winner) {
                std::mem::swap(&mut self.tree[node], &mut winner);
            }
            node /= 2;
        }
        self.tree[0] = winner;
        Some((run, entry.row as usize))
    }

    /// The next rows, at most `rows_max` and no more than about `bytes_max`; none when all are given.
    ///
    /// # Errors
    /// If a column has a type that cannot be gathered.
    pub(super) fn next_batch(
        &mut self,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Option<RecordBatch>> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < rows_max && bytes < bytes_max {
            let Some((run, row)) = self.next_row() else { break };
            bytes += self.runs[run].row_bytes;
            rows.push((run, row));
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let columns = (0..self.schema.fields().len()).map(|column| self.gather(column, &rows));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }

    fn gather(&self, column: usize, rows: &[(usize, usize)]) -> Result<ArrayRef> {
        let of_runs: Vec<&dyn Array> =
            self.runs.iter().map(|run| run.batch.column(column).as_ref()).collect();
        let gathered = interleave(&of_runs, rows)?;
        // Views would keep the text of all runs alive for as long as these rows are.
        Ok(match gathered.data_type() {
            DataType::Utf8View => Arc::new(gathered.as_string_view().gc()),
            DataType::BinaryView => Arc::new(gathered.as_binary_view().gc()),
            _ => gathered,
        })
    }
}
