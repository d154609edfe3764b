//! Deleted rows: found by their ids, written as vectors, left out by scans and statistics.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, StringViewArray};
use datafusion::physical_plan::execute_stream_partitioned;
use storage::ids::{DeletionVectorId, SegmentId, SliceId};
use storage::row_set::RowSet;
use storage::schema::{ColumnType, TableSchema};

use super::fixture::*;
use crate::row_ids::{Repeated, RowCollector, collect_row_ids, segment_rows};
use crate::{
    DeletionsOutcome, Distribution, NewDeletions, ROW_ID_COLUMN, RewriteGoal, RewriteRequest,
    StoredFile, TableVersion,
};

/// The rows that a condition finds, by segment.
async fn find(
    fixture: &Fixture,
    version: &TableVersion,
    condition: &str,
) -> Vec<(SegmentId, RowSet)> {
    let session = fixture.session();
    fixture.register(&session, &version.with_row_ids());
    let sql = format!("SELECT \"{ROW_ID_COLUMN}\" FROM t WHERE {condition}");
    let plan = plan_of(&session, &sql);
    let context = session.task_ctx();
    let pool = context.memory_pool();
    let collector = RowCollector::new(segment_rows(version), Repeated::Never, pool);
    let streams = execute_stream_partitioned(plan.await, Arc::clone(&context)).unwrap();
    collect_row_ids(streams, &collector).await.unwrap();
    collector.finish()
}

fn order(
    version: &TableVersion,
    segment: SegmentId,
    rows: RowSet,
    id: u64,
) -> (SliceId, NewDeletions) {
    let slices = version.slices.iter().enumerate();
    let mut found = slices.filter_map(|(slice, segments)| {
        let info = segments.iter().find(|info| info.id == segment)?;
        Some((SliceId(slice as u32), Arc::clone(info)))
    });
    let (slice, info) = found.next().unwrap();
    let base = version.deletions.get(&segment).map(|vector| **vector);
    let new = NewDeletions {
        slice,
        segment: info,
        base,
        apart_from: None,
        rows: Arc::new(rows),
        id: DeletionVectorId(id),
    };
    (slice, new)
}

/// The version without the rows that a condition finds.
async fn delete(
    fixture: &Fixture,
    version: &TableVersion,
    condition: &str,
    next_id: &mut u64,
) -> TableVersion {
    let mut after = version.clone();
    for (segment, rows) in find(fixture, version, condition).await {
        *next_id += 1;
        let (_, new) = order(version, segment, rows, *next_id);
        match fixture.node.write_deletions(version.table, &new).unwrap() {
            DeletionsOutcome::Written(info) => {
                Arc::make_mut(&mut after.deletions).insert(segment, Arc::new(info));
            }
            DeletionsOutcome::Conflict => panic!("the rows were live"),
        }
    }
    after
}

const QUERIES: [&str; 6] = [
    "SELECT * FROM t",
    "SELECT count(*), count(k), count(name), min(id), max(id), min(day), max(day) FROM t",
    "SELECT min(k), max(k), min(price), max(price), min(ts), max(ts) FROM t",
    "SELECT id FROM t WHERE k IS NULL OR day > DATE '1997-01-01'",
    "SELECT s, count(*) FROM t GROUP BY s",
    "SELECT count(*) FROM t WHERE name LIKE 'green%'",
];

/// The rows that no condition finds, in a table of DataFusion's own.
async fn check(fixture: &Fixture, version: &TableVersion, all: &RecordBatch, deleted: &[&str]) {
    let ours = fixture.session();
    fixture.register(&ours, version);
    let plain = plain_session(&[("every", all.clone())]);
    let conditions: Vec<String> =
        deleted.iter().map(|condition| format!("NOT coalesce({condition}, false)")).collect();
    let left = format!("(SELECT * FROM every WHERE {}) t", conditions.join(" AND "));
    for query in QUERIES {
        let expected = query.replace("FROM t", &format!("FROM {left}"));
        let (found, expected) =
            (sorted_rows(&ours, query).await, sorted_rows(&plain, &expected).await);
        assert!(found == expected, "{query} after {deleted:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_rows_are_seen_by_nobody() {
    let mut random = Random(91);
    let all = wide_rows(&mut random, 0, 150_000);
    for distribution in [Distribution::Even, Distribution::All, Distribution::Key(0)] {
        let fixture = Fixture::new(2);
        let empty = fixture.empty_table("t", &wide_schema(), distribution);
        let halves = [all.slice(0, 70_000), all.slice(70_000, 80_000)];
        let inputs = halves.iter().map(|half| cut(&mut random, half, 9000)).collect();
        let mut version = fixture.insert(&empty, inputs).await;
        let before = version.clone();
        let mut next_id = 1 << 30;
        let conditions = [
            "id % 7 = 3",
            "k < 0",
            "id BETWEEN 60000 AND 140000",
            "name IS NULL",
            "day < DATE '1993-01-01'",
        ];
        for count in 1..=conditions.len() {
            version = delete(&fixture, &version, conditions[count - 1], &mut next_id).await;
            check(&fixture, &version, &all, &conditions[..count]).await;
        }
        check(&fixture, &before, &all, &["id < 0"]).await;
    }
}

#[tokio::test]
async fn a_row_is_deleted_once_and_files_that_nobody_knows_go() {
    let mut random = Random(92);
    let fixture = Fixture::new(1);
    let empty = fixture.empty_table("t", &wide_schema(), Distribution::Even);
    let rows = wide_rows(&mut random, 0, 3000);
    let before = fixture.insert(&empty, vec![vec![rows]]).await;
    let mut next_id = 1 << 30;
    let once = delete(&fixture, &before, "id < 100", &mut next_id).await;
    let (segment, rows) = find(&fixture, &before, "id = 99").await.remove(0);
    for of in [&before, &once] {
        // Also where it is another transaction's vector that has the row.
        let (_, mut new) = order(of, segment, rows.clone(), 1 << 31);
        new.apart_from = once.deletions.get(&segment).map(|vector| **vector);
        let outcome = fixture.node.write_deletions(before.table, &new).unwrap();
        assert_eq!(outcome, DeletionsOutcome::Conflict);
    }
    assert_eq!(fixture.file_count(), 2);
    let twice = delete(&fixture, &once, "id < 200", &mut next_id).await;
    assert_eq!((once.row_count(), twice.row_count()), (2900, 2800));
    assert_eq!(fixture.file_count(), 3);
    // The catalog knows the segment and the second vector.
    let vector = twice.deletions[&segment].id;
    let known = HashSet::from([segment, StoredFile::DeletionVector(segment, vector).number()]);
    let known = HashMap::from([(before.table, known)]);
    assert_eq!(fixture.node.sweep_orphans(&known, SegmentId(u64::MAX)).unwrap(), 1);
    let files = [(SliceId(0), StoredFile::DeletionVector(segment, vector))];
    fixture.node.remove_stored(before.table, files).unwrap();
    fixture.node.remove_stored(before.table, files).unwrap();
    assert_eq!(fixture.file_count(), 1);
    // A write that the leader gives up leaves nothing, also if it was late.
    let (_, new) = order(&before, segment, rows, 1 << 32);
    fixture.node.abandon_segments(before.table, 1 << 32..(1 << 32) + 1).unwrap();
    assert!(fixture.node.write_deletions(before.table, &new).is_err());
    assert_eq!(fixture.file_count(), 1);
}

#[tokio::test]
async fn a_rewrite_has_the_live_rows_in_order() {
    let mut random = Random(93);
    let fixture = Fixture::new(1);
    let empty = fixture.empty_table("t", &wide_schema(), Distribution::Even);
    let all = wide_rows(&mut random, 0, 20_000);
    let mut version = empty;
    for part in 0..4 {
        version = fixture.insert(&version, vec![vec![all.slice(part * 5000, 5000)]]).await;
    }
    let mut next_id = 1 << 30;
    version = delete(&fixture, &version, "id % 3 = 0", &mut next_id).await;
    let goal = RewriteGoal { sorted_percent: Some(95), live_percent: Some(95), joins_small: true };
    let ids = std::cell::Cell::new(1 << 40);
    let request = |version: &TableVersion, may_go_on: bool| RewriteRequest {
        table: version.table,
        schema: Arc::clone(&version.schema),
        slice: SliceId(0),
        segments: version.slices[0]
            .iter()
            .map(|info| (Arc::clone(info), version.deletions.get(&info.id).map(Arc::clone)))
            .collect(),
        goal,
        ids: ids.replace(ids.get() + 1000)..ids.get(),
        gives_way: false,
        may_go_on: Arc::new(move || may_go_on),
    };
    let files = fixture.file_count();
    assert_eq!(fixture.node.rewrite_slice(&request(&version, false)).unwrap(), None);
    assert_eq!(fixture.file_count(), files, "what was stopped leaves nothing");
    let rewritten = fixture.node.rewrite_slice(&request(&version, true)).unwrap().unwrap();
    assert_eq!(rewritten.len(), 1);
    assert_eq!(rewritten[0].sources.len(), 4);
    let mut after = version.clone();
    after.slices[0] = rewritten[0].segments.iter().cloned().map(Arc::new).collect();
    after.deletions = crate::Deletions::default();
    check(&fixture, &after, &all, &["id % 3 = 0"]).await;
    let again = fixture.node.rewrite_slice(&request(&after, true)).unwrap().unwrap();
    assert!(again.is_empty(), "the goal is reached");
    // A column that is dropped leaves the disk.
    let mut schema = TableSchema::clone(&after.schema);
    let dropped = schema.columns.remove(4).id;
    schema.sort_key = vec![5];
    after.schema = Arc::new(schema);
    let rewritten = fixture.node.rewrite_slice(&request(&after, true)).unwrap().unwrap();
    let segments: Vec<_> = rewritten.iter().flat_map(|group| &group.segments).collect();
    assert_eq!(segments.len(), 1);
    assert!(segments[0].column(dropped).is_none());
    assert_eq!(segments[0].row_count, after.slices[0][0].row_count);
    after.slices[0] = segments.into_iter().cloned().map(Arc::new).collect();
    let again = fixture.node.rewrite_slice(&request(&after, true)).unwrap().unwrap();
    assert!(again.is_empty(), "nothing of it is left");
}

/// Rows of which few fit into a new segment make no large segments, however often they are written.
#[tokio::test]
async fn wide_rows_are_not_put_together_in_vain() {
    let rewritten = async |text_bytes: usize| {
        let fixture = Fixture::new(1);
        let schema = schema_of(&[("text", ColumnType::Text, false)], vec![]);
        let mut version = fixture.empty_table("t", &schema, Distribution::Even);
        for _ in 0..3 {
            let texts = (0..1500).map(|row| Some(format!("{row:0>text_bytes$}")));
            let texts = StringViewArray::from_iter(texts);
            let batch = RecordBatch::try_new(schema.arrow_schema(), vec![Arc::new(texts)]).unwrap();
            version = fixture.insert(&version, vec![vec![batch]]).await;
        }
        let request = RewriteRequest {
            table: version.table,
            schema: Arc::clone(&version.schema),
            slice: SliceId(0),
            segments: version.slices[0].iter().map(|info| (Arc::clone(info), None)).collect(),
            goal: RewriteGoal { sorted_percent: None, live_percent: None, joins_small: true },
            ids: 1 << 40..(1 << 40) + 1000,
            gives_way: false,
            may_go_on: Arc::new(|| true),
        };
        let groups = fixture.node.rewrite_slice(&request).unwrap().unwrap();
        groups.iter().map(|group| (group.sources.len(), group.segments.len())).collect::<Vec<_>>()
    };
    assert_eq!(rewritten(10).await, [(3, 1)]);
    assert_eq!(rewritten(10_000).await, []);
}
