//! Merges sorted streams of rows into one.
//!
//! The cursors of the streams stand in a heap by the key of their next row. Of the first cursor's
//! window all rows are taken at once that do not come after the next row of the others; so a stream
//! that has a stretch of keys for itself is copied and not compared row by row.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::Rows;
use arrow_select::interleave::interleave_record_batch;

use super::sink::SegmentSink;
use super::{Rewrite, RewriteTarget, Step, advance};
use crate::WINDOW_ROWS;
use crate::error::{Error, Result};
use crate::row_stream::RowStream;
use crate::sort::KeyConverter;

/// Merges the streams into the sink.
pub(super) fn merge(
    rewrite: &Rewrite,
    streams: impl Iterator<Item = RowStream>,
    key: &KeyConverter,
    sink: &mut SegmentSink<'_>,
    target: &mut dyn RewriteTarget,
) -> Step<()> {
    let mut cursors = Vec::new();
    for stream in streams {
        cursors.extend(Cursor::start(rewrite, stream, key)?);
    }
    let mut heap = Heap::new(&cursors);
    let mut output = Output { windows: Vec::new(), rows: Vec::new() };
    while let Some(first) = heap.first() {
        let bound = heap.second(&cursors).map(|second| cursors[second].key());
        let end = cursors[first].end_of_rows_up_to(bound);
        let cursor = &mut cursors[first];
        output.take(cursor, end);
        if cursor.position == cursor.window.num_rows() && !cursor.next_window(rewrite, key)? {
            heap.remove_first();
        }
        heap.settle_first(&cursors);
        if output.rows.len() >= WINDOW_ROWS {
            let batch = output.flush(&mut cursors)?;
            advance(target, batch.num_rows())?;
            sink.push(batch, target)?;
        }
    }
    if !output.rows.is_empty() {
        let batch = output.flush(&mut cursors)?;
        advance(target, batch.num_rows())?;
        sink.push(batch, target)?;
    }
    Ok(())
}

/// A place in a stream: always at a row.
struct Cursor {
    stream: RowStream,
    window: RecordBatch,
    keys: Rows,
    position: usize,
    /// The window's number in [`Output::windows`], once a row of it is there.
    in_output: Option<usize>,
}

impl Cursor {
    /// A cursor at the first row; `None` if there is none.
    fn start(
        rewrite: &Rewrite,
        mut stream: RowStream,
        key: &KeyConverter,
    ) -> Result<Option<Cursor>> {
        let Some((window, keys)) = read_window(rewrite, &mut stream, key)? else { return Ok(None) };
        Ok(Some(Cursor { stream, window, keys, position: 0, in_output: None }))
    }

    /// Goes to the first row of the next window; says whether there is one.
    fn next_window(&mut self, rewrite: &Rewrite, key: &KeyConverter) -> Result<bool> {
        let Some((window, keys)) = read_window(rewrite, &mut self.stream, key)? else {
            return Ok(false);
        };
        assert!(self.key() <= keys.row(0).as_ref(), "the rows of a run are in order");
        (self.window, self.keys, self.position, self.in_output) = (window, keys, 0, None);
        Ok(true)
    }

    /// The key of the next row; of the last one, when the window is used up.
    fn key(&self) -> &[u8] {
        self.keys.row(self.position.min(self.window.num_rows() - 1)).data()
    }

    /// Where the rows of the window end that do not come after `bound`; all if there is none. The
    /// next row itself never does.
    fn end_of_rows_up_to(&self, bound: Option<&[u8]>) -> usize {
        let end = self.window.num_rows();
        let Some(bound) = bound else { return end };
        let within = |row: usize| self.keys.row(row).as_ref() <= bound;
        // Most stretches are short: look at ever farther rows before halving.
        let (mut low, mut step) = (self.position, 1);
        while low + step < end && within(low + step) {
            low += step;
            step *= 2;
        }
        let mut high = end.min(low + step);
        // `low` is within, `high` is not or is the end.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if within(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

fn read_window(
    rewrite: &Rewrite,
    stream: &mut RowStream,
    key: &KeyConverter,
) -> Result<Option<(RecordBatch, Rows)>> {
    let Some(window) = stream.next_batch(&rewrite.arrow_schema)? else { return Ok(None) };
    let keys = rewrite.schema.sort_key.iter().map(|column| Arc::clone(window.column(*column)));
    let keys: Vec<ArrayRef> = keys.collect();
    Ok(Some((window, key.convert(&keys)?)))
}

/// Rows that were merged, by window and row.
struct Output {
    windows: Vec<RecordBatch>,
    rows: Vec<(usize, usize)>,
}

impl Output {
    /// Takes the rows of a cursor's window up to `end`.
    fn take(&mut self, cursor: &mut Cursor, end: usize) {
        let window = *cursor.in_output.get_or_insert_with(|| {
            self.windows.push(cursor.window.clone());
            self.windows.len() - 1
        });
        self.rows.extend((cursor.position..end).map(|row| (window, row)));
        cursor.position = end;
    }

    fn flush(&mut self, cursors: &mut [Cursor]) -> Result<RecordBatch> {
        let windows: Vec<&RecordBatch> = self.windows.iter().collect();
        let batch = interleave_record_batch(&windows, &self.rows)
            .map_err(|error| Error::SchemaMismatch(error.to_string()))?;
        self.windows.clear();
        self.rows.clear();
        cursors.iter_mut().for_each(|cursor| cursor.in_output = None);
        Ok(batch)
    }
}

/// A binary heap of the numbers of cursors, the one with the smallest key first; of equal keys, the
/// one with the smaller number.
struct Heap(Vec<usize>);

impl Heap {
    fn new(cursors: &[Cursor]) -> Heap {
        let mut heap = Heap((0..cursors.len()).collect());
        for position in (0..heap.0.len() / 2).rev() {
            heap.sink(position, cursors);
        }
        heap
    }

    fn first(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// The cursor after the first one.
    fn second(&self, cursors: &[Cursor]) -> Option<usize> {
        let children = self.0.get(1..3.min(self.0.len())).unwrap_or_default();
        children.iter().copied().min_by_key(|cursor| order(cursors, *cursor))
    }

    fn remove_first(&mut self) {
        self.0.swap_remove(0);
    }

    /// Moves the first cursor to its place after its key has changed.
    fn settle_first(&mut self, cursors: &[Cursor]) {
        self.sink(0, cursors);
    }

    fn sink(&mut self, mut position: usize, cursors: &[Cursor]) {
        loop {
            let child =
                |number: usize| self.0.get(2 * position + number).map(|_| 2 * position + number);
            let smallest = [child(1), child(2)]
                .into_iter()
                .flatten()
                .min_by_key(|child| order(cursors, self.0[*child]));
            match smallest {
                Some(child) if order(cursors, self.0[child]) < order(cursors, self.0[position]) => {
                    self.0.swap(child, position);
                    position = child;
                }
                Some(_) | None => return,
            }
        }
    }
}

fn order(cursors: &[Cursor], cursor: usize) -> (&[u8], usize) {
    (cursors[cursor].key(), cursor)
}
