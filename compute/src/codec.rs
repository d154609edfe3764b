//! Our own plan nodes as bytes, for the way to a node that executes them.
//!
//! DataFusion's nodes encode themselves; what it does not know comes here. Functions travel by name:
//! the node's session has all of [`sql::functions`]. Each plan file encodes and decodes its node;
//! here is only the table that says which. A node that is not listed is refused on both sides, and
//! [`check`] refuses what DataFusion would decode by itself but no plan of ours holds: files as
//! sources or sinks.
//!
//! The bytes live as long as a query and are read by the same build that wrote them; they are no
//! format.

pub(crate) mod table;

mod allowed;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    DefaultPhysicalExtensionCodec, PhysicalExtensionCodec, PhysicalPlanDecodeContext,
    PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::Message;

pub(crate) use allowed::check;

use crate::node::Node;
use crate::object_storage::ObjectStorage;
use crate::plan::delete_rows::{DeleteRowsExec, DeleteRowsProto, RowTargetProto};
use crate::plan::drop_repeated::DropRepeatedExec;
use crate::plan::dropped_probe::KeepReportingExec;
use crate::plan::guard::GuardExec;
use crate::plan::load::{LoadExec, LoadProto};
use crate::plan::on_task::{OnTaskExec, OnTaskProto};
use crate::plan::slice_scan::{SliceScanExec, SliceScanProto};
use crate::plan::slice_write::{SliceWriteExec, SliceWriteProto};
use crate::plan::take_slices::{TakeSlicesExec, TakeSlicesProto};

/// Encodes our plan nodes, and decodes them on a node.
pub struct NodeCodec {
    site: Option<Site>,
}

/// Where decoded plans run.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) node: Arc<Node>,
    pub(crate) objects: Arc<ObjectStorage>,
}

impl NodeCodec {
    /// For a process that only sends plans.
    pub fn for_leader() -> Self {
        Self { site: None }
    }

    /// For a node, where decoded plans read and write.
    pub(crate) fn for_node(site: Site) -> Self {
        Self { site: Some(site) }
    }
}

impl fmt::Debug for NodeCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCodec").finish_non_exhaustive()
    }
}

/// One of our nodes; its inputs travel beside it.
#[derive(Clone, PartialEq, Message)]
struct PlanNode {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Scan(SliceScanProto),
    #[prost(message, tag = "2")]
    Guard(Nothing),
    #[prost(message, tag = "3")]
    KeepReporting(Nothing),
    #[prost(message, tag = "4")]
    OnTask(OnTaskProto),
    #[prost(message, tag = "5")]
    TakeSlices(TakeSlicesProto),
    #[prost(message, tag = "6")]
    Write(SliceWriteProto),
    #[prost(message, tag = "7")]
    Load(LoadProto),
    #[prost(message, tag = "8")]
    DeleteRows(DeleteRowsProto),
    #[prost(message, tag = "9")]
    DropRepeated(RowTargetProto),
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

/// Encodes the expressions of a node.
pub(crate) struct Encoder<'a> {
    converter: &'a dyn PhysicalProtoConverterExtension,
}

impl Encoder<'_> {
    pub(crate) fn exprs<'e>(
        &self,
        exprs: impl IntoIterator<Item = &'e Arc<dyn PhysicalExpr>>,
    ) -> Result<Vec<Vec<u8>>> {
        let codec = DefaultPhysicalExtensionCodec {};
        let encode = |expr: &Arc<dyn PhysicalExpr>| {
            Ok(self.converter.physical_expr_to_proto(expr, &codec)?.encode_to_vec())
        };
        exprs.into_iter().map(encode).collect()
    }
}

/// Decodes the expressions of a node, for the place where it will run.
pub(crate) struct Decoder<'a> {
    converter: &'a dyn PhysicalProtoConverterExtension,
    task: &'a TaskContext,
    pub(crate) site: &'a Site,
}

impl Decoder<'_> {
    pub(crate) fn exprs(
        &self,
        encoded: &[Vec<u8>],
        schema: &SchemaRef,
    ) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let codec = DefaultPhysicalExtensionCodec {};
        let context = PhysicalPlanDecodeContext::new(self.task, &codec);
        let decode = |bytes: &Vec<u8>| {
            let proto = PhysicalExprNode::decode(bytes.as_slice()).map_err(unreadable)?;
            self.converter.proto_to_physical_expr(&proto, schema, &context)
        };
        encoded.iter().map(decode).collect()
    }
}

/// Bytes that are not what they should be.
pub(crate) fn unreadable(error: impl fmt::Display) -> DataFusionError {
    internal_datafusion_err!("a plan cannot be read: {error}")
}

/// A message without a part that it must have.
pub(crate) fn missing(part: &str) -> DataFusionError {
    unreadable(format_args!("{part} is missing"))
}

impl PhysicalExtensionCodec for NodeCodec {
    fn try_encode(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        buffer: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let encoder = Encoder { converter };
        let kind = if let Some(scan) = plan.downcast_ref::<SliceScanExec>() {
            Kind::Scan(scan.to_proto(&encoder)?)
        } else if plan.is::<GuardExec>() {
            Kind::Guard(Nothing {})
        } else if plan.is::<KeepReportingExec>() {
            Kind::KeepReporting(Nothing {})
        } else if let Some(on_task) = plan.downcast_ref::<OnTaskExec>() {
            Kind::OnTask(on_task.to_proto())
        } else if let Some(take) = plan.downcast_ref::<TakeSlicesExec>() {
            Kind::TakeSlices(take.to_proto(&encoder)?)
        } else if let Some(write) = plan.downcast_ref::<SliceWriteExec>() {
            Kind::Write(write.to_proto()?)
        } else if let Some(load) = plan.downcast_ref::<LoadExec>() {
            Kind::Load(load.to_proto()?)
        } else if let Some(delete) = plan.downcast_ref::<DeleteRowsExec>() {
            Kind::DeleteRows(delete.to_proto())
        } else if let Some(drop) = plan.downcast_ref::<DropRepeatedExec>() {
            Kind::DropRepeated(drop.to_proto())
        } else {
            return internal_err!("{} does not run on nodes", plan.name());
        };
        PlanNode { kind: Some(kind) }.encode(buffer).map_err(unreadable)
    }

    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        task: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(site) = &self.site else {
            return internal_err!("plans run on nodes only");
        };
        let decoder = Decoder { converter, task, site };
        let node = PlanNode::decode(bytes).map_err(unreadable)?;
        let input = || match inputs {
            [input] => Ok(Arc::clone(input)),
            _ => Err(missing("the one input of a node")),
        };
        Ok(match node.kind.ok_or_else(|| missing("a plan node"))? {
            Kind::Scan(scan) => Arc::new(SliceScanExec::from_proto(scan, &decoder)?),
            Kind::Guard(_) => Arc::new(GuardExec::new(input()?)),
            Kind::KeepReporting(_) => Arc::new(KeepReportingExec::new(input()?)),
            Kind::OnTask(proto) => Arc::new(OnTaskExec::from_proto(&proto, input()?)),
            Kind::TakeSlices(proto) => {
                Arc::new(TakeSlicesExec::from_proto(&proto, input()?, &decoder)?)
            }
            Kind::Write(proto) => Arc::new(SliceWriteExec::from_proto(proto, input()?, &decoder)?),
            Kind::Load(proto) => Arc::new(LoadExec::from_proto(proto, &decoder)?),
            Kind::DeleteRows(proto) => Arc::new(DeleteRowsExec::from_proto(&proto, input()?)?),
            Kind::DropRepeated(proto) => Arc::new(DropRepeatedExec::from_proto(&proto, input()?)?),
        })
    }
}
