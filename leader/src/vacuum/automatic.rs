//! VACUUM that nobody asks for: of tables with many deleted rows or many small segments, one after
//! the other, giving way to queries.

use std::sync::{Arc, Weak};
use std::time::Duration;

use compute::RewriteGoal;
use storage::ids::TableId;

use super::vacuum;
use crate::catalog::TableEntry;
use crate::engine::Engine;

/// How often tables are looked at.
const INTERVAL: Duration = Duration::from_secs(20);
/// Fewer deleted rows than this are left alone.
const DELETED_ROWS_MIN: u64 = 10_000;
/// Deleted rows are left alone while so many percent of the rows live.
const LIVE_PERCENT: u8 = 80;
/// So many segments of a slice are put together, if they are small.
const SMALL_SEGMENTS_MAX: usize = 32;
/// Rows of a segment that is not small.
const SMALL_SEGMENT_ROWS: u64 = storage::SEGMENT_ROWS_MAX as u64 / 2;
/// How long a rewrite gives way at a time, and how often before it goes on in any case.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSES_MAX: usize = 20;

/// Looks at all tables again and again, as long as the engine is there.
pub(crate) async fn run(engine: Weak<Engine>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(engine) = engine.upgrade() else { return };
        for (table, goal) in due(&engine) {
            let _turn = engine.vacuum_turn().await;
            match vacuum(&engine, table, goal, &pace(&engine)).await {
                Ok(done) if done.sources > 0 => {
                    let (sources, segments) = (done.sources, done.segments);
                    tracing::info!(table = table.0, sources, segments, "vacuumed a table");
                }
                Ok(_) => {}
                Err(error) => {
                    engine.transactions.fence_after(&error);
                    tracing::warn!(table = table.0, %error, "could not vacuum a table");
                }
            }
        }
    }
}

/// The tables that need it, and what they need.
fn due(engine: &Engine) -> Vec<(TableId, RewriteGoal)> {
    let snapshot = engine.transactions.snapshot();
    snapshot.tables().filter_map(|table| Some((table.id, goal(table)?))).collect()
}

fn goal(table: &TableEntry) -> Option<RewriteGoal> {
    let stored: u64 = table.slices.iter().flatten().map(|segment| segment.row_count).sum();
    let deleted: u64 = table.deletions.values().map(|vector| vector.deleted_rows).sum();
    let live = stored.saturating_sub(deleted);
    let has_deleted = deleted >= DELETED_ROWS_MIN
        && u128::from(live) * 100 < u128::from(stored) * u128::from(LIVE_PERCENT);
    let small = |segments: &Vec<_>| {
        let is_small =
            |s: &&Arc<storage::statistics::SegmentInfo>| s.row_count < SMALL_SEGMENT_ROWS;
        segments.iter().filter(is_small).count()
    };
    let joins_small = table.slices.iter().any(|slice| small(slice) > SMALL_SEGMENTS_MAX);
    (has_deleted || joins_small).then_some(RewriteGoal {
        // Any order is good enough; but with a sort key only neighbours are put together.
        sorted_percent: joins_small.then_some(0),
        live_percent: has_deleted.then_some(LIVE_PERCENT),
        joins_small,
    })
}

/// Gives way while queries run.
fn pace(engine: &Arc<Engine>) -> Arc<dyn Fn() -> bool + Send + Sync> {
    let engine = Arc::downgrade(engine);
    Arc::new(move || {
        for _ in 0..PAUSES_MAX {
            match engine.upgrade() {
                None => return false,
                Some(engine) if !engine.runs_queries() => return true,
                Some(_) => std::thread::sleep(PAUSE),
            }
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::create_table::empty_entry as empty_table;
    use storage::ids::{DeletionVectorId, SegmentId};

    fn table(segments: &[(u64, u64)]) -> TableEntry {
        let mut table = empty_table();
        table.slices = vec![Vec::new()];
        for ((rows, deleted), id) in segments.iter().zip(1..) {
            let id = SegmentId(id);
            let info = storage::statistics::SegmentInfo {
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
