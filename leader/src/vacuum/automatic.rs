//! VACUUM that nobody asks for: of tables with many deleted rows, many small segments, or many rows out
//! of the order of the sort key, one after the other, giving way to queries.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use compute::{RewriteGoal, dropped_bytes, is_more_than_the_rest};
use storage::ids::{SegmentId, TableId};
use storage::statistics::SegmentInfo;

use super::vacuum;
use crate::catalog::{SegmentList, TableEntry};
use crate::engine::Engine;

/// Fewer deleted rows than this are left alone.
const DELETED_ROWS_MIN: u64 = 10_000;
/// Deleted rows are left alone while so many percent of the rows live.
const LIVE_PERCENT: u8 = 80;
/// Fewer rows out of order than this are left alone.
const UNSORTED_ROWS_MIN: u64 = 10_000;
/// Rows of a slice are left as they lie while so many percent of them are in order. A row is then
/// written about five times while its table grows to be very large.
const SORTED_PERCENT: u8 = 80;
/// A table that is changed whenever it is rewritten is left alone for so many looks at most: an hour.
const LOOKS_MAX: u32 = 180;
/// So many segments of a slice are put together, if they are small.
const SMALL_SEGMENTS_MAX: usize = 32;
/// Rows of a segment that is not small.
const SMALL_SEGMENT_ROWS: u64 = storage::SEGMENT_ROWS_MAX as u64 / 2;

/// Looks at all tables again and again, as long as the engine is there.
pub(crate) async fn run(engine: Weak<Engine>) {
    let mut done = Done::default();
    let interval = |engine: &Engine| engine.config.file.maintenance.interval_seconds;
    let Some(seconds) = engine.upgrade().map(|engine| interval(&engine)) else { return };
    loop {
        tokio::time::sleep(Duration::from_secs(seconds.max(1))).await;
        let Some(engine) = engine.upgrade() else { return };
        // What readers had is removed though nobody commits after them.
        engine.transactions.sweep_garbage();
        for (table, goal) in due(&engine, &mut done) {
            let _turn = engine.vacuum_turn().await;
            match vacuum(&engine, table, goal, true).await {
                Ok(vacuumed) if vacuumed.left > 0 => done.put_off(table),
                Ok(vacuumed) if vacuumed.sources > 0 => {
                    done.put_off.remove(&table);
                    let (sources, segments) = (vacuumed.sources, vacuumed.segments);
                    tracing::info!(table = table.0, sources, segments, "vacuumed a table");
                }
                Ok(_) => done.note(&engine, table),
                Err(error) => {
                    done.put_off(table);
                    engine.transactions.fence_after(&error);
                    tracing::warn!(table = table.0, %error, "could not vacuum a table");
                }
            }
        }
    }
}

/// What became of tables.
#[derive(Debug, Default)]
struct Done {
    /// Those of which nothing was left to rewrite, with their newest segments: what is estimated from
    /// the catalog may find more to do than there is.
    idle: HashMap<TableId, Option<SegmentId>>,
    /// Those that were rewritten in vain, because others changed them meanwhile.
    put_off: HashMap<TableId, PutOff>,
}

/// A table is left alone for so many looks; each time for twice as many.
#[derive(Debug, Clone, Copy, Default)]
struct PutOff {
    looks: u32,
    left: u32,
}

impl Done {
    fn note(&mut self, engine: &Engine, table: TableId) {
        if let Some(entry) = engine.transactions.snapshot().table_by_id(table) {
            self.idle.insert(table, newest(entry));
        }
    }

    fn put_off(&mut self, table: TableId) {
        let known = self.put_off.entry(table).or_default();
        known.looks = (known.looks * 2).clamp(1, LOOKS_MAX);
        known.left = known.looks;
    }

    /// Whether it is not the table's turn yet.
    fn is_put_off(&mut self, table: TableId) -> bool {
        match self.put_off.get_mut(&table) {
            Some(known) if known.left > 0 => {
                known.left -= 1;
                true
            }
            _ => false,
        }
    }
}

fn newest(table: &TableEntry) -> Option<SegmentId> {
    table.slices.iter().flatten().map(|segment| segment.id).max()
}

/// The tables that need it, and what they need.
fn due(engine: &Engine, done: &mut Done) -> Vec<(TableId, RewriteGoal)> {
    let snapshot = engine.transactions.snapshot();
    done.idle.retain(|table, newest_then| {
        snapshot.table_by_id(*table).is_some_and(|table| newest(table) == *newest_then)
    });
    done.put_off.retain(|table, _| snapshot.table_by_id(*table).is_some());
    let due = snapshot.tables().filter_map(|table| {
        let mut goal = goal(table)?;
        if done.is_put_off(table.id) {
            return None;
        }
        if done.idle.contains_key(&table.id) {
            // Rows may have been deleted since, but none came.
            goal.live_percent?;
            goal = RewriteGoal { sorted_percent: None, joins_small: false, ..goal };
        }
        Some((table.id, goal))
    });
    due.collect()
}

fn goal(table: &TableEntry) -> Option<RewriteGoal> {
    let stored: u64 = table.slices.iter().flatten().map(|segment| segment.row_count).sum();
    let deleted: u64 = table.deletions.values().map(|vector| vector.deleted_rows).sum();
    let live = stored.saturating_sub(deleted);
    let has_deleted = deleted >= DELETED_ROWS_MIN
        && u128::from(live) * 100 < u128::from(stored) * u128::from(LIVE_PERCENT);
    let has_waste = has_deleted || has_dropped_columns(table);
    let small = |segments: &SegmentList| {
        let is_small = |s: &&Arc<SegmentInfo>| s.row_count < SMALL_SEGMENT_ROWS;
        segments.iter().filter(is_small).count()
    };
    let joins_small = table.slices.iter().any(|slice| small(slice) > SMALL_SEGMENTS_MAX);
    let sorted_percent = match is_out_of_order(table) {
        true => Some(SORTED_PERCENT),
        // Any order is good enough; but with a sort key only neighbours are put together.
        false => joins_small.then_some(0),
    };
    (has_waste || joins_small || sorted_percent.is_some()).then_some(RewriteGoal {
        sorted_percent,
        live_percent: has_waste.then_some(LIVE_PERCENT),
        joins_small,
    })
}

/// Whether segments have many bytes of columns that are gone: dropped ones, and what ALTER TABLE needed.
fn has_dropped_columns(table: &TableEntry) -> bool {
    let is_there = |id| table.columns.iter().any(|column| column.id == id);
    table.slices.iter().flatten().any(|segment| {
        segment.row_count >= DELETED_ROWS_MIN
            && is_more_than_the_rest(
                dropped_bytes(segment, is_there),
                segment.byte_count,
                LIVE_PERCENT,
            )
    })
}

/// Whether a slice has many rows out of the order of the sort key, as far as the catalog knows.
fn is_out_of_order(table: &TableEntry) -> bool {
    table
        .sorted_rows()
        .into_iter()
        .flatten()
        .any(|rows| rows.all - rows.sorted >= UNSORTED_ROWS_MIN && !rows.reach(SORTED_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::TableColumn;
    use crate::statement::create_table::empty_entry as empty_table;
    use sql::types::SqlType;
    use storage::distinct_sketch::DistinctSketch;
    use storage::ids::{ColumnId, DeletionVectorId};
    use storage::predicate::Constant;
    use storage::schema::EncodeName;
    use storage::statistics::ColumnStatistics;

    fn numbers(min: i64, max: i64) -> ColumnStatistics {
        ColumnStatistics {
            id: ColumnId(1),
            min: Some(Constant::Int(min)),
            max: Some(Constant::Int(max)),
            null_count: 0,
            has_nan: false,
            has_trailing_blank: false,
            distinct: DistinctSketch::new(),
            uncompressed_bytes: 0,
            encoded_bytes: 0,
        }
    }

    fn key() -> TableColumn {
        TableColumn {
            id: ColumnId(1),
            name: "key".to_owned(),
            sql_type: SqlType::BigInt,
            nullable: true,
            default: None,
            identity: None,
            encode: EncodeName::Auto,
        }
    }

    fn table(segments: &[(u64, u64)]) -> TableEntry {
        let mut table = empty_table();
        table.slices = vec![SegmentList::new()];
        for ((rows, deleted), id) in segments.iter().zip(1..) {
            let id = SegmentId(id);
            let info = SegmentInfo {
                id,
                fingerprint: 0,
                row_count: *rows,
                byte_count: 0,
                columns: Vec::new(),
            };
            table.slices[0].push(Arc::new(info));
            if *deleted > 0 {
                let vector = storage::deletion_vector::DeletionVectorInfo {
                    id: DeletionVectorId(id.0 + 1000),
                    segment: id,
                    fingerprint: 0,
                    deleted_rows: *deleted,
                    byte_count: 0,
                };
                Arc::make_mut(&mut table.deletions).insert(id, Arc::new(vector));
            }
        }
        table
    }

    #[test]
    fn rows_out_of_order_are_sorted() {
        let mut table = table(&[]);
        table.columns.push(key());
        table.sort_key = vec![0];
        let mut add = |rows: u64, min: i64, max: i64| {
            let id = SegmentId(table.slices[0].len() as u64 + 1);
            let columns = vec![numbers(min, max)];
            let info = SegmentInfo { id, fingerprint: 0, row_count: rows, byte_count: 0, columns };
            table.slices[0].push(Arc::new(info));
            goal(&table)
        };
        assert_eq!(add(1_000_000, 0, 100), None);
        assert_eq!(add(1_000_000, 100, 200), None);
        assert_eq!(add(400_000, 50, 150), None, "five sixths are in order");
        let sorts = add(200_000, 0, 200).unwrap();
        assert_eq!((sorts.sorted_percent, sorts.live_percent), (Some(SORTED_PERCENT), None));
        table.sort_key.clear();
        assert_eq!(goal(&table), None);
    }

    #[test]
    fn columns_that_are_gone_are_cleared_away() {
        let mut table = table(&[]);
        table.columns.push(key());
        let gone = ColumnStatistics { id: ColumnId(2), encoded_bytes: 30, ..numbers(1, 2) };
        let kept = ColumnStatistics { encoded_bytes: 70, ..numbers(1, 2) };
        let columns = vec![kept, gone];
        let info = SegmentInfo {
            id: SegmentId(1),
            fingerprint: 0,
            row_count: 20_000,
            byte_count: 100,
            columns,
        };
        table.slices[0].push(Arc::new(info));
        assert_eq!(goal(&table).unwrap().live_percent, Some(LIVE_PERCENT));
        table.columns.push(TableColumn { id: ColumnId(2), ..key() });
        assert_eq!(goal(&table), None);
    }

    #[test]
    fn only_tables_that_gain_from_it_are_rewritten() {
        assert_eq!(goal(&table(&[])), None);
        assert_eq!(goal(&table(&[(1_000_000, 100_000), (1_000_000, 0)])), None);
        assert_eq!(goal(&table(&[(1000, 999)])), None);
        let deleted = goal(&table(&[(1_000_000, 500_000), (1_000_000, 0)])).unwrap();
        assert_eq!((deleted.live_percent, deleted.joins_small), (Some(80), false));
        assert_eq!(goal(&table(&[(10, 0); 32])), None);
        let small = goal(&table(&[(10, 0); 33])).unwrap();
        assert_eq!((small.live_percent, small.sorted_percent), (None, Some(0)));
        assert_eq!(goal(&table(&[(900_000, 0); 33])), None);
    }
}
