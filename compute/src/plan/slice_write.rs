//! The end of a write in each task: the rows that came to the task become segments of its slices,
//! and the segments' descriptions are what the plan returns, with the node that has written them: a
//! task runs on another node than its own while that is away. The leader has the segments copied
//! and commits them.
//!
//! Segments of a table that is on every node are those of the first slice, whichever task makes
//! them.
//!
//! The leader gave each task of the write a range of segment ids; task `t` takes from
//! `first_segment + t * SEGMENTS_PER_TASK` on. A write that fails anywhere is undone by the range
//! ([`crate::Node::abandon_segments`]), whatever its tasks had written by then.
//!
//! Of an UPDATE the rows come with the ids of those that they replace, in the last column; which
//! these are is returned too, as [`super::delete_rows`] does it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execute_stream_partitioned;
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution as Requirement,
    ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion_distributed::DistributedTaskContext;
use prost::Message;
use storage::ids::{SegmentId, SliceId};
use storage::row_set::RowSet;
use storage::statistics::SegmentInfo;

use super::delete_rows::{RowTarget, RowTargetProto, deleted_columns, deleted_fields};
use crate::codec::table::{TableProto, number};
use crate::codec::{Decoder, missing, unreadable};
use crate::row_ids::take_row_ids;
use crate::table::{Distribution, Home, TableVersion};
use crate::write::{WriteOutcome, WriteTarget, write_streams};

/// Segments that one task of a write may make. Ids are never given again, and 2^44 of them have a
/// place in a row id: enough for 2^28 tasks.
pub const SEGMENTS_PER_TASK: u64 = 1 << 16;

/// Writes its input to the slices of the task that executes it.
#[derive(Debug)]
pub struct SliceWriteExec {
    version: Arc<TableVersion>,
    home: Home,
    first_segment: u64,
    /// Set if the rows replace others.
    replaces: Option<RowTarget>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

/// [`SliceWriteExec`] as it travels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SliceWriteProto {
    #[prost(message, optional, tag = "1")]
    table: Option<TableProto>,
    #[prost(uint64, tag = "2")]
    first_segment: u64,
    #[prost(message, optional, tag = "3")]
    replaces: Option<RowTargetProto>,
}

/// The segment ids that a write with that first id and that many tasks may use.
pub fn segment_range(first_segment: u64, tasks: usize) -> Range<u64> {
    first_segment..first_segment + tasks as u64 * SEGMENTS_PER_TASK
}

impl SliceWriteExec {
    /// Writes `input`, which has the table's columns, with ids from `first_segment` on.
    pub fn new(
        version: Arc<TableVersion>,
        home: Home,
        first_segment: u64,
        input: Arc<dyn ExecutionPlan>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(result_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let properties = Arc::new(properties);
        Self { version, home, first_segment, replaces: None, input, properties }
    }

    /// The same write of rows that replace others, whose ids are the last column of the input.
    #[must_use]
    pub fn replacing(mut self, replaces: Option<RowTarget>) -> Self {
        self.replaces = replaces;
        self
    }

    pub(crate) fn to_proto(&self) -> Result<SliceWriteProto> {
        let table = Some(TableProto::new(&self.version)?);
        let replaces = self.replaces.as_ref().map(RowTarget::to_proto);
        Ok(SliceWriteProto { table, first_segment: self.first_segment, replaces })
    }

    pub(crate) fn from_proto(
        proto: SliceWriteProto,
        input: Arc<dyn ExecutionPlan>,
        decoder: &Decoder<'_>,
    ) -> Result<Self> {
        let node = &decoder.site.node;
        let table = proto.table.ok_or_else(|| missing("the table of a write"))?;
        let version = table.into_version(node.layout().slices())?;
        let replaces = proto.replaces.as_ref().map(RowTarget::from_proto).transpose()?;
        let columns = version.schema.columns.len() + usize::from(replaces.is_some());
        if columns != input.schema().fields().len() {
            return Err(unreadable("the rows of a write do not fit its table"));
        }
        let home = Home::Node(Arc::clone(node));
        let write = Self::new(Arc::new(version), home, proto.first_segment, input);
        Ok(write.replacing(replaces))
    }

    /// The slices and ids of one task, each id given out once.
    fn target(&self, task: usize) -> WriteTarget {
        let ids = segment_range(self.first_segment, task + 1);
        let next = AtomicU64::new(ids.end - SEGMENTS_PER_TASK);
        let node = match self.version.distribution {
            Distribution::All => 0,
            Distribution::Even | Distribution::Key(_) => task,
        };
        WriteTarget {
            version: Arc::clone(&self.version),
            slices: self.home.layout().slices_of(node),
            new_segment_id: Arc::new(move || SegmentId(next.fetch_add(1, Ordering::Relaxed))),
        }
    }
}

fn result_schema() -> SchemaRef {
    let [rows_of, rows] = deleted_fields();
    Arc::new(Schema::new(vec![
        Field::new("slice", DataType::UInt32, true),
        Field::new("segment", DataType::Binary, true),
        Field::new("node", DataType::UInt32, true),
        rows_of,
        rows,
    ]))
}

/// A segment that a task of a write has made.
#[derive(Debug, Clone)]
pub struct WrittenSegment {
    /// The slice that it belongs to.
    pub slice: SliceId,
    /// What the catalog keeps of it.
    pub info: SegmentInfo,
    /// The node that has its file.
    pub node: usize,
}

fn to_batch(
    segments: &[(SliceId, SegmentInfo)],
    node: usize,
    deleted: &[(SegmentId, RowSet)],
) -> Result<RecordBatch> {
    let node = number(node)?;
    let none = std::iter::repeat_n(None, deleted.len());
    let slices = segments.iter().map(|(slice, _)| Some(slice.0)).chain(none);
    let none = std::iter::repeat_n(None, deleted.len());
    let infos = segments.iter().map(|(_, info)| Some(info.to_bytes())).chain(none);
    let none = std::iter::repeat_n(None, deleted.len());
    let nodes = segments.iter().map(|_| Some(node)).chain(none);
    let [rows_of, rows] = deleted_columns(segments.len(), deleted);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter(slices)),
        Arc::new(BinaryArray::from_iter(infos)),
        Arc::new(UInt32Array::from_iter(nodes)),
        rows_of,
        rows,
    ];
    Ok(RecordBatch::try_new(result_schema(), columns)?)
}

/// What the tasks of a write have returned.
pub fn written_segments(batches: &[RecordBatch]) -> Result<Vec<WrittenSegment>> {
    let mut segments = Vec::new();
    for batch in batches {
        if batch.schema().fields() != result_schema().fields() {
            return internal_err!("a write returned {}", batch.schema());
        }
        let slices = batch.column(0).as_primitive::<UInt32Type>();
        let infos = batch.column(1).as_binary::<i32>();
        let nodes = batch.column(2).as_primitive::<UInt32Type>();
        for ((slice, info), node) in slices.iter().zip(infos.iter()).zip(nodes.iter()) {
            let Some(slice) = slice else { continue };
            let info = info.ok_or_else(|| missing("the description of a segment"))?;
            let info = SegmentInfo::from_bytes(info).map_err(unreadable)?;
            let node = node.ok_or_else(|| missing("the node of a segment"))? as usize;
            segments.push(WrittenSegment { slice: SliceId(slice), info, node });
        }
    }
    Ok(segments)
}

impl DisplayAs for SliceWriteExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "SliceWriteExec: table={}", self.version.name)
            }
            DisplayFormatType::TreeRender => writeln!(f, "table={}", self.version.name),
        }
    }
}

impl ExecutionPlan for SliceWriteExec {
    fn name(&self) -> &'static str {
        "SliceWriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Requirement> {
        vec![Requirement::UnspecifiedDistribution]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let write = Self::new(
            Arc::clone(&self.version),
            self.home.clone(),
            self.first_segment,
            children.swap_remove(0),
        );
        Ok(Arc::new(write.replacing(self.replaces.clone())))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a write has no partition {partition}");
        }
        let node = Arc::clone(self.home.node()?);
        let task = DistributedTaskContext::from_ctx(&context).task_index;
        if task >= node.layout().nodes() {
            return internal_err!("a write has no task {task}");
        }
        let target = self.target(task);
        let input = Arc::clone(&self.input);
        let collector = self.replaces.as_ref().map(|target| target.collector(&context));
        let result = futures::stream::once(async move {
            let mut streams = execute_stream_partitioned(input, Arc::clone(&context))?;
            if let Some(collector) = &collector {
                let take = |stream| take_row_ids(stream, Arc::clone(collector));
                streams = streams.into_iter().map(take).collect::<Result<_>>()?;
            }
            let WriteOutcome { segments, .. } =
                write_streams(&node, target, streams, context).await?;
            let deleted = collector.map(|collector| collector.finish()).unwrap_or_default();
            to_batch(&segments, node.id(), &deleted)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(result_schema(), result)))
    }
}
