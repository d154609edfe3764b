//! The end of a DELETE in a cluster: each task says which rows its part of the plan has found. Any
//! task may find rows of any node; the leader joins what they say, and has the nodes that own the
//! segments write it down ([`crate::Node::write_deletions`]).

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PlanProperties, execute_stream_partitioned,
};
use prost::Message;
use storage::ids::SegmentId;
use storage::row_set::RowSet;

use crate::codec::table::{SliceProto, TableProto};
use crate::codec::{Decoder, missing, unreadable};
use crate::copies::CopyMatcher;
use crate::node::Node;
use crate::row_ids::{Repeated, RowCollector, SegmentRows, collect_row_ids, take_old_rows};
use crate::table::{Home, TableVersion};

/// Reads row ids to their end and gives the rows of each segment.
#[derive(Debug)]
pub struct DeleteRowsExec {
    target: RowTarget,
    copies: Option<(Home, Arc<TableVersion>)>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

/// Which rows a plan may hit, and how often.
#[derive(Debug, Clone)]
pub struct RowTarget {
    /// The segments of the target.
    pub segments: Arc<SegmentRows>,
    /// What happens to a row that is hit again.
    pub repeated: Repeated,
    /// Set if every node has a copy of the target: the old rows come before their ids, and each node
    /// looks for them in its own.
    pub has_copies: bool,
}

/// [`RowTarget`] as it travels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RowTargetProto {
    #[prost(uint64, repeated, tag = "1")]
    segments: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    rows: Vec<u64>,
    #[prost(enumeration = "RepeatedProto", tag = "3")]
    repeated: i32,
    #[prost(bool, tag = "4")]
    has_copies: bool,
}

/// [`DeleteRowsExec`] as it travels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeleteRowsProto {
    #[prost(message, optional, tag = "1")]
    target: Option<RowTargetProto>,
    /// The table and its copies, if it has any.
    #[prost(message, optional, tag = "2")]
    table: Option<TableProto>,
    #[prost(message, repeated, tag = "3")]
    copies: Vec<SliceProto>,
}

/// [`Repeated`] as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum RepeatedProto {
    FirstCounts = 1,
    Refused = 2,
    Never = 3,
}

impl RowTarget {
    /// A collector for the rows of the target.
    pub fn collector(&self, context: &TaskContext) -> Arc<RowCollector> {
        RowCollector::new(SegmentRows::clone(&self.segments), self.repeated, context.memory_pool())
    }

    pub(crate) fn to_proto(&self) -> RowTargetProto {
        RowTargetProto {
            segments: self.segments.keys().map(|segment| segment.0).collect(),
            rows: self.segments.values().copied().collect(),
            repeated: match self.repeated {
                Repeated::FirstCounts => RepeatedProto::FirstCounts,
                Repeated::Refused => RepeatedProto::Refused,
                Repeated::Never => RepeatedProto::Never,
            }
            .into(),
            has_copies: self.has_copies,
        }
    }

    pub(crate) fn from_proto(proto: &RowTargetProto) -> Result<Self> {
        if proto.segments.len() != proto.rows.len() {
            return Err(unreadable("the segments of a target have no rows"));
        }
        let segments = proto.segments.iter().map(|id| SegmentId(*id));
        let repeated = match RepeatedProto::try_from(proto.repeated).map_err(unreadable)? {
            RepeatedProto::FirstCounts => Repeated::FirstCounts,
            RepeatedProto::Refused => Repeated::Refused,
            RepeatedProto::Never => Repeated::Never,
        };
        let segments = segments.zip(proto.rows.iter().copied()).collect();
        Ok(Self { segments: Arc::new(segments), repeated, has_copies: proto.has_copies })
    }
}

impl DeleteRowsExec {
    /// Collects the row ids of `input`, its only column.
    pub fn new(target: RowTarget, input: Arc<dyn ExecutionPlan>) -> Self {
        Self::with_copies(target, None, input)
    }

    /// Finds the rows of `input`, old rows and their ids, in each node's copy, if there are copies.
    pub fn with_copies(
        target: RowTarget,
        copies: Option<(Home, Arc<TableVersion>)>,
        input: Arc<dyn ExecutionPlan>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(deleted_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { target, copies, input, properties: Arc::new(properties) }
    }

    pub(crate) fn to_proto(&self) -> Result<DeleteRowsProto> {
        let target = Some(self.target.to_proto());
        let Some((_, version)) = &self.copies else {
            return Ok(DeleteRowsProto { target, table: None, copies: Vec::new() });
        };
        let table = Some(TableProto::new(version)?);
        Ok(DeleteRowsProto { target, table, copies: copies_to_proto(version)? })
    }

    pub(crate) fn from_proto(
        proto: DeleteRowsProto,
        input: Arc<dyn ExecutionPlan>,
        decoder: &Decoder<'_>,
    ) -> Result<Self> {
        let target = proto.target.as_ref().ok_or_else(|| missing("the target of a deletion"))?;
        let target = RowTarget::from_proto(target)?;
        let node = &decoder.site.node;
        let copies = match proto.table {
            None => None,
            Some(table) => {
                let mut version = table.into_version(node.layout().slices())?;
                proto.copies.iter().try_for_each(|slice| slice.put_into(&mut version))?;
                Some((Home::Node(Arc::clone(node)), Arc::new(version)))
            }
        };
        let columns = copies.as_ref().map_or(0, |(_, version)| version.schema.columns.len());
        if target.has_copies != copies.is_some() || input.schema().fields().len() != columns + 1 {
            return Err(unreadable("the rows of a deletion do not fit its table"));
        }
        Ok(Self::with_copies(target, copies, input))
    }
}

/// The segments of all copies.
pub(crate) fn copies_to_proto(version: &TableVersion) -> Result<Vec<SliceProto>> {
    (0..version.slices.len()).map(|slice| SliceProto::new(version, slice)).collect()
}

/// Finds rows in the copy of a node, on a thread where it may block.
pub(crate) async fn find_in_copy(
    node: &Arc<Node>,
    version: &Arc<TableVersion>,
    matcher: &Arc<CopyMatcher>,
) -> Result<Vec<(SegmentId, RowSet)>> {
    let (node, version) = (Arc::clone(node), Arc::clone(version));
    let matcher = Arc::clone(matcher);
    let task = SpawnedTask::spawn_blocking(move || matcher.find(&node, &version));
    task.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
}

/// The fields of deleted rows: a segment, and which rows of it.
pub(crate) fn deleted_fields() -> [Field; 2] {
    [Field::new("rows_of", DataType::UInt64, true), Field::new("rows", DataType::Binary, true)]
}

fn deleted_schema() -> SchemaRef {
    Arc::new(Schema::new(deleted_fields().to_vec()))
}

/// The columns of [`deleted_fields`], after `skipped` NULLs.
pub(crate) fn deleted_columns(skipped: usize, sets: &[(SegmentId, RowSet)]) -> [ArrayRef; 2] {
    let none = std::iter::repeat_n(None, skipped);
    let segments = none.chain(sets.iter().map(|(segment, _)| Some(segment.0)));
    let none = std::iter::repeat_n(None, skipped);
    let rows = none.chain(sets.iter().map(|(_, rows)| Some(rows.to_bytes())));
    [Arc::new(UInt64Array::from_iter(segments)), Arc::new(BinaryArray::from_iter(rows))]
}

/// What the tasks have found, joined: the rows of each segment once, in the order of the segments.
pub fn deleted_rows(batches: &[RecordBatch]) -> Result<Vec<(SegmentId, RowSet)>> {
    let mut found = std::collections::BTreeMap::<SegmentId, RowSet>::new();
    for batch in batches {
        let (Some(segments), Some(rows)) =
            (batch.column_by_name("rows_of"), batch.column_by_name("rows"))
        else {
            return internal_err!("a deletion returned {}", batch.schema());
        };
        let segments = segments.as_primitive::<UInt64Type>();
        for (segment, rows) in segments.iter().zip(rows.as_binary::<i32>()) {
            let Some(segment) = segment else { continue };
            let rows = rows.ok_or_else(|| missing("the rows of a segment"))?;
            let rows = RowSet::from_bytes(rows).map_err(unreadable)?;
            let segment = SegmentId(segment);
            let joined = match found.get(&segment) {
                Some(known) if known.segment_rows() != rows.segment_rows() => {
                    return internal_err!("segment {} has two numbers of rows", segment.0);
                }
                Some(known) => known.union(&rows),
                None => rows,
            };
            found.insert(segment, joined);
        }
    }
    Ok(found.into_iter().collect())
}

impl DisplayAs for DeleteRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeleteRowsExec")
    }
}

impl ExecutionPlan for DeleteRowsExec {
    fn name(&self) -> &'static str {
        "DeleteRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (target, copies) = (self.target.clone(), self.copies.clone());
        Ok(Arc::new(Self::with_copies(target, copies, children.swap_remove(0))))
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
            return internal_err!("a deletion has no partition {partition}");
        }
        let collector = self.target.collector(&context);
        let input = Arc::clone(&self.input);
        let copies = match &self.copies {
            Some((home, version)) => {
                let matcher = CopyMatcher::new(version, context.memory_pool())?;
                Some((Arc::clone(home.node()?), Arc::clone(version), Arc::new(matcher)))
            }
            None => None,
        };
        let result = futures::stream::once(async move {
            let mut streams = execute_stream_partitioned(input, context)?;
            if let Some((_, version, matcher)) = &copies {
                let columns = version.schema.columns.len();
                let take = |stream| take_old_rows(stream, columns, Arc::clone(matcher));
                streams = streams.into_iter().map(take).collect::<Result<_>>()?;
            }
            collect_row_ids(streams, &collector).await?;
            let found = match copies {
                Some((node, version, matcher)) => find_in_copy(&node, &version, &matcher).await?,
                None => collector.finish(),
            };
            let columns = deleted_columns(0, &found).to_vec();
            Ok(RecordBatch::try_new(deleted_schema(), columns)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(deleted_schema(), result)))
    }
}
