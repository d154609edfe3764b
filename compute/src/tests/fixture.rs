//! A node whose files are in memory, tables of random rows on it, and sessions that ask the same
//! question of a stored table and of an in-memory one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int16Array, Int32Array,
    Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::prelude::{SessionConfig, SessionContext};
use storage::ids::{ColumnId, SegmentId, TableId};
use storage::io::{Io, MemoryIo};
use storage::schema::{Column, ColumnType, EncodeName, TableSchema};

use crate::integrity::IntegrityConfig;
use crate::layout::Layout;
use crate::plan::physical_optimizer_rules;
use crate::profile::Profile;
use crate::{
    Distribution, Home, Node, NodeConfig, SliceTable, TableVersion, WriteTarget, write_streams,
};

/// Deterministic random numbers (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn maybe<T>(&mut self, value: T) -> Option<T> {
        (self.below(12) > 0).then_some(value)
    }
}

/// A node and the files it has.
pub(crate) struct Fixture {
    pub(crate) node: Arc<Node>,
    pub(crate) io: Arc<MemoryIo>,
    next_id: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new(slices: usize) -> Self {
        Self::with_integrity(slices, IntegrityConfig::default(), |io| io)
    }

    /// On a disk that `disk` makes of the files in memory.
    pub(crate) fn with_integrity(
        slices: usize,
        integrity: IntegrityConfig,
        disk: impl FnOnce(Arc<dyn Io>) -> Arc<dyn Io>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let io = Arc::new(MemoryIo::new());
        let node = Node::open(NodeConfig {
            data_dir: directory.path().to_owned(),
            io: disk(Arc::clone(&io) as Arc<dyn Io>),
            layout: Layout::new(1, slices).unwrap(),
            node: 0,
            memory_bytes: 1 << 30,
            cache_bytes: 64 << 20,
            spill_dir: directory.path().join("spill"),
            spill_bytes_max: 1 << 30,
            profile: Profile::default(),
            integrity,
        });
        let next_id = Arc::new(AtomicU64::new(1));
        Self { node: node.unwrap(), io, next_id, _directory: directory }
    }

    /// An empty version of a table.
    pub(crate) fn empty_table(
        &self,
        name: &str,
        schema: &Arc<TableSchema>,
        distribution: Distribution,
    ) -> TableVersion {
        TableVersion {
            table: TableId(self.next_id.fetch_add(1, Ordering::Relaxed) as u32),
            name: name.to_owned(),
            schema: Arc::clone(schema),
            arrow_schema: schema.arrow_schema(),
            distribution,
            placement_fingerprint: crate::placement::fingerprint(),
            slices: vec![vec![]; self.node.slices()],
            deletions: Default::default(),
        }
    }

    pub(crate) fn target(&self, version: &TableVersion) -> WriteTarget {
        let next_id = Arc::clone(&self.next_id);
        WriteTarget {
            version: Arc::new(version.clone()),
            slices: self.node.own_slices(),
            new_segment_id: Arc::new(move || SegmentId(next_id.fetch_add(1, Ordering::Relaxed))),
        }
    }

    /// The version with these rows added by one write; each vector is an input partition.
    pub(crate) async fn insert(
        &self,
        version: &TableVersion,
        partitions: Vec<Vec<RecordBatch>>,
    ) -> TableVersion {
        let context = self.session().task_ctx();
        let rows: usize = partitions.iter().flatten().map(RecordBatch::num_rows).sum();
        let schema = &version.arrow_schema;
        let inputs = partitions.into_iter().map(|batches| stream_of(schema, batches)).collect();
        let target = self.target(version);
        let outcome = write_streams(&self.node, target, inputs, context).await.unwrap();
        assert_eq!(outcome.row_count, rows as u64);
        let mut version = version.clone();
        for (slice, segment) in outcome.segments {
            version.slices[slice.0 as usize].push(Arc::new(segment));
        }
        version
    }

    /// A session of this node: one partition per slice, our rules.
    pub(crate) fn session(&self) -> SessionContext {
        let config = SessionConfig::new().with_target_partitions(self.node.slices());
        self.session_with(config)
    }

    pub(crate) fn session_with(&self, config: SessionConfig) -> SessionContext {
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(self.node.runtime_env())
            .with_physical_optimizer_rules(physical_optimizer_rules())
            .build();
        SessionContext::new_with_state(state)
    }

    pub(crate) fn register(&self, session: &SessionContext, version: &TableVersion) {
        let table = SliceTable::new(Arc::new(version.clone()), Home::Node(Arc::clone(&self.node)));
        session.register_table(version.name.as_str(), table).unwrap();
    }

    /// The number of files of all slices.
    pub(crate) fn file_count(&self) -> usize {
        let directories = (0..self.node.slices())
            .map(|slice| self._directory.path().join(format!("slice_{slice}")));
        directories.map(|directory| self.io.list(&directory).unwrap().len()).sum()
    }
}

/// Columns of every kind; `id` counts the rows.
pub(crate) fn wide_schema() -> Arc<TableSchema> {
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let columns = [
        ("id", ColumnType::BigInt, false),
        ("k", ColumnType::Integer, true),
        ("s", ColumnType::SmallInt, true),
        ("price", decimal(12, 2), true),
        ("big", decimal(38, 4), true),
        ("name", ColumnType::Text, true),
        ("day", ColumnType::Date, false),
        ("flag", ColumnType::Boolean, true),
        ("f", ColumnType::Double, true),
        ("ts", ColumnType::Timestamp, true),
    ];
    schema_of(&columns, vec![6])
}

pub(crate) fn schema_of(
    columns: &[(&str, ColumnType, bool)],
    sort_key: Vec<usize>,
) -> Arc<TableSchema> {
    let column =
        |(position, (name, column_type, nullable)): (usize, &(&str, ColumnType, bool))| Column {
            id: ColumnId(position as u32),
            name: (*name).to_owned(),
            column_type: *column_type,
            nullable: *nullable,
            encode: EncodeName::Auto,
        };
    Arc::new(TableSchema { columns: columns.iter().enumerate().map(column).collect(), sort_key })
}

/// Random rows of [`wide_schema`], `first_id` and on.
pub(crate) fn wide_rows(random: &mut Random, first_id: i64, rows: usize) -> RecordBatch {
    let r = random;
    let words = ["green apple", "red", "", "a rather long text beyond twelve bytes", "blue_100%"];
    let mut column = |index: usize| -> ArrayRef {
        let all = 0..rows;
        match index {
            0 => Arc::new(Int64Array::from_iter_values(first_id..first_id + rows as i64)),
            1 => Arc::new(Int32Array::from_iter(all.map(|_| {
                let value = r.below(500) as i32 - 50;
                r.maybe(value)
            }))),
            2 => Arc::new(Int16Array::from_iter(all.map(|_| {
                let value = r.below(7) as i16;
                r.maybe(value)
            }))),
            3 => Arc::new(decimals(
                all.map(|_| {
                    let value = i128::from(r.below(1_000_000)) - 500_000;
                    r.maybe(value)
                }),
                12,
                2,
            )),
            4 => Arc::new(decimals(
                all.map(|_| {
                    let value = i128::from(r.next()) * 1_000_000_007;
                    r.maybe(value)
                }),
                38,
                4,
            )),
            5 => Arc::new(StringViewArray::from_iter(all.map(|_| {
                let value = format!("{} {}", r.pick(&words), r.below(40));
                r.maybe(value)
            }))),
            6 => Arc::new(Date32Array::from_iter_values(all.map(|_| 8000 + r.below(2500) as i32))),
            7 => Arc::new(BooleanArray::from_iter(all.map(|_| {
                let value = r.below(3) == 0;
                r.maybe(value)
            }))),
            8 => Arc::new(Float64Array::from_iter(all.map(|_| {
                let value = r.below(2000) as f64 / 8.0 - 100.0;
                r.maybe(value)
            }))),
            _ => Arc::new(TimestampMicrosecondArray::from_iter(all.map(|_| {
                let value = r.below(1 << 50) as i64;
                r.maybe(value)
            }))),
        }
    };
    let columns = (0..10).map(&mut column).collect();
    RecordBatch::try_new(wide_schema().arrow_schema(), columns).unwrap()
}

fn decimals(
    values: impl Iterator<Item = Option<i128>>,
    precision: u8,
    scale: i8,
) -> Decimal128Array {
    Decimal128Array::from_iter(values).with_precision_and_scale(precision, scale).unwrap()
}

/// Cuts a batch into batches of uneven sizes.
pub(crate) fn cut(random: &mut Random, batch: &RecordBatch, rows_max: u64) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    let mut start = 0;
    while start < batch.num_rows() {
        let rows = (1 + random.below(rows_max) as usize).min(batch.num_rows() - start);
        batches.push(batch.slice(start, rows));
        start += rows;
    }
    batches
}

pub(crate) fn stream_of(
    schema: &arrow::datatypes::SchemaRef,
    batches: Vec<RecordBatch>,
) -> datafusion::execution::SendableRecordBatchStream {
    let stream = futures::stream::iter(batches.into_iter().map(Ok));
    Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
        Arc::clone(schema),
        stream,
    ))
}

/// A session with in-memory tables and nothing of ours.
pub(crate) fn plain_session(tables: &[(&str, RecordBatch)]) -> SessionContext {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    for (name, rows) in tables {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
        session.register_table(*name, Arc::new(table)).unwrap();
    }
    session
}

/// The rows of a query as text, in order of text.
pub(crate) async fn sorted_rows(session: &SessionContext, query: &str) -> Vec<String> {
    let mut rows = rows(session, query).await;
    rows.sort_unstable();
    rows
}

/// The rows of a query as text, as they come.
pub(crate) async fn rows(session: &SessionContext, query: &str) -> Vec<String> {
    let batches = session.sql(query).await.unwrap().collect().await;
    text_of(&batches.unwrap_or_else(|error| panic!("{query}: {error}")))
}

pub(crate) fn text_of(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> =
                columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(values.join("|"));
        }
    }
    lines
}

pub(crate) async fn plan_of(session: &SessionContext, query: &str) -> Arc<dyn ExecutionPlan> {
    session.sql(query).await.unwrap().create_physical_plan().await.unwrap()
}

pub(crate) fn plan_text(plan: &Arc<dyn ExecutionPlan>) -> String {
    datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string()
}

/// The sum of a counter over all scans of a plan.
pub(crate) fn counter(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
    let own = plan.metrics().map_or(0, |metrics| {
        let counters = metrics.iter().filter_map(|metric| match metric.value() {
            MetricValue::Count { name: found, count } if found == name => Some(count.value()),
            _ => None,
        });
        counters.sum()
    });
    own + plan.children().into_iter().map(|child| counter(child, name)).sum::<usize>()
}
