//! Segment files: round trips, and what happens to a file whose bytes are not what was written.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use proptest::prelude::{ProptestConfig, proptest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::cache::ChunkCache;
use crate::error::Error;
use crate::io::{
    CallKind, DiskIo, DiskTraits, Fault, FaultEffect, FaultyIo, MemoryIo, PowerCut, RealIo,
    temporary_path, write_file_whole,
};
use crate::predicate::{Comparison, Condition, Constant, Predicate};
use crate::sample_rows::{Cell, TYPES, Table, array};
use crate::sample_segment::{ID, check_scan, open, path, random_predicates, scan, write};
use crate::schema::ColumnType;
use crate::statistics::SegmentInfo;
use crate::verify::{Depth, verify_segment};
use crate::{ROW_GROUP_ROWS, SEGMENT_ROWS_MAX};

fn check_table(table: &Table, rng: &mut StdRng) {
    let io = Arc::new(MemoryIo::new());
    let rows = table.row_count();
    let sizes = [rng.random_range(0..=rows), rng.random_range(0..=rows)];
    let info = write(io.as_ref(), &path(), table, &sizes).unwrap();
    let problems = verify_segment(Arc::clone(&io) as _, &path(), &info, Depth::Values);
    assert_eq!(problems, []);
    let segment = open(io, &path(), table).unwrap();
    assert_eq!(segment.info(), &info);
    assert_eq!(SegmentInfo::from_bytes(&info.to_bytes()).unwrap(), info);
    segment.check_identity(&info).unwrap();
    check_scan(&segment, table, &[]);
    for _ in 0..6 {
        check_scan(&segment, table, &random_predicates(table, rng));
    }
    for (statistics, cells) in info.columns.iter().zip(&table.columns) {
        let nulls = cells.iter().filter(|cell| cell.is_none()).count();
        assert_eq!(statistics.null_count, nulls as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn random_tables_come_back(seed: u64, columns in 1_usize..6, rows in 0_usize..3000) {
        let rng = &mut StdRng::seed_from_u64(seed);
        check_table(&Table::random(rng, columns, rows), rng);
    }
}

#[test]
fn tables_of_all_types_and_odd_sizes_come_back() {
    for rows in [0, 1, 1023, 1024, 1025, 8192, 8193, 20_000] {
        let rng = &mut StdRng::seed_from_u64(rows as u64);
        check_table(&Table::random(rng, 16, rows), rng);
    }
}

#[test]
fn several_row_groups_come_back() {
    let rng = &mut StdRng::seed_from_u64(5);
    check_table(&Table::random(rng, 3, 2 * ROW_GROUP_ROWS + 77), rng);
}

#[test]
fn a_real_file_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(segment_file_name(ID));
    let rng = &mut StdRng::seed_from_u64(6);
    let table = Table::random(rng, 8, 70_000);
    let info = write(&RealIo, &path, &table, &[1, 65_536]).unwrap();
    assert_eq!(RealIo.len(&path).unwrap(), Some(info.byte_count));
    let segment = open(Arc::new(RealIo), &path, &table).unwrap();
    check_scan(&segment, &table, &[]);
    check_scan(&segment, &table, &random_predicates(&table, rng));
    let listing = list_segments(&RealIo, directory.path()).unwrap();
    assert_eq!(listing, SegmentListing { segments: vec![(ID, path)], ..SegmentListing::default() });
}

fn numbers(rows: usize) -> Table {
    let cells = (0..rows).map(|row| Some(Constant::Int(row as i64))).collect();
    Table::new(&[ColumnType::BigInt], vec![cells])
}

fn at_least(value: i64) -> Vec<Predicate> {
    let constant = Constant::Int(value);
    let condition = Condition::Compare(Comparison::GreaterOrEqual, constant);
    vec![Predicate { column: 0, condition }]
}

#[test]
fn pruned_row_groups_are_not_read() {
    let memory = Arc::new(MemoryIo::new());
    let table = numbers(2 * ROW_GROUP_ROWS);
    write(memory.as_ref(), &path(), &table, &[]).unwrap();
    let segment = open(memory, &path(), &table).unwrap();
    assert!(segment.scan_row_group(0, &at_least(ROW_GROUP_ROWS as i64)).unwrap().is_none());
    assert_eq!(segment.zone(1, 0).min, Some(Constant::Int(ROW_GROUP_ROWS as i64)));
    check_scan(&segment, &table, &at_least(ROW_GROUP_ROWS as i64 - 1));
}

/// A disk of which every read but the first so many fails: to count them.
fn reads(allowed: u64, inner: &Arc<MemoryIo>, traits: DiskTraits) -> Arc<dyn Io> {
    let fault = Fault {
        kind: Some(CallKind::ReadAt),
        call: allowed,
        lasting: true,
        effect: FaultEffect::Nothing,
        os_error: 5,
    };
    let counted = FaultyIo::new(Arc::clone(inner) as Arc<dyn Io>, fault);
    Arc::new(DiskIo::new(Arc::new(counted), traits))
}

#[test]
fn a_sequential_disk_is_read_in_runs() {
    let memory = Arc::new(MemoryIo::new());
    let rng = &mut StdRng::seed_from_u64(12);
    let table = Table::random(rng, 2, 5 * ROW_GROUP_ROWS);
    let disk = DiskIo::new(Arc::clone(&memory) as Arc<dyn Io>, DiskTraits::SEQUENTIAL);
    write(&disk, &path(), &table, &[]).unwrap();
    let scan_with = |allowed, traits, cache_bytes| {
        let io = reads(allowed, &memory, traits);
        let cache = Arc::new(ChunkCache::new(cache_bytes));
        let segment = Segment::open(io, &path(), ID, Arc::new(table.schema.clone()), cache)?;
        scan(&segment, &[])
    };
    let (large, none) = (1 << 30, 0);
    // Trailer, header and footer; then for each column the shared part, if it has one, and a run.
    let (rows, runs) = scan_with(3 + 2 * 2, DiskTraits::SEQUENTIAL, large).unwrap();
    assert_eq!(rows.len(), table.row_count());
    assert!(scan_with(3 + 2 * 2, DiskTraits::FAST, large).is_err(), "each chunk is a read");
    // Without a cache nothing is read that would be read again.
    let (_, chunks) = scan_with(3 + 2 * 2 * 5, DiskTraits::SEQUENTIAL, none).unwrap();
    assert_eq!(runs, chunks);
    check_scan(&open(memory, &path(), &table).unwrap(), &table, &[]);
}

#[test]
fn a_damaged_block_of_a_run_is_found_before_anything_is_decoded() {
    let memory = Arc::new(MemoryIo::new());
    let table = numbers(3 * ROW_GROUP_ROWS);
    write(memory.as_ref(), &path(), &table, &[]).unwrap();
    let blocks = open(Arc::clone(&memory) as _, &path(), &table).unwrap().chunk_blocks();
    let mut bytes = vec![0; memory.len(&path()).unwrap().unwrap() as usize];
    memory.read_at(&path(), 0, &mut bytes).unwrap();
    for (offset, length) in blocks {
        let damaged = Arc::new(MemoryIo::new());
        let mut bytes = bytes.clone();
        bytes[offset + length / 2] ^= 1;
        write_file_whole(damaged.as_ref(), &path(), [bytes.as_slice()]).unwrap();
        let disk = Arc::new(DiskIo::new(damaged, DiskTraits::SEQUENTIAL));
        let cache = Arc::new(ChunkCache::new(1 << 30));
        let schema = Arc::new(table.schema.clone());
        let segment = Segment::open(disk, &path(), ID, schema, cache).unwrap();
        assert!(matches!(scan(&segment, &[]), Err(Error::Corrupt { .. })), "at {offset}");
    }
}

#[test]
fn refined_windows_keep_what_they_are_told() {
    let memory = Arc::new(MemoryIo::new());
    let table = numbers(5000);
    write(memory.as_ref(), &path(), &table, &[]).unwrap();
    let segment = open(memory, &path(), &table).unwrap();
    let mut scan = segment.scan_row_group(0, &at_least(900)).unwrap().unwrap();
    let window = scan.next_window().unwrap().unwrap();
    assert_eq!(window.selected(), 4100);
    let keep = |row: u32| match row % 3 {
        0 => Some(true),
        1 => Some(false),
        _ => None,
    };
    let answers: BooleanArray = window.row_numbers().into_iter().map(keep).collect();
    window.refine(&answers);
    let thirds: Vec<u32> = (900..5000).filter(|row| row % 3 == 0).collect();
    assert_eq!(window.row_numbers(), thirds);
    assert_eq!(window.selected(), thirds.len());
    let cells: Vec<Cell> = thirds.iter().map(|row| Some(Constant::Int(i64::from(*row)))).collect();
    assert_eq!(&window.decode(0).unwrap(), &array(ColumnType::BigInt, &cells));
    assert!(scan.next_window().unwrap().is_none());
}

#[test]
fn columns_are_found_by_id_after_others_were_dropped_or_added() {
    let memory = Arc::new(MemoryIo::new());
    let rng = &mut StdRng::seed_from_u64(8);
    let mut table = Table::random(rng, 3, 2000);
    write(memory.as_ref(), &path(), &table, &[]).unwrap();
    table.schema.columns.remove(1);
    table.columns.remove(1);
    let mut added = table.schema.columns[0].clone();
    added.id = crate::ids::ColumnId(999);
    added.column_type = ColumnType::Text;
    table.schema.columns.push(added.clone());
    table.columns.push(vec![None; 2000]);
    let segment = open(Arc::clone(&memory) as _, &path(), &table).unwrap();
    check_scan(&segment, &table, &[]);
    check_scan(&segment, &table, &[Predicate { column: 2, condition: Condition::IsNull }]);
    check_scan(&segment, &table, &[Predicate { column: 2, condition: Condition::IsNotNull }]);
    table.schema.columns[2].nullable = false;
    assert!(matches!(
        open(Arc::clone(&memory) as _, &path(), &table),
        Err(Error::SchemaMismatch(_))
    ));
    table.schema.columns[2] = added;
    table.schema.columns[0].column_type = match table.schema.columns[0].column_type {
        ColumnType::Text => ColumnType::BigInt,
        _ => ColumnType::Text,
    };
    assert!(matches!(open(memory, &path(), &table), Err(Error::SchemaMismatch(_))));
}

#[test]
fn a_writer_refuses_rows_that_are_not_the_tables() {
    let io = MemoryIo::new();
    let table = numbers(10);
    let refused = |table: &Table, batches: &[RecordBatch]| {
        let result = write_segment(&io, &path(), ID, &table.schema, batches);
        assert!(matches!(result, Err(Error::SchemaMismatch(_))), "{result:?}");
    };
    let text = Table::new(&[ColumnType::Text], vec![vec![None]]);
    refused(&table, &text.batches(&[]));
    refused(&Table::new(&[], vec![]), &table.batches(&[]));
    let mut strict = Table::new(&[ColumnType::BigInt], vec![vec![None]]);
    let with_null = strict.batches(&[]);
    strict.schema.columns[0].nullable = false;
    refused(&strict, &with_null);
    let batch = numbers(SEGMENT_ROWS_MAX / 4 + 1).batches(&[]);
    refused(&table, &[batch.clone(), batch.clone(), batch.clone(), batch].concat());
    assert!(io.list(Path::new("/data")).unwrap().is_empty());
}

#[test]
fn a_file_is_never_replaced() {
    let io = MemoryIo::new();
    write(&io, &path(), &numbers(10), &[]).unwrap();
    let before = io.contents(&path()).unwrap();
    assert!(write(&io, &path(), &numbers(20), &[]).is_err());
    assert_eq!(io.contents(&path()).unwrap(), before);
}

/// A small file with every kind of part: text of many and of few values, NULLs, several types.
fn small_table() -> Table {
    let text = |row: i64| Some(Constant::Text(format!("text {}", row % 3)));
    let number = |row: i64| (row % 4 != 0).then(|| Constant::Int(row * row - 50));
    let float = |row: i64| Some(Constant::Float(row as f64 / 8.0));
    let types = [ColumnType::Text, ColumnType::Integer, ColumnType::Double];
    Table::new(
        &types,
        vec![
            (0..12).map(text).collect(),
            (0..12).map(number).collect(),
            (0..12).map(float).collect(),
        ],
    )
}

fn small_file() -> (Table, Vec<u8>, SegmentInfo) {
    let io = MemoryIo::new();
    let table = small_table();
    let info = write(&io, &path(), &table, &[]).unwrap();
    (table, io.contents(&path()).unwrap(), info)
}

fn io_with(bytes: &[u8]) -> Arc<MemoryIo> {
    let io = MemoryIo::new();
    write_file_whole(&io, &path(), [bytes]).unwrap();
    Arc::new(io)
}

/// Opens and reads everything.
fn read_all(io: Arc<MemoryIo>, table: &Table) -> Result<()> {
    let segment = open(io, &path(), table)?;
    scan(&segment, &[]).map(|_| ())
}

fn check_corrupt(bytes: &[u8], table: &Table, what: &str) {
    let result = read_all(io_with(bytes), table);
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{what}: {result:?}");
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (table, bytes, _) = small_file();
    read_all(io_with(&bytes), &table).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        check_corrupt(&damaged, &table, &format!("bit {bit}"));
    }
}

#[test]
fn every_truncation_is_noticed() {
    let (table, bytes, _) = small_file();
    for length in 0..bytes.len() {
        check_corrupt(&bytes[..length], &table, &format!("length {length}"));
    }
    for extra in [1, 63, 64, 128] {
        let longer = [&bytes[..], &vec![0; extra]].concat();
        check_corrupt(&longer, &table, &format!("{extra} bytes more"));
    }
}

#[test]
fn a_file_that_shrinks_after_opening_is_noticed() {
    let (table, bytes, _) = small_file();
    let io = io_with(&bytes);
    let segment = open(Arc::clone(&io) as Arc<dyn Io>, &path(), &table).unwrap();
    io.damage(&path(), |bytes| bytes.truncate(100)).unwrap();
    assert!(matches!(scan(&segment, &[]), Err(Error::Corrupt { .. })));
}

/// Equal chunks of equal length, so that only their places tell them apart.
#[test]
fn swapped_blocks_are_noticed() {
    let io = MemoryIo::new();
    let cells: Vec<Cell> = (0..64).map(|row| Some(Constant::Int(row))).collect();
    let other = cells.iter().rev().cloned().collect();
    let table = Table::new(&[ColumnType::BigInt; 2], vec![cells, other]);
    write(&io, &path(), &table, &[]).unwrap();
    let bytes = io.contents(&path()).unwrap();
    let segment = open(Arc::new(io), &path(), &table).unwrap();
    let blocks = segment.chunk_blocks();
    assert_eq!(blocks[0].1, blocks[1].1, "the test wants blocks of one length");
    let mut swapped = bytes;
    for byte in 0..blocks[0].1 {
        swapped.swap(blocks[0].0 + byte, blocks[1].0 + byte);
    }
    check_corrupt(&swapped, &table, "swapped");
}

#[test]
fn another_segments_file_is_noticed() {
    let io = MemoryIo::new();
    let table = small_table();
    write_segment(&io, &path(), SegmentId(77), &table.schema, &table.batches(&[])).unwrap();
    let result = open(Arc::new(io), &path(), &table);
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
}

/// The same id, written once more with other rows, as after a restore from an old copy.
#[test]
fn a_stale_file_is_noticed() {
    let (mut table, bytes, info) = small_file();
    let segment = open(io_with(&bytes), &path(), &table).unwrap();
    segment.check_identity(&info).unwrap();
    table.columns[1][3] = Some(Constant::Int(7));
    let io = Arc::new(MemoryIo::new());
    write(io.as_ref(), &path(), &table, &[]).unwrap();
    let older = open(Arc::clone(&io) as Arc<dyn Io>, &path(), &table).unwrap();
    let result = older.check_identity(&info);
    assert!(matches!(result, Err(Error::Corrupt { .. })));
    // One block of the older file in the newer one is noticed too.
    let (offset, length) = segment.chunk_blocks()[1];
    let mut mixed = bytes;
    let older_bytes = io.contents(&path()).unwrap();
    mixed[offset..offset + length].copy_from_slice(&older_bytes[offset..offset + length]);
    check_corrupt(&mixed, &table, "stale block");
}

#[test]
fn a_chunk_is_read_once_while_it_is_cached() {
    let io = Arc::new(MemoryIo::new());
    let table = small_table();
    write(io.as_ref(), &path(), &table, &[]).unwrap();
    let cache = Arc::new(ChunkCache::new(1 << 20));
    let schema = Arc::new(table.schema.clone());
    let segment =
        Segment::open(Arc::clone(&io) as _, &path(), ID, schema, Arc::clone(&cache)).unwrap();
    scan(&segment, &[]).unwrap();
    let misses = cache.usage().misses;
    // What is cached was verified: a file that goes bad later is a matter for the scrubber.
    io.damage(&path(), |bytes| bytes.fill(0)).unwrap();
    check_scan(&segment, &table, &[]);
    assert_eq!(cache.usage().misses, misses);
    cache.forget(ID);
    assert_eq!(cache.usage().bytes, 0);
    assert!(scan(&segment, &[]).is_err());
}

fn fault(kind: Option<CallKind>, call: u64, lasting: bool, effect: FaultEffect) -> Fault {
    Fault { kind, call, lasting, effect, os_error: 28 }
}

const EFFECTS: [FaultEffect; 3] = [FaultEffect::Nothing, FaultEffect::Half, FaultEffect::All];

/// Fails the 1st, 2nd, ... call of writing a segment, once and for ever, until one passes
/// untouched. A success must survive a power cut; after a failure nothing half-written may bear the
/// final name.
#[test]
fn no_failing_call_makes_a_false_success() {
    let table = small_table();
    for (lasting, os_error) in
        [(false, libc::EIO), (true, libc::EIO), (false, libc::ENOSPC), (true, libc::ENOSPC)]
    {
        for effect in EFFECTS {
            let mut call = 0;
            loop {
                let memory = Arc::new(MemoryIo::new());
                let fault = Fault { os_error, ..fault(None, call, lasting, effect) };
                let faulty = FaultyIo::new(Arc::clone(&memory) as _, fault);
                let result = write(&faulty, &path(), &table, &[]);
                let untouched = faulty.failures() == 0;
                assert_eq!(result.is_ok(), untouched, "call {call}");
                check_after_crash(&memory, &table, PowerCut::Kept, result.as_ref().ok());
                memory.power_cut(PowerCut::Lost);
                check_after_crash(&memory, &table, PowerCut::Lost, result.as_ref().ok());
                if untouched {
                    assert!(call > 10, "the scenario has more calls than {call}");
                    break;
                }
                call += 1;
            }
        }
    }
}

/// Whatever bears the final name must open whole; an acknowledged segment must bear it.
fn check_after_crash(io: &MemoryIo, table: &Table, cut: PowerCut, info: Option<&SegmentInfo>) {
    let listing = list_segments(io, Path::new("/data")).unwrap();
    if let Some(info) = info {
        assert_eq!(listing.segments, [(ID, path())], "{cut:?}: an acknowledged segment is lost");
        let segment = open(Arc::new(io.clone()), &path(), table).unwrap();
        segment.check_identity(info).unwrap();
    }
    for (_, found) in &listing.segments {
        let segment = open(Arc::new(io.clone()), found, table).unwrap();
        check_scan(&segment, table, &[]);
        let io = Arc::new(io.clone());
        assert_eq!(verify_segment(io, found, segment.info(), Depth::Values), []);
    }
}

/// Cuts the power at every call of writing a segment, before, in the middle of and after it.
#[test]
fn a_power_cut_at_any_call_leaves_no_half_segment() {
    let table = small_table();
    for effect in EFFECTS {
        for call in 0.. {
            let mut untouched = false;
            for seed in 0..40 {
                let memory = Arc::new(MemoryIo::new());
                // The power is gone: nothing works from this call on.
                let fault = fault(None, call, true, effect);
                let faulty = FaultyIo::new(Arc::clone(&memory) as _, fault);
                let result = write(&faulty, &path(), &table, &[]);
                let cut = match seed {
                    0 => PowerCut::Lost,
                    1 => PowerCut::Kept,
                    seed => PowerCut::Torn(seed),
                };
                memory.power_cut(cut);
                check_after_crash(&memory, &table, cut, result.as_ref().ok());
                untouched = faulty.failures() == 0;
            }
            if untouched {
                break;
            }
        }
    }
}

/// The writer's rule, seen to matter: without syncing the file first, a power cut does leave a
/// half-written file under the final name, and the reader refuses it.
#[test]
fn an_unsynced_rename_would_leave_a_half_segment() {
    let (table, bytes, _) = small_file();
    let mut broken = 0;
    for seed in 0..50 {
        let io = MemoryIo::new();
        let temporary = temporary_path(&path());
        io.create(&temporary).unwrap().append(&bytes).unwrap();
        io.rename(&temporary, &path()).unwrap();
        io.sync_directory(Path::new("/data")).unwrap();
        io.power_cut(PowerCut::Torn(seed));
        match read_all(Arc::new(io), &table) {
            Ok(()) => {}
            Err(Error::Corrupt { .. }) => broken += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(broken > 25);
}

#[test]
fn a_failed_write_leaves_its_temporary_file_to_the_sweep() {
    let memory = Arc::new(MemoryIo::new());
    let faulty =
        FaultyIo::new(Arc::clone(&memory) as _, fault(Some(CallKind::Sync), 0, true, EFFECTS[0]));
    assert!(write(&faulty, &path(), &numbers(10), &[]).is_err());
    assert!(memory.list(Path::new("/data")).unwrap().is_empty(), "removed at once");
    let faulty = FaultyIo::new(Arc::clone(&memory) as _, fault(None, 3, true, EFFECTS[0]));
    assert!(write(&faulty, &path(), &numbers(10), &[]).is_err());
    memory.create(Path::new("/data/notes.txt")).unwrap();
    let listing = list_segments(memory.as_ref(), Path::new("/data")).unwrap();
    let temporary = vec![temporary_path(&path())];
    assert_eq!(listing, SegmentListing { temporary, ..SegmentListing::default() });
}

#[test]
fn a_failed_read_is_an_error_and_not_fewer_rows() {
    let (table, bytes, _) = small_file();
    for call in 0.. {
        let faulty = Arc::new(FaultyIo::new(
            io_with(&bytes),
            Fault { os_error: 5, ..fault(None, call, false, FaultEffect::Nothing) },
        ));
        let opened = open(Arc::clone(&faulty) as _, &path(), &table);
        let result = opened.and_then(|segment| scan(&segment, &[]));
        if faulty.failures() == 0 {
            assert!(result.is_ok() && call > 3);
            break;
        }
        assert!(matches!(result, Err(Error::Io { .. })));
    }
}

#[test]
fn every_type_is_one_of_the_samples() {
    let kinds: std::collections::HashSet<_> = TYPES.iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 13);
}
