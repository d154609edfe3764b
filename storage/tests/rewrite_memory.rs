//! The memory of a rewrite, measured: the only test of its program, so that no other one counts.

#![expect(clippy::unwrap_used, reason = "helper functions of a test; a panic shows the line")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray};
use peak_alloc::PeakAlloc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::cache::ChunkCache;
use storage::ids::{ColumnId, SegmentId};
use storage::io::{Io, RealIo};
use storage::rewrite::{RewriteOptions, RewriteTarget, RowOrder, rewrite_segments};
use storage::schema::{Column, ColumnType, EncodeName, TableSchema};
use storage::segment::{Segment, segment_file_name, write_segment};
use storage::sort::sort_rows;

/// Counts the bytes that are allocated now, and the most there ever were.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const MIB: u64 = 1 << 20;
const SEGMENTS: u64 = 16;
const SEGMENT_ROWS: usize = 15_000;
/// Bytes of a row in memory: two numbers, a view, and a text of 40 bytes.
const ROW_BYTES: u64 = 8 + 8 + 16 + 40;
const LIMIT: u64 = 8 * MIB;

fn schema() -> TableSchema {
    let column = |id: u32, name: &str, column_type| Column {
        id: ColumnId(id),
        name: name.into(),
        column_type,
        nullable: true,
        encode: EncodeName::Raw,
    };
    let columns = vec![
        column(1, "key", ColumnType::BigInt),
        column(2, "amount", ColumnType::Double),
        column(3, "note", ColumnType::Text),
    ];
    TableSchema { columns, sort_key: vec![0] }
}

fn random_rows(schema: &TableSchema, rng: &mut StdRng) -> RecordBatch {
    let mut text = || format!("{:032x}{:08x}", rng.random::<u128>(), rng.random::<u32>());
    let texts: StringViewArray = (0..SEGMENT_ROWS).map(|_| Some(text())).collect();
    let keys: Int64Array = (0..SEGMENT_ROWS).map(|_| rng.random::<i64>()).collect();
    let amounts: Float64Array = (0..SEGMENT_ROWS).map(|_| rng.random::<f64>()).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(amounts), Arc::new(texts)];
    RecordBatch::try_new(schema.arrow_schema(), columns).unwrap()
}

struct Target {
    directory: PathBuf,
    next: u64,
}

impl RewriteTarget for Target {
    fn next_file(&mut self) -> (SegmentId, PathBuf) {
        self.next += 1;
        let id = SegmentId(self.next);
        (id, self.directory.join(segment_file_name(id)))
    }

    fn advance(&mut self, _rows: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn sources(directory: &Path, sorted: bool) -> Vec<Segment> {
    let rng = &mut StdRng::seed_from_u64(1);
    let schema = Arc::new(schema());
    let io: Arc<dyn Io> = Arc::new(RealIo);
    let cache = Arc::new(ChunkCache::new(0));
    let write = |id| {
        let mut rows = vec![random_rows(&schema, rng)];
        if sorted {
            rows = sort_rows(&schema, rows).unwrap();
        }
        let path = directory.join(segment_file_name(id));
        write_segment(io.as_ref(), &path, id, &schema, &rows).unwrap();
        Segment::open(Arc::clone(&io), &path, id, Arc::clone(&schema), Arc::clone(&cache)).unwrap()
    };
    (1..=SEGMENTS).map(SegmentId).map(write).collect()
}

/// Rows that take far more than the limit are rewritten in little more than it.
#[test]
fn a_rewrite_needs_little_more_memory_than_its_limit() {
    let all = SEGMENTS * SEGMENT_ROWS as u64 * ROW_BYTES;
    assert!(all > 2 * LIMIT, "the rows are many");
    for sorted in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let sources = sources(directory.path(), sorted);
        let options = RewriteOptions {
            order: RowOrder::Sorted,
            memory_bytes: LIMIT as usize,
            segment_rows: storage::SEGMENT_ROWS_MAX,
        };
        let mut target = Target { directory: directory.path().to_owned(), next: 1000 };
        ALLOCATED.reset_peak_usage();
        let before = ALLOCATED.current_usage() as u64;
        let io: Arc<dyn Io> = Arc::new(RealIo);
        let written = rewrite_segments(&io, &sources, &options, &mut target).unwrap().unwrap();
        let grown = ALLOCATED.peak_usage() as u64 - before;
        let rows: u64 = written.iter().map(|segment| segment.row_count).sum();
        assert_eq!(rows, SEGMENTS * SEGMENT_ROWS as u64);
        assert!(grown < LIMIT * 3 / 2, "sorted {sorted}: {} KiB were used", grown / 1024);
    }
}
