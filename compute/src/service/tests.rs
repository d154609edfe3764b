//! A node and leaders that come, go, and are wrong.

use std::sync::Arc;

use datafusion_distributed::TaskKey;
use uuid::Uuid;

use datafusion::execution::memory_pool::MemoryLimit;
use storage::ids::{SegmentId, SliceId, TableId};
use storage::io::Io as _;
use storage::schema::ColumnType;
use tonic::codegen::http::HeaderMap;

use super::NodeService;
use super::messages::{Action, ControlRequest, Heartbeat, OpenNode, TableSegments};
use crate::exchange::Tasks;
use crate::tests::fixture::{Fixture, Random, schema_of, stream_of, wide_rows, wide_schema};
use crate::{Distribution, TableVersion, write_streams};

const CLUSTER: u64 = 0x1234;

fn start(fixture: &Fixture) -> NodeService {
    NodeService::new(Arc::clone(&fixture.node), Arc::default())
}

fn open(fixture: &Fixture, first_segment: u64, tables: &[&TableVersion]) -> OpenNode {
    let table = |version: &&TableVersion| TableSegments {
        table: version.table.0,
        segments: version.segments().map(|segment| segment.id.0).collect(),
    };
    OpenNode {
        node: 0,
        nodes: 1,
        slices_per_node: fixture.node.slices() as u64,
        placement_fingerprint: crate::placement::fingerprint(),
        tables: tables.iter().map(table).collect(),
        first_segment,
        cluster: CLUSTER,
        catalog_number: u64::MAX,
        query_bytes: 1 << 20,
    }
}

fn ask(service: &NodeService, epoch: u64, action: Action) -> Result<u64, String> {
    let reply = service.answer(ControlRequest { epoch, action: Some(action) });
    if reply.error.is_empty() { Ok(reply.removed) } else { Err(reply.error) }
}

async fn table_with_rows(fixture: &Fixture) -> TableVersion {
    let rows = wide_rows(&mut Random(7), 0, 1000);
    let empty = fixture.empty_table("t", &wide_schema(), Distribution::Key(0));
    fixture.insert(&empty, vec![vec![rows]]).await
}

#[tokio::test]
async fn a_leader_with_another_catalog_removes_nothing() {
    let fixture = Fixture::new(2);
    ask(&start(&fixture), 3, Action::Open(open(&fixture, 1, &[]))).unwrap();
    table_with_rows(&fixture).await;
    assert_eq!(fixture.file_count(), 2);
    // The node has started again; the leader was started on an empty data directory.
    let service = start(&fixture);
    let other = OpenNode { cluster: CLUSTER + 1, ..open(&fixture, u64::MAX, &[]) };
    let refused = ask(&service, 9, Action::Open(other)).unwrap_err();
    assert!(refused.contains("belongs to cluster 0000000000001234"), "{refused}");
    // Nor is one heard that was replaced before the node started again.
    let refused = ask(&service, 2, Action::Open(open(&fixture, u64::MAX, &[]))).unwrap_err();
    assert!(refused.contains("epoch 3 has taken over"), "{refused}");
    assert!(service.check_epoch(Some(2)).is_err() && service.check_epoch(Some(9)).is_err());
    assert_eq!(fixture.file_count(), 2);
}

#[tokio::test]
async fn a_node_with_files_and_no_cluster_is_not_taken() {
    let fixture = Fixture::new(2);
    table_with_rows(&fixture).await;
    let refused = ask(&start(&fixture), 1, Action::Open(open(&fixture, u64::MAX, &[])));
    assert!(refused.unwrap_err().contains("use an empty data directory"));
    assert_eq!(fixture.file_count(), 2);
}

#[tokio::test]
async fn opening_again_removes_nothing_and_a_new_leader_what_is_old_and_unknown() {
    let fixture = Fixture::new(2);
    let service = start(&fixture);
    ask(&service, 1, Action::Open(open(&fixture, 1, &[]))).unwrap();
    let known = table_with_rows(&fixture).await;
    table_with_rows(&fixture).await;
    let path = |id| fixture.node.segment_path(TableId(77), SliceId(0), SegmentId(id));
    for id in [5, 5000] {
        let writing = storage::io::temporary_path(&path(id));
        drop(fixture.io.create(&writing).unwrap());
    }
    assert_eq!(fixture.file_count(), 6);
    // A heartbeat got lost.
    assert_eq!(ask(&service, 1, Action::Open(open(&fixture, 1000, &[]))), Ok(0));
    assert_eq!(fixture.file_count(), 6);
    // The other table and the file that was being written under the old leader.
    assert_eq!(ask(&service, 2, Action::Open(open(&fixture, 1000, &[&known]))), Ok(3));
    assert_eq!(fixture.file_count(), 3);
    let late = ask(&service, 1, Action::Open(open(&fixture, u64::MAX, &[])));
    assert_eq!(late.unwrap_err(), "a leader with epoch 2 has taken over");
    let late = ask(&service, 1, Action::Heartbeat(Heartbeat {}));
    assert_eq!(late.unwrap_err(), "a leader with epoch 2 has taken over");
    assert_eq!(fixture.file_count(), 3);
}

#[tokio::test]
async fn a_new_leader_ends_the_tasks_and_writes_of_the_old_one() {
    let fixture = Fixture::new(1);
    let tasks = Arc::<Tasks>::default();
    let service = NodeService::new(Arc::clone(&fixture.node), Arc::clone(&tasks));
    ask(&service, 1, Action::Open(open(&fixture, 1, &[]))).unwrap();
    let mut headers = HeaderMap::new();
    let key = TaskKey { query_id: Uuid::nil(), stage_id: 0, task_number: 0 };
    let _task = tasks.open(key, &mut headers, Arc::default());
    let end = Arc::clone(&tasks.find(&headers).unwrap().end);
    ask(&service, 1, Action::Open(open(&fixture, 1, &[]))).unwrap();
    assert!(!end.is_set(), "the same leader has opened the node again");
    ask(&service, 2, Action::Open(open(&fixture, 1000, &[]))).unwrap();
    assert!(end.is_set());
    // A write that has read all its rows ends too: its ids are of the leader before.
    let schema = schema_of(&[("a", ColumnType::BigInt, true)], vec![]);
    let version = fixture.empty_table("t", &schema, Distribution::Even);
    let column = Arc::new(arrow::array::Int64Array::from(vec![1]));
    let rows = arrow::array::RecordBatch::try_new(schema.arrow_schema(), vec![column]).unwrap();
    let inputs = vec![stream_of(&schema.arrow_schema(), vec![rows])];
    let context = fixture.session().task_ctx();
    let written = write_streams(&fixture.node, fixture.target(&version), inputs, context).await;
    assert!(written.unwrap_err().to_string().contains("given up the write"));
    assert_eq!(fixture.file_count(), 0);
}

#[tokio::test]
async fn a_leader_that_counts_on_more_memory_is_refused() {
    let fixture = Fixture::new(2);
    let own = match fixture.node.runtime_env().memory_pool.memory_limit() {
        MemoryLimit::Finite(bytes) => bytes as u64,
        MemoryLimit::Infinite | MemoryLimit::Unknown => panic!("a node without a limit"),
    };
    let service = start(&fixture);
    let counting_on = |query_bytes| OpenNode { query_bytes, ..open(&fixture, 1, &[]) };
    let refused = ask(&service, 1, Action::Open(counting_on(2 * own))).unwrap_err();
    assert!(refused.contains(&format!("it has {own} bytes of memory for queries")), "{refused}");
    // Two machines of one kind do not have the same to the byte.
    ask(&service, 1, Action::Open(counting_on(own + own / 20))).unwrap();
}
