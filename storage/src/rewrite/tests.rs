//! Rewrites against a model: the live rows, sorted; and rewrites that fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use proptest::prelude::{ProptestConfig, proptest};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::*;
use crate::deletion_vector::DeletionVector;
use crate::ids::DeletionVectorId;
use crate::io::{Fault, FaultEffect, FaultyIo, MemoryIo, PowerCut};
use crate::predicate::Constant;
use crate::row_set::RowSet;
use crate::sample_rows::Table;
use crate::segment::{list_segments, segment_file_name, write_segment};

const DIRECTORY: &str = "/data";
const MIB: usize = 1 << 20;

fn path_of(id: SegmentId) -> PathBuf {
    Path::new(DIRECTORY).join(segment_file_name(id))
}

struct Target {
    next: u64,
    advanced: usize,
    /// Stops when so many rows were read.
    stop_at: usize,
}

impl Target {
    fn new() -> Target {
        Target { next: 1000, advanced: 0, stop_at: usize::MAX }
    }
}

impl RewriteTarget for Target {
    fn next_file(&mut self) -> (SegmentId, PathBuf) {
        let id = SegmentId(self.next);
        self.next += 1;
        (id, path_of(id))
    }

    fn advance(&mut self, rows: usize) -> ControlFlow<()> {
        self.advanced += rows;
        if self.advanced >= self.stop_at {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Segments in memory, and the rows that are not deleted, in the order of the segments.
struct Sources {
    memory: MemoryIo,
    table: Table,
    segments: Vec<Segment>,
    live: RecordBatch,
}

impl Sources {
    /// Cuts a table into segments of these sizes, deletes rows of them, and sorts some.
    fn new(table: Table, sizes: &[usize], deleted: f64, sorted: f64, rng: &mut StdRng) -> Sources {
        let memory = MemoryIo::new();
        let io: Arc<dyn Io> = Arc::new(memory.clone());
        let schema = Arc::new(table.schema.clone());
        let cache = Arc::new(ChunkCache::new(MIB));
        let mut segments = Vec::new();
        let mut live = Vec::new();
        for (number, batch) in table.batches(sizes).into_iter().enumerate() {
            let mut batches = vec![batch];
            if rng.random_bool(sorted) {
                batches = sort_rows(&schema, batches).unwrap();
            }
            let id = SegmentId(number as u64 + 1);
            write_segment(io.as_ref(), &path_of(id), id, &schema, &batches).unwrap();
            let (io, cache) = (Arc::clone(&io), Arc::clone(&cache));
            let segment = Segment::open(io, &path_of(id), id, Arc::clone(&schema), cache).unwrap();
            let whole = concat_batches(&schema.arrow_schema(), &batches).unwrap();
            let (gone, left): (Vec<u32>, Vec<u32>) =
                (0..whole.num_rows() as u32).partition(|_| rng.random_bool(deleted));
            live.push(take_record_batch(&whole, &UInt32Array::from(left)).unwrap());
            segments.push(if gone.is_empty() { segment } else { without(&segment, &gone) });
        }
        let live = concat_batches(&schema.arrow_schema(), &live).unwrap();
        Sources { memory, table, segments, live }
    }

    fn rewrite(
        &self,
        io: Arc<dyn Io>,
        options: &RewriteOptions,
        target: &mut Target,
    ) -> Result<Option<Vec<SegmentInfo>>> {
        let open = |source: &Segment| {
            let schema = Arc::clone(source.schema());
            let cache = Arc::new(ChunkCache::new(0));
            let opened = Segment::open(Arc::clone(&io), source.path(), source.id(), schema, cache)?;
            Ok(match source.deletions() {
                Some(deletions) => opened.with_deletions(Arc::clone(deletions)),
                None => opened,
            })
        };
        let sources = self.segments.iter().map(open).collect::<Result<Vec<_>>>()?;
        rewrite_segments(&io, &sources, options, target)
    }

    /// The rows of the new segments.
    fn rows_of(&self, segments: &[SegmentInfo]) -> RecordBatch {
        let schema = Arc::new(self.table.schema.clone());
        let open = |info: &SegmentInfo| {
            let cache = Arc::new(ChunkCache::new(0));
            let io: Arc<dyn Io> = Arc::new(self.memory.clone());
            let opened = Segment::open(io, &path_of(info.id), info.id, Arc::clone(&schema), cache);
            let segment = opened.unwrap();
            segment.check_identity(info).unwrap();
            segment
        };
        let mut rows = RowStream::new(segments.iter().map(open));
        let arrow_schema = schema.arrow_schema();
        let mut batches = Vec::new();
        while let Some(batch) = rows.next_batch(&arrow_schema).unwrap() {
            batches.push(batch);
        }
        concat_batches(&arrow_schema, &batches).unwrap()
    }

    fn files(&self) -> BTreeSet<SegmentId> {
        let listing = list_segments(&self.memory, Path::new(DIRECTORY)).unwrap();
        listing.segments.into_iter().map(|(id, _)| id).collect()
    }

    fn check(&self, options: &RewriteOptions) -> Vec<SegmentInfo> {
        let before = self.files();
        let mut target = Target::new();
        let io = Arc::new(self.memory.clone());
        let written = self.rewrite(io, options, &mut target).unwrap().unwrap();
        let rows = self.rows_of(&written);
        assert!(written.iter().all(|info| info.row_count <= options.segment_rows as u64));
        assert!(target.advanced >= self.live.num_rows());
        match options.order {
            RowOrder::Kept => assert_eq!(rows, self.live),
            RowOrder::Sorted => check_sorted(&self.table.schema, &rows, &self.live),
        }
        // What was temporary is gone.
        let kept = before.iter().copied().chain(written.iter().map(|info| info.id)).collect();
        assert_eq!(self.files(), kept);
        written
    }
}

fn without(segment: &Segment, rows: &[u32]) -> Segment {
    let mut deleted = RowSet::new(segment.row_count());
    deleted.insert(rows);
    let vector = DeletionVector::new(DeletionVectorId(9), segment.info(), deleted);
    segment.with_deletions(Arc::new(vector))
}

/// The keys ascend, and the rows are the expected ones, each as often. The keys of the sorted
/// expected rows must be those of the rows one by one; rows of one key may come in any order.
fn check_sorted(schema: &TableSchema, rows: &RecordBatch, expected: &RecordBatch) {
    assert_eq!(rows.num_rows(), expected.num_rows());
    let sorted = sort_rows(schema, vec![expected.clone()]).unwrap();
    let sorted = concat_batches(&schema.arrow_schema(), &sorted).unwrap();
    for column in &schema.sort_key {
        let texts = |batch: &RecordBatch| texts_of(batch, *column);
        assert_eq!(texts(rows), texts(&sorted), "key column {column}");
    }
    assert_eq!(bag_of(rows), bag_of(expected));
}

/// A column as texts; both zeros are one key.
fn texts_of(batch: &RecordBatch, column: usize) -> Vec<String> {
    let options = arrow_cast::display::FormatOptions::default().with_null("NULL");
    let array = batch.column(column);
    let format = arrow_cast::display::ArrayFormatter::try_new(array, &options).unwrap();
    (0..array.len()).map(|row| format.value(row).to_string().replace("-0.0", "0.0")).collect()
}

/// Each row as text, and how often it is there.
fn bag_of(batch: &RecordBatch) -> BTreeMap<Vec<String>, usize> {
    let columns: Vec<Vec<String>> =
        (0..batch.num_columns()).map(|column| texts_of(batch, column)).collect();
    let mut bag = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let texts = columns.iter().map(|column| column[row].clone()).collect();
        *bag.entry(texts).or_insert(0) += 1;
    }
    bag
}

fn random_sources(rng: &mut StdRng, rows: usize) -> Sources {
    let mut table = Table::random(rng, 3, rows);
    table.schema.sort_key = (0..3).collect();
    table.schema.sort_key.shuffle(rng);
    table.schema.sort_key.truncate(rng.random_range(0..3));
    let sizes: Vec<usize> =
        (0..rng.random_range(0..8)).map(|_| rng.random_range(0..=rows)).collect();
    let deleted = *[0.0, 0.1, 0.9, 1.0].choose(rng).unwrap();
    let sorted = *[0.0, 0.5, 1.0].choose(rng).unwrap();
    Sources::new(table, &sizes, deleted, sorted, rng)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn rewritten_rows_are_the_live_rows_in_order(seed: u64, rows in 0_usize..2500) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let sources = random_sources(rng, rows);
        let order = *[RowOrder::Kept, RowOrder::Sorted].choose(rng).unwrap();
        // With next to no memory every run is merged with one other at a time.
        let memory_bytes = *[0, 60_000, 300_000, 100 * MIB].choose(rng).unwrap();
        let segment_rows = *[1 + rows / 2, 700, SEGMENT_ROWS_MAX].choose(rng).unwrap();
        sources.check(&RewriteOptions { order, memory_bytes, segment_rows });
    }
}

fn numbers(values: impl Iterator<Item = i64>) -> Table {
    let cells = values.map(|value| Some(Constant::Int(value))).collect();
    let mut table = Table::new(&[ColumnType::BigInt], vec![cells]);
    table.schema.sort_key = vec![0];
    table
}

/// Sorted segments that interleave row by row, some of more than a row group, in one pass.
#[test]
fn large_sorted_segments_are_merged() {
    let rng = &mut StdRng::seed_from_u64(3);
    let table = numbers((0..3).flat_map(|start| (0..70_000).map(move |row| row * 3 + start)));
    let sources = Sources::new(table, &[70_000, 70_000], 0.1, 1.0, rng);
    let options =
        RewriteOptions { order: RowOrder::Sorted, memory_bytes: 4 * MIB, segment_rows: 65_536 };
    let written = sources.check(&options);
    assert_eq!(written.len(), sources.live.num_rows().div_ceil(65_536));
    // The new segments do not overlap, so that the slice is sorted now.
    let bounds: Vec<_> =
        written.iter().map(|s| (s.columns[0].min.clone(), s.columns[0].max.clone())).collect();
    for pair in bounds.windows(2) {
        let (Some(Constant::Int(before)), Some(Constant::Int(after))) = (&pair[0].1, &pair[1].0)
        else {
            panic!("{pair:?}")
        };
        assert!(before <= after);
    }
}

/// Segments that follow one another are one run: they are merged with the overlapping one without
/// a temporary file, whatever their number.
#[test]
fn segments_in_sequence_are_one_run() {
    let rng = &mut StdRng::seed_from_u64(4);
    let table = numbers((0..4000).chain([5, 1500, 3999]));
    let sources = Sources::new(table, &[400; 10], 0.0, 1.0, rng);
    assert_eq!(sources.segments.len(), 11);
    let mut target = Target::new();
    let options =
        RewriteOptions { order: RowOrder::Sorted, memory_bytes: 0, segment_rows: SEGMENT_ROWS_MAX };
    let io = Arc::new(sources.memory.clone());
    let written = sources.rewrite(io, &options, &mut target).unwrap().unwrap();
    // Without memory each batch is a segment; the two runs are read once.
    assert_eq!((written.len(), target.next, target.advanced), (1, 1001, 4003));
    check_sorted(&sources.table.schema, &sources.rows_of(&written), &sources.live);
}

/// Rows of NULL keys and of equal keys are not lost, wherever a window ends.
#[test]
fn equal_keys_over_many_windows_are_kept() {
    let rng = &mut StdRng::seed_from_u64(5);
    let cells = (0..40_000).map(|row| (row % 3 != 0).then_some(Constant::Int(row % 2))).collect();
    let order = (0..40_000).map(|row| Some(Constant::Int(row))).collect();
    let mut table = Table::new(&[ColumnType::SmallInt, ColumnType::Integer], vec![cells, order]);
    table.schema.sort_key = vec![0];
    let sources = Sources::new(table, &[15_000, 15_000], 0.2, 1.0, rng);
    for memory_bytes in [0, MIB] {
        let order = RowOrder::Sorted;
        sources.check(&RewriteOptions { order, memory_bytes, segment_rows: SEGMENT_ROWS_MAX });
    }
}

#[test]
fn nothing_comes_of_nothing() {
    let io: Arc<dyn Io> = Arc::new(MemoryIo::new());
    let options = RewriteOptions { order: RowOrder::Sorted, memory_bytes: MIB, segment_rows: 10 };
    assert_eq!(rewrite_segments(&io, &[], &options, &mut Target::new()).unwrap(), Some(vec![]));
    let rng = &mut StdRng::seed_from_u64(6);
    let sources = Sources::new(numbers(0..100), &[50], 1.0, 1.0, rng);
    assert_eq!(sources.check(&options), []);
}

/// Added columns become NULL in the file, dropped ones go.
#[test]
fn the_new_segments_have_the_tables_columns_as_they_are_now() {
    let rng = &mut StdRng::seed_from_u64(8);
    let mut sources = Sources::new(Table::random(rng, 2, 500), &[200], 0.1, 0.0, rng);
    let column = crate::schema::Column {
        id: crate::ids::ColumnId(999),
        name: "added".into(),
        column_type: ColumnType::Text,
        nullable: true,
        encode: crate::schema::EncodeName::Auto,
    };
    let mut schema = sources.table.schema.clone();
    schema.columns.remove(0);
    schema.columns.push(column);
    sources.table.schema = schema;
    let schema = Arc::new(sources.table.schema.clone());
    let io: Arc<dyn Io> = Arc::new(sources.memory.clone());
    let cache = Arc::new(ChunkCache::new(MIB));
    let reopened = sources.segments.iter().map(|source| {
        let (io, cache) = (Arc::clone(&io), Arc::clone(&cache));
        Segment::open(io, source.path(), source.id(), Arc::clone(&schema), cache).unwrap()
    });
    let options = RewriteOptions { order: RowOrder::Kept, memory_bytes: MIB, segment_rows: 1000 };
    let reopened: Vec<Segment> = reopened.collect();
    let written = rewrite_segments(&io, &reopened, &options, &mut Target::new()).unwrap().unwrap();
    let ids: Vec<_> = written[0].columns.iter().map(|column| column.id).collect();
    assert_eq!(ids, schema.columns.iter().map(|column| column.id).collect::<Vec<_>>());
    let rows = sources.rows_of(&written);
    assert_eq!((rows.num_rows(), rows.column(1).null_count()), (500, 500));
}

fn small_sources() -> Sources {
    let rng = &mut StdRng::seed_from_u64(9);
    let table = numbers((0..200).map(|row| row * 37 % 200));
    Sources::new(table, &[50, 50, 50], 0.2, 0.5, rng)
}

/// Without memory: unsorted sources become temporary segments, and there is more than one pass.
const HARD: RewriteOptions =
    RewriteOptions { order: RowOrder::Sorted, memory_bytes: 0, segment_rows: 60 };

#[test]
fn a_stopped_rewrite_leaves_no_file() {
    let sources = small_sources();
    let before = sources.files();
    for stop_at in 0.. {
        let mut target = Target { stop_at, ..Target::new() };
        let io = Arc::new(sources.memory.clone());
        match sources.rewrite(io, &HARD, &mut target).unwrap() {
            None => assert_eq!(sources.files(), before),
            Some(_) => {
                assert!(stop_at > 200);
                break;
            }
        }
    }
}

/// Fails the 1st, 2nd, ... call of a rewrite, once and for ever, until one passes untouched: there
/// is no false success, no source is touched, and a success survives a power cut.
#[test]
fn no_failing_call_makes_a_false_success() {
    for lasting in [false, true] {
        for (effect, os_error) in [
            (FaultEffect::Nothing, libc::EIO),
            (FaultEffect::Half, libc::ENOSPC),
            (FaultEffect::All, libc::EIO),
        ] {
            for call in 0.. {
                let sources = small_sources();
                let before = sources.files();
                sources.memory.sync_directory(Path::new(DIRECTORY)).unwrap();
                let fault = Fault { kind: None, call, lasting, effect, os_error };
                let faulty = Arc::new(FaultyIo::new(Arc::new(sources.memory.clone()), fault));
                let result = sources.rewrite(Arc::clone(&faulty) as _, &HARD, &mut Target::new());
                // A temporary file that cannot be removed is an orphan and no failure.
                let untouched = faulty.failures() == 0;
                assert!(result.is_ok() || !untouched, "call {call}: {result:?}");
                sources.memory.power_cut(PowerCut::Lost);
                assert!(sources.files().is_superset(&before), "call {call}: a source is gone");
                if let Ok(written) = result {
                    let rows = sources.rows_of(&written.unwrap());
                    check_sorted(&sources.table.schema, &rows, &sources.live);
                }
                if untouched {
                    assert!(call > 60, "the scenario has more calls than {call}");
                    break;
                }
            }
        }
    }
}

/// A source that is damaged stops the rewrite: no row is left out in silence.
#[test]
fn a_damaged_source_is_not_skipped() {
    let sources = small_sources();
    let before = sources.files();
    let damaged = sources.segments[2].path().to_owned();
    sources.memory.damage(&damaged, |bytes| bytes[70] ^= 1).unwrap();
    let io = Arc::new(sources.memory.clone());
    let result = sources.rewrite(io, &HARD, &mut Target::new());
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    assert_eq!(sources.files(), before);
}
