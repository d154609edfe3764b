//! What deleted rows cost a scan, and what it costs to delete them: a million rows of two columns,
//! cached, of which some are deleted.
#![expect(clippy::unwrap_used, reason = "a bench stops at the first thing that goes wrong")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use criterion::{Criterion, Throughput};
use storage::SEGMENT_ROWS_MAX;
use storage::cache::ChunkCache;
use storage::deletion_vector::DeletionVector;
use storage::ids::{ColumnId, DeletionVectorId, SegmentId};
use storage::io::{Io, MemoryIo};
use storage::predicate::{Comparison, Condition, Constant, Predicate};
use storage::row_set::RowSet;
use storage::schema::{Column, ColumnType, EncodeName, TableSchema};
use storage::segment::{Segment, write_segment};

const ROWS: u32 = SEGMENT_ROWS_MAX as u32;

fn segment() -> Segment {
    let column = |id: u32| Column {
        id: ColumnId(id),
        name: format!("c{id}"),
        column_type: ColumnType::BigInt,
        nullable: false,
        encode: EncodeName::Auto,
    };
    let schema = TableSchema { columns: vec![column(0), column(1)], sort_key: vec![] };
    let scattered = |row: u32| i64::from(row.wrapping_mul(2_654_435_761) % 10_000);
    let columns: Vec<ArrayRef> = vec![
        Arc::new((0..ROWS).map(|row| Some(scattered(row))).collect::<Int64Array>()),
        Arc::new((0..ROWS).map(|row| Some(scattered(!row))).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(schema.arrow_schema(), columns).unwrap();
    let io: Arc<dyn Io> = Arc::new(MemoryIo::new());
    let path = Path::new("/bench.seg");
    write_segment(io.as_ref(), path, SegmentId(1), &schema, &[batch]).unwrap();
    let cache = Arc::new(ChunkCache::new(1 << 30));
    Segment::open(io, path, SegmentId(1), Arc::new(schema), cache).unwrap()
}

fn set(rows: impl Iterator<Item = u32>) -> RowSet {
    let mut set = RowSet::new(ROWS.into());
    set.insert(&rows.collect::<Vec<_>>());
    set
}

fn scan(segment: &Segment, predicates: &[Predicate]) -> usize {
    let mut rows = 0;
    for row_group in 0..segment.row_group_count() {
        let Some(mut scan) = segment.scan_row_group(row_group, predicates).unwrap() else {
            continue;
        };
        while let Some(window) = scan.next_window().unwrap() {
            rows += black_box(window.decode(1).unwrap()).len();
        }
    }
    rows
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let segment = segment();
    let sets = [
        ("none", None),
        ("one in 1,000", Some(set((0..ROWS).step_by(1000)))),
        ("one in 3", Some(set((0..ROWS).step_by(3)))),
        ("the first half", Some(set(0..ROWS / 2))),
    ];
    let half = Condition::Compare(Comparison::Less, Constant::Int(5000));
    let predicates = [vec![], vec![Predicate { column: 0, condition: half }]];
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(ROWS.into()));
    for (name, set) in &sets {
        let segment = match set {
            Some(set) => {
                let vector = DeletionVector::new(DeletionVectorId(1), segment.info(), set.clone());
                segment.with_deletions(Arc::new(vector))
            }
            None => segment.clone(),
        };
        for predicates in &predicates {
            let name = format!("{name} deleted, {} predicates", predicates.len());
            group.bench_function(name, |bencher| bencher.iter(|| scan(&segment, predicates)));
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("delete");
    let rows: Vec<u32> = (0..ROWS).step_by(7).collect();
    group.throughput(Throughput::Elements(rows.len() as u64));
    group.bench_function("insert one row in 7", |bencher| {
        bencher.iter(|| {
            let mut set = RowSet::new(ROWS.into());
            rows.chunks(8192 / 7).for_each(|part| set.insert(part));
            set
        });
    });
    let (left, right) = (set((0..ROWS).step_by(7)), set((0..ROWS).step_by(11)));
    group.bench_function("union", |bencher| bencher.iter(|| left.union(&right)));
    group.finish();
    criterion.final_summary();
}
