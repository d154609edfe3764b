//! Nodes in this process, behind real ports: faults that SQL alone cannot plant.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use compute::error::SYNC_FAILED;
use compute::exchange::{Identity, NodeChannels, NodeServer, ServerParts};
use compute::integrity::IntegrityConfig;
use compute::layout::Layout;
use compute::memory::{MemoryLimits, runtime_env};
use compute::object_storage::{ObjectStorage, ObjectStoreConfig};
use compute::plan::slice_write::written_segments;
use compute::profile::Profile;
use compute::query_threads::QueryThreads;
use compute::service::{CopyItem, NodeClient};
use compute::{Distribution, FileInfo, Home, Node, NodeConfig, SliceTable, TableVersion};
use datafusion::common::DataFusionError;
use datafusion::common::runtime::JoinSet;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;
use storage::ids::{ColumnId, SegmentId, SliceId, TableId};
use storage::io::{CallKind, Fault, FaultEffect, FaultyIo, Io, RealIo};
use storage::schema::{Column, ColumnType, EncodeName, TableSchema};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use url::Url;

use super::node_set::{NodeSet, NodeSetParts};
use super::{Wanted, certificates};
use crate::planner::{Planner, WriteEnd};

const ROWS: i64 = 20_000;

struct TestCluster {
    layout: Layout,
    nodes: Arc<NodeSet>,
    planner: Planner,
    urls: Vec<Url>,
    _servers: JoinSet<()>,
    directory: tempfile::TempDir,
}

/// Panics on one row.
fn explode() -> ScalarUDF {
    create_udf(
        "explode_at",
        vec![DataType::Int64],
        DataType::Boolean,
        Volatility::Immutable,
        Arc::new(|arguments| {
            let ids = ColumnarValue::values_to_arrays(arguments)?.remove(0);
            let ids = ids.as_primitive::<Int64Type>();
            assert!(!ids.values().contains(&12_345), "planted");
            Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(vec![true; ids.len()]))))
        }),
    )
}

fn identity(directory: &std::path::Path, name: &str) -> Identity {
    let files = certificates::make(directory, name).unwrap();
    Identity::read(&files.authority, &files.certificate, &files.key).unwrap()
}

impl TestCluster {
    async fn start(count: usize) -> Self {
        let disk = || Arc::new(RealIo) as Arc<dyn Io>;
        Self::start_on(std::iter::repeat_with(disk).take(count).collect()).await
    }

    /// One node for each disk.
    async fn start_on(disks: Vec<Arc<dyn Io>>) -> Self {
        let count = disks.len();
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(count, 2).unwrap();
        let mut servers = JoinSet::new();
        let mut urls = Vec::new();
        for (number, io) in disks.into_iter().enumerate() {
            let node = Node::open(NodeConfig {
                data_dir: directory.path().join(format!("node{number}")),
                io,
                layout,
                node: number,
                memory_bytes: 256 << 20,
                cache_bytes: 16 << 20,
                spill_dir: directory.path().join(format!("spill{number}")),
                spill_bytes_max: 1 << 30,
                profile: Profile::default(),
                integrity: IntegrityConfig::default(),
            });
            let identity = identity(directory.path(), &format!("node-{number}"));
            let objects = ObjectStorage::new(ObjectStoreConfig::default(), []).unwrap();
            let server = NodeServer::new(ServerParts {
                node: node.unwrap(),
                objects: Arc::new(objects),
                channels: NodeChannels::new(identity.clone(), Handle::current()),
                threads: Arc::new(QueryThreads::start(2).unwrap()),
                functions: vec![Arc::new(explode())],
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            urls.push(Url::parse(&format!("https://{address}")).unwrap());
            servers.spawn(async move {
                server.serve(listener, &identity, std::future::pending()).await.unwrap();
            });
        }
        let limits = MemoryLimits {
            memory_bytes: 256 << 20,
            spill_dir: directory.path().join("spill"),
            spill_bytes_max: 1 << 30,
        };
        let parts = NodeSetParts {
            layout,
            copies: 2,
            urls: urls.clone(),
            channels: NodeChannels::new(identity(directory.path(), "leader"), Handle::current()),
            epoch: 7,
            runtime: runtime_env(&limits).unwrap(),
            first_segment: SegmentId(1),
            cluster: 1,
            catalog_number: 0,
            query_bytes: 256 << 20,
        };
        let nodes = NodeSet::new(parts, Arc::new(Wanted::default));
        let catch_up: super::CatchUp = Arc::new(|| {});
        nodes.watch(&catch_up, &Handle::current());
        let longest = Duration::from_secs(30);
        nodes.wait_until_ready(longest, longest).await.unwrap();
        let planner = Planner::for_nodes(nodes.nodes().clone(), nodes.runtime_env()).unwrap();
        Self { layout, nodes, planner, urls, _servers: servers, directory }
    }

    /// A table `t (id, k)` with `ROWS` rows, by the way that INSERT takes.
    async fn table(&self) -> TableVersion {
        self.table_by(Distribution::Key(0)).await
    }

    /// The same table, placed in some way.
    async fn table_by(&self, distribution: Distribution) -> TableVersion {
        self.write_table(distribution).await.unwrap()
    }

    async fn write_table(
        &self,
        distribution: Distribution,
    ) -> Result<TableVersion, DataFusionError> {
        let column = |id: u32, name: &str| Column {
            id: ColumnId(id),
            name: name.to_owned(),
            column_type: ColumnType::BigInt,
            nullable: true,
            encode: EncodeName::Auto,
        };
        let schema =
            TableSchema { columns: vec![column(0, "id"), column(1, "k")], sort_key: vec![] };
        let mut version = TableVersion {
            table: TableId(1),
            name: "t".to_owned(),
            arrow_schema: schema.arrow_schema(),
            schema: Arc::new(schema),
            distribution,
            placement_fingerprint: compute::placement::fingerprint(),
            slices: vec![Vec::new(); self.layout.slices()],
            deletions: Default::default(),
        };
        let fields = ["id", "k"].map(|name| Field::new(name, DataType::Int64, true)).to_vec();
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            vec![
                Arc::new(Int64Array::from_iter(0..ROWS)),
                Arc::new(Int64Array::from_iter((0..ROWS).map(|id| id % 100))),
            ],
        )
        .unwrap();
        let context = SessionContext::new();
        let source = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
        context.register_table("source", Arc::new(source)).unwrap();
        let source = context.sql("SELECT * FROM source").await.unwrap();
        let source = self.planner.source(source.logical_plan()).unwrap();
        let end = WriteEnd {
            version: Arc::new(version.clone()),
            first_segment: 1,
            turn: 0,
            replaces: None,
        };
        let plan = self.planner.write(source, &end).unwrap();
        let batches = collect(plan, self.planner.state().task_ctx()).await?;
        for written in written_segments(&batches).unwrap() {
            let (slice, info) = (written.slice, Arc::new(written.info));
            version.slices[slice.0 as usize].push(Arc::clone(&info));
            if distribution == Distribution::All {
                let file = FileInfo::Segment(info);
                self.copy_everywhere(written.node, CopyItem { table: TableId(1), slice, file })
                    .await;
            }
        }
        let rows: u64 = version.slices.iter().flatten().map(|segment| segment.row_count).sum();
        assert_eq!(rows, ROWS as u64);
        Ok(version)
    }

    async fn copy_everywhere(&self, from: usize, item: CopyItem) {
        for to in (0..self.layout.nodes()).filter(|to| *to != from) {
            let own = identity(self.directory.path(), "leader");
            let channels = NodeChannels::new(own, Handle::current());
            let node = NodeClient::new(channels, self.urls[to].clone(), 7);
            node.copy_files(&self.urls[from], std::slice::from_ref(&item)).await.unwrap();
        }
    }

    fn context(&self, version: &TableVersion) -> SessionContext {
        let context = SessionContext::new();
        context.register_udf(explode());
        let table = SliceTable::new(Arc::new(version.clone()), Home::Cluster(self.layout));
        context.register_table("t", table).unwrap();
        context
    }

    /// The plan that writes the rows of a query into `version`, with segments from `first_segment` on.
    async fn write(
        &self,
        version: &TableVersion,
        sql: &str,
        first_segment: u64,
    ) -> Arc<dyn ExecutionPlan> {
        let source = self.context(version).sql(sql).await.unwrap();
        let source = self.planner.source(source.logical_plan()).unwrap();
        let end =
            WriteEnd { version: Arc::new(version.clone()), first_segment, turn: 0, replaces: None };
        self.planner.write(source, &end).unwrap()
    }

    async fn plan_of_write(&self, version: &TableVersion, sql: &str) -> String {
        displayable(self.write(version, sql, 1).await.as_ref()).indent(false).to_string()
    }

    async fn run(&self, version: &TableVersion, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let context = self.context(version);
        let plan = context.sql(sql).await.unwrap();
        let plan = self.planner.physical(plan.logical_plan()).unwrap();
        collect(plan, self.planner.state().task_ctx()).await.map_err(|error| error.to_string())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_under_any_boundary_is_an_error() {
    let cluster = TestCluster::start(2).await;
    let version = cluster.table().await;
    let count = cluster.run(&version, "SELECT count(*), min(id) FROM t").await.unwrap();
    assert_eq!(count[0].column(0).as_primitive::<Int64Type>().value(0), ROWS);
    for sql in [
        // gather
        "SELECT id FROM t WHERE explode_at(id)",
        // partial aggregate
        "SELECT count(*) FROM t WHERE explode_at(id)",
        // sort and merge
        "SELECT id FROM t WHERE explode_at(id) ORDER BY k",
        // The order makes the limit's own filter look at every row too.
        "SELECT id FROM t ORDER BY explode_at(id), k LIMIT 3",
        // shuffle
        "SELECT k, count(*) FROM t WHERE explode_at(id) GROUP BY k",
        "SELECT a.id FROM t a JOIN t b ON a.id = b.k WHERE explode_at(b.id)",
        // broadcast
        "SELECT a.id FROM t a JOIN t b ON a.k < b.id AND b.id > 12340 AND b.id < 12350 \
         WHERE explode_at(b.id)",
        // side by side
        "SELECT a.id FROM t a JOIN t b ON a.id = b.id WHERE explode_at(a.id)",
        "SELECT id FROM t WHERE explode_at(id) UNION ALL SELECT id FROM t",
    ] {
        let rows = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum();
        let result: Result<usize, String> = cluster.run(&version, sql).await.map(rows);
        let error = result.unwrap_err();
        assert!(error.contains("planted"), "{sql}: {error}");
    }
    // a write: below it, and in what is moved for it
    for (number, sql) in (1..).zip([
        "SELECT id, k FROM t WHERE explode_at(id)",
        "SELECT k, count(*) FROM t WHERE explode_at(id) GROUP BY k",
        "SELECT k, id FROM t WHERE explode_at(id)",
    ]) {
        let plan = cluster.write(&version, sql, number << 40).await;
        let error = collect(plan, cluster.planner.state().task_ctx()).await.unwrap_err();
        assert!(error.to_string().contains("planted"), "{sql}: {error}");
    }
    // The nodes go on.
    let count = cluster.run(&version, "SELECT count(*) FROM t").await.unwrap();
    assert_eq!(count[0].column(0).as_primitive::<Int64Type>().value(0), ROWS);
    assert_eq!(cluster.nodes.are_open(), [true, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_not_listened_to() {
    let cluster = TestCluster::start(2).await;
    let address = cluster.urls[0].socket_addrs(|| None).unwrap()[0];
    // HTTP/2 without TLS: the port answers with nothing of HTTP.
    let said = std::thread::spawn(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut said = Vec::new();
        let _closed = socket.read_to_end(&mut said);
        said
    });
    let said = said.join().unwrap();
    let tls_alert = said.first() == Some(&0x15);
    assert!(said.is_empty() || tls_alert, "{said:?}");
    // A certificate of another authority.
    let other = tempfile::tempdir().unwrap();
    let strange = identity(other.path(), "leader");
    let channels = NodeChannels::new(strange, Handle::current());
    let stranger = NodeClient::new(channels, cluster.urls[0].clone(), 7);
    assert!(stranger.heartbeat().await.is_err());
    // The right certificate, but of a leader that was replaced.
    let own = identity(cluster.directory.path(), "leader");
    let channels = NodeChannels::new(own, Handle::current());
    let known = NodeClient::new(Arc::clone(&channels), cluster.urls[0].clone(), 7);
    known.heartbeat().await.unwrap();
    let old = NodeClient::new(channels, cluster.urls[0].clone(), 6);
    let refused = old.heartbeat().await.unwrap_err().to_string();
    assert!(refused.contains("has taken over"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_over_a_sort_looks_at_all_rows() {
    for distribution in [Distribution::All, Distribution::Key(0)] {
        let cluster = TestCluster::start(2).await;
        let version = cluster.table_by(distribution).await;
        for (order, expected) in [("ASC", 0), ("DESC", ROWS - 10)] {
            let sql = format!("SELECT id, random() FROM t ORDER BY id {order} LIMIT 10");
            let rows = cluster.run(&version, &sql).await.unwrap();
            let mut ids: Vec<i64> = Vec::new();
            for batch in &rows {
                ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
            }
            ids.sort_unstable();
            let expected: Vec<i64> = (expected..expected + 10).collect();
            assert_eq!(ids, expected, "{distribution:?}: {sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_table_are_made_of_one_result() {
    let cluster = TestCluster::start(2).await;
    let version = cluster.table_by(Distribution::All).await;
    // What each node computes alike is computed where it is written.
    for value in ["sum(id)", "count(*)", "max(id)", "count(DISTINCT id)"] {
        let sql = format!("SELECT k, {value} AS v FROM t GROUP BY k");
        let plan = cluster.plan_of_write(&version, &sql).await;
        assert!(!plan.contains("NetworkBroadcastExec"), "{value}:\n{plan}");
        assert!(plan.contains("OnTaskExec"), "{value}:\n{plan}");
    }
    // What depends on the order of the rows is computed once and sent there.
    for value in [
        "CAST(sum(CAST(id AS DOUBLE) / 3) AS BIGINT)",
        "first_value(id)",
        "CAST(stddev(id) AS BIGINT)",
    ] {
        let sql = format!("SELECT k, {value} AS v FROM t GROUP BY k");
        let plan = cluster.plan_of_write(&version, &sql).await;
        assert!(plan.contains("NetworkBroadcastExec"), "{value}:\n{plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_the_whole_file_or_none() {
    let cluster = TestCluster::start(2).await;
    let version = cluster.table().await;
    let item = |slice: usize| CopyItem {
        table: TableId(1),
        slice: SliceId(slice as u32),
        file: FileInfo::Segment(Arc::clone(&version.slices[slice][0])),
    };
    let path = |node: usize, item: &CopyItem| {
        let (slice, id) = (item.slice.0, item.file.number().0);
        let name = format!("node{node}/slice_{slice}/00000001-{id:016x}.seg");
        cluster.directory.path().join(name)
    };
    let client = |epoch| {
        let own = identity(cluster.directory.path(), "leader");
        NodeClient::new(NodeChannels::new(own, Handle::current()), cluster.urls[1].clone(), epoch)
    };
    let (node, source) = (client(7), &cluster.urls[0]);
    let first = item(0);
    // Twice at once, and once more when it is there.
    let items = [first.clone(), first.clone()];
    node.copy_files(source, &items).await.unwrap();
    node.copy_files(source, &items).await.unwrap();
    let bytes = std::fs::read(path(0, &first)).unwrap();
    assert_eq!(std::fs::read(path(1, &first)).unwrap(), bytes);
    let (files, _) = node.inventory().await.unwrap();
    assert!(
        files.iter().any(|file| (file.number, file.slice) == (first.file.number(), first.slice))
    );
    // Only a leader of the node's epoch can have anything copied.
    let error = client(6).copy_files(source, &items).await.unwrap_err();
    assert_eq!(compute::error::sqlstate(&error), Some("57P03"));
    // A damaged source, a source that has another file of that name, a source that has none.
    let second = item(1);
    let mut damaged = std::fs::read(path(0, &second)).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    std::fs::write(path(0, &second), &damaged).unwrap();
    let error = node.copy_files(source, std::slice::from_ref(&second)).await.unwrap_err();
    assert_eq!(compute::error::sqlstate(&error), Some("XX001"), "{error}");
    std::fs::write(path(0, &second), &bytes).unwrap();
    let error = node.copy_files(source, std::slice::from_ref(&second)).await.unwrap_err();
    let code = compute::error::sqlstate(&error);
    assert!(code == Some("XX001") || code == Some("08006"), "{error}");
    std::fs::remove_file(path(0, &second)).unwrap();
    let error = node.copy_files(source, std::slice::from_ref(&second)).await.unwrap_err();
    assert_eq!(compute::error::sqlstate(&error), Some("58030"), "{error}");
    let left = std::fs::read_dir(path(1, &second).parent().unwrap()).unwrap().count();
    assert_eq!(left, 0, "nothing is left of copies that failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_does_not_sync_is_closed_and_the_others_are_not() {
    // Its first file is what it belongs to, the next one a segment.
    let fault = Fault {
        kind: Some(CallKind::Sync),
        call: 1,
        lasting: false,
        effect: FaultEffect::All,
        os_error: 5,
    };
    let faulty = FaultyIo::new(Arc::new(RealIo), fault);
    let cluster = TestCluster::start_on(vec![Arc::new(RealIo), Arc::new(faulty.clone())]).await;
    let error = cluster.write_table(Distribution::Key(0)).await.unwrap_err();
    assert_eq!(faulty.failures(), 1);
    assert_eq!(compute::error::sqlstate(&error), Some(SYNC_FAILED), "{error}");
    cluster.nodes.recheck().await;
    assert_eq!(cluster.nodes.are_open(), [true, false]);
    let own = identity(cluster.directory.path(), "leader");
    let channels = NodeChannels::new(own, Handle::current());
    let node = NodeClient::new(channels, cluster.urls[1].clone(), 7);
    let refused = node.heartbeat().await.unwrap_err().to_string();
    assert!(refused.contains("could not be made durable"), "{refused}");
}
