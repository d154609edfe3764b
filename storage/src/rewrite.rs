//! Writes the live rows of some segments of a slice as new segments: what VACUUM is made of.
//!
//! ```text
//!  sources -- all fit in memory ----------------> sort ------------------------> new segments
//!      |
//!      +-- sorted ones: runs of segments that do not overlap --+
//!      |                                                       +-- k-way merge -> new segments
//!      +-- the others: sorted in parts, as temporary segments -+
//! ```
//!
//! | VACUUM | sources | order |
//! |---|---|---|
//! | FULL | the groups of [`crate::sort_order::overlapping_segments`], and segments with deleted rows | by the sort key |
//! | SORT ONLY | those groups | by the sort key |
//! | DELETE ONLY | segments with deleted rows | as they are |
//!
//! TO n PERCENT is [`crate::sort_order::SortedRows::reach`], asked before. A rewrite drops deleted
//! rows in every case: the new segments have new row numbers.
//!
//! Memory is bounded whatever the number of sources: a sixth of the limit is for the rows of the
//! segment that is being put together, a quarter for the runs that are being merged, and the rest
//! for sorting and encoding, which need some copies. When the runs do not fit they are merged in
//! passes, through temporary segments. The least is two row groups as they are in the file, a
//! window of each decoded, and a window encoded.
//!
//! Nothing of a rewrite is visible before a commit record names the new segments instead of the
//! sources. Whoever commits it checks that no source got another deletion vector meanwhile: rows
//! that were deleted after the rewrite began are in the new segments.

mod merge;
mod sink;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::SchemaRef;

use self::merge::merge;
use self::sink::{SegmentSink, WrittenSegments};
use crate::cache::ChunkCache;
use crate::error::{Error, Result};
use crate::ids::SegmentId;
use crate::io::Io;
use crate::row_stream::RowStream;
use crate::schema::{ColumnType, TableSchema};
use crate::segment::Segment;
use crate::sort::{KeyConverter, sort_rows};
use crate::sort_order::SegmentOrder;
use crate::statistics::SegmentInfo;
use crate::{SEGMENT_ROWS_MAX, WINDOW_ROWS};

/// In which order the new segments have the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// Source after source, as they are.
    Kept,
    /// By the sort key of the table.
    Sorted,
}

/// How to rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteOptions {
    /// The order of the rows.
    pub order: RowOrder,
    /// Roughly the most memory to use, bytes; the fewer, the more often rows are read and written.
    pub memory_bytes: usize,
    /// The most rows of a new segment, 1 to [`SEGMENT_ROWS_MAX`].
    pub segment_rows: usize,
}

/// Roughly how many rows like those of a segment a rewrite with so much memory puts into a new one.
pub fn rows_together(schema: &TableSchema, segment: &Segment, memory_bytes: usize) -> u64 {
    part_bytes(memory_bytes) as u64 / row_bytes(schema, segment).max(1)
}

fn part_bytes(memory_bytes: usize) -> usize {
    memory_bytes / 6
}

fn row_bytes(schema: &TableSchema, segment: &Segment) -> u64 {
    let info = segment.info();
    let text_bytes =
        |column| info.column(column).map_or(0, |c| c.uncompressed_bytes / info.row_count.max(1));
    let column_bytes = schema.columns.iter().map(|column| match column.column_type {
        ColumnType::Text => sink::VIEW_BYTES + text_bytes(column.id),
        other => sink::value_bytes(other),
    });
    column_bytes.sum()
}

/// Who asks for a rewrite: gives it names for its files, and decides whether it goes on.
pub trait RewriteTarget {
    /// Id and path of the next file: a new segment, or a temporary one that is removed again. Both
    /// are used once.
    fn next_file(&mut self) -> (SegmentId, PathBuf);

    /// Called again and again, after so many more rows were read. May wait, to give way to queries,
    /// or stop the rewrite.
    fn advance(&mut self, rows: usize) -> ControlFlow<()>;
}

/// Writes the live rows of `sources`, segments of one table on one slice, as new segments, durably.
/// Returns what the catalog keeps of them, in the order of their rows; `None` if the target stopped
/// the rewrite. There is no new segment when there is no live row.
///
/// # Errors
/// When a source cannot be read or a file not be written. The files that were written are removed
/// then, as they are after a stop; those that cannot be removed are orphans.
pub fn rewrite_segments(
    io: &Arc<dyn Io>,
    sources: &[Segment],
    options: &RewriteOptions,
    target: &mut dyn RewriteTarget,
) -> Result<Option<Vec<SegmentInfo>>> {
    assert!((1..=SEGMENT_ROWS_MAX).contains(&options.segment_rows), "a segment holds these rows");
    let Some(first) = sources.first() else { return Ok(Some(Vec::new())) };
    let schema = Arc::clone(first.schema());
    assert!(sources.iter().all(|source| **source.schema() == *schema), "they are of one table");
    let rewrite = Rewrite {
        io: Arc::clone(io),
        arrow_schema: schema.arrow_schema(),
        schema,
        options: *options,
        // For the temporary segments: what their chunks share is read once.
        cache: Arc::new(ChunkCache::new(options.memory_bytes / 16)),
    };
    match rewrite.run(sources, target) {
        Ok(written) => {
            let expected: u64 = sources.iter().map(Segment::live_rows).sum();
            let rows: u64 = written.iter().map(|segment| segment.row_count).sum();
            assert_eq!(rows, expected, "each live row is written once");
            Ok(Some(written))
        }
        Err(Interruption::Stopped) => Ok(None),
        Err(Interruption::Failed(error)) => Err(error),
    }
}

/// Why a rewrite did not come to its end.
enum Interruption {
    /// The target wanted so.
    Stopped,
    Failed(Error),
}

impl From<Error> for Interruption {
    fn from(error: Error) -> Interruption {
        Interruption::Failed(error)
    }
}

type Step<T> = Result<T, Interruption>;

/// Tells the target of the progress.
fn advance(target: &mut dyn RewriteTarget, rows: usize) -> Step<()> {
    match target.advance(rows) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Interruption::Stopped),
    }
}

/// What stays the same during a rewrite.
struct Rewrite {
    io: Arc<dyn Io>,
    schema: Arc<TableSchema>,
    arrow_schema: SchemaRef,
    options: RewriteOptions,
    cache: Arc<ChunkCache>,
}

/// Segments whose rows, one after the other, are in order.
struct Run {
    segments: Vec<Segment>,
    /// Set if the segments are temporary: they go when the run is merged.
    _temporary: Option<WrittenSegments>,
}

impl Run {
    fn rows(&self) -> u64 {
        self.segments.iter().map(Segment::live_rows).sum()
    }
}

impl Rewrite {
    fn run(&self, sources: &[Segment], target: &mut dyn RewriteTarget) -> Step<Vec<SegmentInfo>> {
        let Some(key) = self.key()? else {
            return self.copy(sources, target);
        };
        let bytes = sources.iter().map(|source| self.row_bytes(source) * source.live_rows());
        if bytes.sum::<u64>() <= self.part_bytes() as u64 {
            return self.sort_at_once(sources, target);
        }
        let mut runs = self.runs(sources, target)?;
        let runs_max = self.runs_max(&runs);
        while runs.len() > runs_max {
            // The smallest runs first, and only as many as needed: most rows are read once.
            runs.sort_by_key(Run::rows);
            let count = runs_max.min(runs.len() - runs_max + 1);
            let merged: Vec<Run> = runs.drain(..count).collect();
            let written = self.merge_runs(&merged, &key, target)?;
            runs.push(self.temporary_run(written)?);
        }
        Ok(self.merge_runs(&runs, &key, target)?.keep())
    }

    /// The key to sort by; `None` if the rows stay in their order.
    fn key(&self) -> Result<Option<KeyConverter>> {
        match self.options.order {
            RowOrder::Kept => Ok(None),
            RowOrder::Sorted => KeyConverter::of_table(&self.schema),
        }
    }

    /// Rows of so many bytes are sorted and written at once.
    fn part_bytes(&self) -> usize {
        part_bytes(self.options.memory_bytes)
    }

    /// Roughly the bytes of a row of a segment in memory.
    fn row_bytes(&self, segment: &Segment) -> u64 {
        row_bytes(&self.schema, segment)
    }

    /// How many runs can be merged at once, two at least.
    fn runs_max(&self, runs: &[Run]) -> usize {
        let segment_bytes = |segment: &Segment| {
            let row_groups = segment.row_group_count().max(1) as u64;
            let window_rows = segment.row_count().min(WINDOW_ROWS as u64);
            // A row group as it is in the file, a window decoded, and its keys.
            segment.info().byte_count / row_groups + 2 * window_rows * self.row_bytes(segment)
        };
        let segments = runs.iter().flat_map(|run| &run.segments);
        let largest = segments.map(segment_bytes).max().unwrap_or(1).max(1);
        (self.options.memory_bytes as u64 / 4 / largest).clamp(2, usize::MAX as u64) as usize
    }

    fn copy(&self, sources: &[Segment], target: &mut dyn RewriteTarget) -> Step<Vec<SegmentInfo>> {
        let mut rows = RowStream::new(sources.iter().cloned());
        let mut sink = SegmentSink::new(self);
        while let Some(batch) = rows.next_batch(&self.arrow_schema)? {
            advance(target, batch.num_rows())?;
            sink.push(batch, target)?;
        }
        Ok(sink.finish(target)?.keep())
    }

    fn sort_at_once(
        &self,
        sources: &[Segment],
        target: &mut dyn RewriteTarget,
    ) -> Step<Vec<SegmentInfo>> {
        let mut rows = RowStream::new(sources.iter().cloned());
        let mut batches = Vec::new();
        while let Some(batch) = rows.next_batch(&self.arrow_schema)? {
            advance(target, batch.num_rows())?;
            batches.push(batch);
        }
        let mut sink = SegmentSink::new(self);
        for batch in sort_rows(&self.schema, batches)? {
            sink.push(batch, target)?;
        }
        Ok(sink.finish(target)?.keep())
    }

    /// The sources as runs: sorted ones are put together as long as they do not overlap, the others
    /// are sorted.
    fn runs(&self, sources: &[Segment], target: &mut dyn RewriteTarget) -> Step<Vec<Run>> {
        let mut sorted = Vec::new();
        let mut runs = Vec::new();
        for source in sources {
            let order = SegmentOrder::read(source)?;
            advance(target, 0)?;
            if order.is_sorted() {
                sorted.push((source, order));
            } else {
                self.sort_in_parts(source, target, &mut runs)?;
            }
        }
        let chained = chains(&sorted).into_iter();
        runs.extend(chained.map(|segments| Run { segments, _temporary: None }));
        Ok(runs)
    }

    /// Sorts a source in parts that fit in memory; each becomes a run.
    fn sort_in_parts(
        &self,
        source: &Segment,
        target: &mut dyn RewriteTarget,
        runs: &mut Vec<Run>,
    ) -> Step<()> {
        let mut rows = RowStream::new([source.clone()]);
        let mut more = true;
        while more {
            let mut batches = Vec::new();
            let mut bytes = 0;
            more = false;
            while let Some(batch) = rows.next_batch(&self.arrow_schema)? {
                advance(target, batch.num_rows())?;
                bytes += sink::batch_bytes(&batch);
                batches.push(batch);
                if bytes >= self.part_bytes() {
                    more = true;
                    break;
                }
            }
            let mut sink = SegmentSink::new(self);
            for batch in sort_rows(&self.schema, batches)? {
                sink.push(batch, target)?;
            }
            let written = sink.finish(target)?;
            runs.push(self.temporary_run(written)?);
        }
        Ok(())
    }

    fn merge_runs(
        &self,
        runs: &[Run],
        key: &KeyConverter,
        target: &mut dyn RewriteTarget,
    ) -> Step<WrittenSegments> {
        let mut sink = SegmentSink::new(self);
        let streams = runs.iter().map(|run| RowStream::new(run.segments.iter().cloned()));
        merge(self, streams, key, &mut sink, target)?;
        sink.finish(target)
    }

    fn temporary_run(&self, written: WrittenSegments) -> Result<Run> {
        let open = |(info, path): &(SegmentInfo, PathBuf)| {
            let (io, cache) = (Arc::clone(&self.io), Arc::clone(&self.cache));
            let segment = Segment::open(io, path, info.id, Arc::clone(&self.schema), cache)?;
            segment.check_identity(info)?;
            Ok(segment)
        };
        let segments = written.files().iter().map(open).collect::<Result<_>>()?;
        Ok(Run { segments, _temporary: Some(written) })
    }
}

/// Puts sorted segments one after the other, in as few runs as there can be.
fn chains(sorted: &[(&Segment, SegmentOrder)]) -> Vec<Vec<Segment>> {
    let mut by_key: Vec<(&[u8], &[u8], &Segment)> = sorted
        .iter()
        .filter_map(|(segment, order)| order.bounds().map(|(min, max)| (min, max, *segment)))
        .collect();
    by_key.sort_by_key(|(min, max, _)| (*min, *max));
    // By the largest key of each run, and the run's number to tell equal ones apart.
    let mut ends: BTreeSet<(&[u8], usize)> = BTreeSet::new();
    let mut chains: Vec<Vec<Segment>> = Vec::new();
    for (min, max, segment) in by_key {
        let before = ends.range(..=(min, usize::MAX)).next_back().copied();
        let chain = match before {
            Some(end) => {
                ends.remove(&end);
                end.1
            }
            None => {
                chains.push(Vec::new());
                chains.len() - 1
            }
        };
        ends.insert((max, chain));
        chains[chain].push(segment.clone());
    }
    chains
}

#[cfg(test)]
mod tests;
