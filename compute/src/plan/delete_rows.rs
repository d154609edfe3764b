//! The end of a DELETE in a cluster: each task says which rows its part of the plan has found. Any
//! task may find rows of any node; the leader joins what they say, and has the nodes that own the
//! segments write it down ([`crate::Node::write_deletions`]).

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
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

use crate::codec::{missing, unreadable};
use crate::row_ids::{Repeated, RowCollector, SegmentRows, collect_row_ids};

/// Reads row ids to their end and gives the rows of each segment.
#[derive(Debug)]
pub struct DeleteRowsExec {
    target: RowTarget,
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
}

/// [`DeleteRowsExec`] as it travels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeleteRowsProto {
    #[prost(message, optional, tag = "1")]
    target: Option<RowTargetProto>,
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
        Ok(Self { segments: Arc::new(segments), repeated })
    }
}

impl DeleteRowsExec {
    /// Collects the row ids of `input`, its only column.
    pub fn new(target: RowTarget, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(deleted_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { target, input, properties: Arc::new(properties) }
    }

    pub(crate) fn to_proto(&self) -> DeleteRowsProto {
        DeleteRowsProto { target: Some(self.target.to_proto()) }
    }

    pub(crate) fn from_proto(
        proto: &DeleteRowsProto,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Self> {
        let target = proto.target.as_ref().ok_or_else(|| missing("the target of a deletion"))?;
        if input.schema().fields().len() != 1 {
            return Err(unreadable("the rows of a deletion are not row ids"));
        }
        Ok(Self::new(RowTarget::from_proto(target)?, input))
    }
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
        Ok(Arc::new(Self::new(self.target.clone(), children.swap_remove(0))))
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
        let result = futures::stream::once(async move {
            let streams = execute_stream_partitioned(input, context)?;
            collect_row_ids(streams, &collector).await?;
            let columns = deleted_columns(0, &collector.finish()).to_vec();
            Ok(RecordBatch::try_new(deleted_schema(), columns)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(deleted_schema(), result)))
    }
}
